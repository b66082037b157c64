"""Few-shot recognition of handwritten characters: Omniglot (Lake et al. 2015, Science 350:1332)."""

from __future__ import annotations

from typing import Literal

from innerloop.core import TaskFamily
from innerloop.data.omniglot_archive import load_omniglot
from innerloop.tasks.few_shot import few_shot_family
from innerloop.tasks.omniglot_splits import Split, omniglot_splits
from innerloop.tasks.precision import DtypeName, dtype_named


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
    loaded = load_omniglot(size)
    splits = omniglot_splits(
        loaded, split, valid_alphabets=valid_alphabets, valid_characters=valid_characters, seed=split_seed
    )
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
        "changes": changes,
        "shuffled": shuffled,
        "size": size,
        "dtype": dtype,
    }
    return few_shot_family(
        "omniglot",
        loaded.images,
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
        changes=changes,
        dtype=dtype_named(dtype),
        options=options,
    )
