"""Few-shot recognition of handwritten characters: Omniglot (Lake et al. 2015, Science 350:1332)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from innerloop.core import TaskFamily
from innerloop.data.class_images import ClassImages, seeded_order
from innerloop.data.omniglot_archive import Omniglot, load_omniglot
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.pictures.few_shot import few_shot_family
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes

Split = Literal["background", "minimal1", "minimal2", "random", "vinyals"]

TRAINING_CHARACTERS = 1200  # of the random split; 423 of the 1,623 remain for the test
# The two small background sets of Lake et al. 2015, as brendenlake/omniglot names and cuts them.
MINIMAL: dict[str, tuple[str, ...]] = {
    "minimal1": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "minimal2": ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"),
}
# The lists that came with Prototypical Networks (jakesnell/prototypical-networks, data/omniglot/splits/vinyals), told by
# whole alphabets; the last four characters of one more are in the test.
_VINYALS_VALID = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
_VINYALS_TEST = (
    "Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya", "Sylheti",
    "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
)  # fmt: skip
_VINYALS_CUT, _VINYALS_CUT_AT = "Gurmukhi", 41


def omniglot_splits(
    omniglot: Omniglot, split: Split, *, valid_alphabets: int, valid_characters: int, seed: int
) -> dict[str, list[int]]:
    """Class numbers of "train", "valid" and "test"; see `omniglot`.

    Raises:
        ConfigError: an unknown split.
        InputError: more held out for validation than there is, or pictures that lack an alphabet of the split.
    """
    if split not in get_args(Split):
        known = ", ".join(map(repr, get_args(Split)))
        raise ConfigError(f"omniglot: split expected one of {known}, got {split!r}; choose one")
    if split == "random":
        return _random(omniglot.images, TRAINING_CHARACTERS, valid_characters, seed)
    if split == "vinyals":
        return _vinyals(omniglot.images, valid_alphabets)
    return _background(omniglot, MINIMAL.get(split), valid_alphabets, seed)


def _background(
    omniglot: Omniglot, minimal: tuple[str, ...] | None, valid_alphabets: int, seed: int
) -> dict[str, list[int]]:
    """The official split; of a minimal set, validation comes from the alphabets that are not in it."""
    images, start = omniglot
    alphabets = sorted(set(images.groups[:start]))
    _expect_alphabets(images, minimal or ())
    spare = [name for name in alphabets if minimal is None or name not in minimal]
    most = len(spare) - (minimal is None)
    if not 0 <= valid_alphabets <= most:
        raise InputError(
            f"omniglot: valid_alphabets expected 0 to {most}, got {valid_alphabets}; choose one in that range"
        )
    held_out = set(seeded_order(spare, seed)[:valid_alphabets])
    wanted = set(alphabets) - held_out if minimal is None else set(minimal)
    background = range(start)
    return {
        "train": [number for number in background if images.groups[number] in wanted],
        "valid": [number for number in background if images.groups[number] in held_out],
        "test": list(range(start, images.num_classes)),
    }


def _random(images: ClassImages, train: int, valid: int, seed: int) -> dict[str, list[int]]:
    """``train`` at random, the last ``valid`` of them for validation; the rest: test."""
    if not 1 <= valid < train:
        raise InputError(f"omniglot: valid_characters expected 1 to {train - 1}, got {valid}; choose one in that range")
    number_of = {name: number for number, name in enumerate(images.names)}
    order = [number_of[name] for name in seeded_order(images.names, seed)]
    return {
        "train": sorted(order[: train - valid]),
        "valid": sorted(order[train - valid : train]),
        "test": sorted(order[train:]),
    }


def _vinyals(images: ClassImages, valid_alphabets: int) -> dict[str, list[int]]:
    """1,028, 172 and 423 characters; without validation 1,200 and 423."""
    _expect_alphabets(images, (*_VINYALS_VALID, *_VINYALS_TEST, _VINYALS_CUT))
    if valid_alphabets not in (0, len(_VINYALS_VALID)):
        raise InputError(
            f"omniglot: valid_alphabets of the split 'vinyals' expected {len(_VINYALS_VALID)}, those it names, or 0, got "
            f"{valid_alphabets}; choose one of these"
        )
    cut = [number for number in range(images.num_classes) if images.groups[number] == _VINYALS_CUT]
    last = set(sorted(cut, key=lambda number: images.names[number])[_VINYALS_CUT_AT:])
    found: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for number, alphabet in enumerate(images.groups):
        if number in last or alphabet in _VINYALS_TEST:
            found["test"].append(number)
        else:
            found["valid" if alphabet in _VINYALS_VALID and valid_alphabets else "train"].append(number)
    return found


def _expect_alphabets(images: ClassImages, names: Iterable[str]) -> None:
    lacking = sorted(set(names) - set(images.groups))
    if lacking:
        raise InputError(
            f"omniglot: the split expected the alphabet {lacking[0]}, got pictures without it; fetch them again with: "
            "innerloop data fetch omniglot"
        )


def omniglot(
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    split: Split = "background",
    split_seed: int = 0,
    valid_alphabets: int = 5,
    valid_characters: int = 100,
    rotations: bool = True,
    rotate_test: bool = False,
    within_alphabet: bool = False,
    changes: Literal["none", "drawings"] = "none",
    shuffled: bool = False,
    size: int = 28,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Handwritten characters of 50 alphabets, 20 drawings each, read from INNERLOOP_DATA/omniglot.

    Args:
        ways, shots, queries: classes of a task; support and query drawings of each class. MAML's paper uses
            as many queries as shots, Reptile's tests with one, Prototypical Networks' train with 5; 15 is the
            usual test.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        split: "background": the official one: train on the 30 background alphabets (``valid_alphabets`` whole
            ones of them are held out for validation), test on the 20 others. "minimal1", "minimal2": the same
            with only five alphabets to train on (Lake et al. 2015), validated on others of the 30. "random":
            1,200 characters at random (100 of them for validation, as in MAML's code) and the other 423.
            "vinyals": the lists of Prototypical Networks' code, 1,028 characters, 172 and 423, nearly all by
            whole alphabets.
        split_seed: of what is held out, or of the random split.
        valid_alphabets: whole alphabets held out for validation, in all splits but the random one; 0: none, for
            training on all there is with validate_every=0.
        valid_characters: characters held out for validation in the random split.
        rotations: training characters turned by 90, 180 and 270 degrees are classes of their own (Santoro et
            al. 2016, arXiv:1605.06065).
        rotate_test: those of validation and test too, as in Prototypical Networks (arXiv:1703.05175); Reptile
            (arXiv:1803.02999) turns training characters only. Never compare numbers of the one and the other.
        within_alphabet: all classes of a task come from one alphabet: much harder.
        changes: of training drawings: "none", or "drawings": each is shifted, turned and resized a little
            whenever it is drawn.
        shuffled: examples in random order instead of class by class.
        size: height and width in pixels.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (1, size, size), 1 is ink and 0 the paper.

    Raises:
        InputError: absent or damaged archives, more ways than classes, more examples than the 20 drawings.
        ConfigError: an unknown split.
    """
    options = dict(locals())
    loaded = load_omniglot(size)
    splits = omniglot_splits(
        loaded, split, valid_alphabets=valid_alphabets, valid_characters=valid_characters, seed=split_seed
    )
    return few_shot_family(
        "omniglot",
        loaded.images,
        splits,
        Sizes(ways, shots, queries, train_ways, train_shots, train_queries),
        rotations=rotations,
        rotate_test=rotate_test,
        within_group=within_alphabet,
        shuffled=shuffled,
        changes=changes,
        dtype=dtype_named(dtype),
        options=options,
    )
