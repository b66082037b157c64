"""Few-shot recognition of handwritten characters: Omniglot (Lake et al. 2015, Science 350:1332)."""

from __future__ import annotations

from typing import Literal

from innerloop.core import TaskFamily
from innerloop.data.class_images import ClassImages
from innerloop.data.class_splits import seeded_order
from innerloop.data.omniglot_archive import Omniglot, load_omniglot
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.few_shot import few_shot_family
from innerloop.tasks.precision import DtypeName, dtype_named

TRAINING_CHARACTERS = 1200  # of the random split; 423 of the 1,623 remain for the test


def alphabet_splits(omniglot: Omniglot, valid_alphabets: int, seed: int) -> dict[str, list[int]]:
    """Class numbers: test is the evaluation set, valid some whole alphabets of the background set."""
    images, start = omniglot
    alphabets = sorted(set(images.groups[:start]))
    if not 1 <= valid_alphabets < len(alphabets):
        raise InputError(
            f"omniglot: valid_alphabets expected 1 to {len(alphabets) - 1}, got {valid_alphabets}; "
            "choose one in that range"
        )
    held_out = set(seeded_order(alphabets, seed)[:valid_alphabets])
    valid = [number for number in range(start) if images.groups[number] in held_out]
    return {
        "train": sorted(set(range(start)) - set(valid)),
        "valid": valid,
        "test": list(range(start, images.num_classes)),
    }


def random_splits(images: ClassImages, train: int, valid: int, seed: int) -> dict[str, list[int]]:
    """Class numbers: ``train`` at random, the last ``valid`` of them for validation; the rest: test."""
    if not 1 <= valid < train:
        raise InputError(f"omniglot: valid_characters expected 1 to {train - 1}, got {valid}; choose one in that range")
    number_of = {name: number for number, name in enumerate(images.names)}
    order = [number_of[name] for name in seeded_order(images.names, seed)]
    return {
        "train": sorted(order[: train - valid]),
        "valid": sorted(order[train - valid : train]),
        "test": sorted(order[train:]),
    }


def omniglot(
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    split: Literal["background", "random"] = "background",
    split_seed: int = 0,
    valid_alphabets: int = 5,
    valid_characters: int = 100,
    rotations: bool = True,
    rotate_test: bool = False,
    within_alphabet: bool = False,
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
            ones of them are held out for validation), test on the 20 others. "random": 1,200 characters at
            random (100 of them for validation, as in MAML's code) and the other 423.
        split_seed: of what is held out, or of the random split.
        valid_alphabets: whole alphabets held out for validation in the background split.
        valid_characters: characters held out for validation in the random split.
        rotations: training characters turned by 90, 180 and 270 degrees are classes of their own (Santoro et
            al. 2016, arXiv:1605.06065).
        rotate_test: those of validation and test too, as in Prototypical Networks (arXiv:1703.05175); Reptile
            (arXiv:1803.02999) turns training characters only. Never compare numbers of the one and the other.
        within_alphabet: all classes of a task come from one alphabet: much harder.
        shuffled: examples in random order instead of class by class.
        size: height and width in pixels.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (1, size, size), 1 is ink and 0 the paper.

    Raises:
        InputError: absent or damaged archives, more ways than classes, more examples than the 20 drawings.
        ConfigError: an unknown split.
    """
    if split not in ("background", "random"):
        raise ConfigError(f"omniglot: split expected 'background' or 'random', got {split!r}; choose one")
    loaded = load_omniglot(size)
    images = loaded.images
    if split == "background":
        splits = alphabet_splits(loaded, valid_alphabets, split_seed)
    else:
        splits = random_splits(images, TRAINING_CHARACTERS, valid_characters, split_seed)
    options = {
        "ways": ways,
        "shots": shots,
        "queries": queries,
        "train_ways": train_ways,
        "train_shots": train_shots,
        "train_queries": train_queries,
        "split": split,
        "split_seed": split_seed,
        "valid_alphabets": valid_alphabets,
        "valid_characters": valid_characters,
        "rotations": rotations,
        "rotate_test": rotate_test,
        "within_alphabet": within_alphabet,
        "shuffled": shuffled,
        "size": size,
        "dtype": dtype,
    }
    return few_shot_family(
        "omniglot",
        images,
        splits,
        ways=ways,
        shots=shots,
        queries=queries,
        train_ways=train_ways,
        train_shots=train_shots,
        train_queries=train_queries,
        rotations=rotations,
        rotate_test=rotate_test,
        within_group=within_alphabet,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        options=options,
    )
