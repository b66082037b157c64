"""Few-shot recognition of characters of any alphabet, drawn or printed, whatever the pen: Omniglot and the glyphs together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.core import TaskFamily
from innerloop.data.class_images import ClassImages
from innerloop.data.glyph_fonts import SPLITS, TEST, TRAIN, VALID
from innerloop.data.glyph_images import glyph_images
from innerloop.data.support_files import preprocessing_of
from innerloop.tasks.pictures import omniglot as drawn
from innerloop.tasks.pictures.few_shot import few_shot_family
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes

_LEFT_OUT = ("digits",)  # so that handwritten digits (MNIST) stay a test on classes that nobody was trained on


def characters(
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    valid_alphabets: int = 5,
    split_seed: int = 0,
    shuffled: bool = False,
    size: int = 28,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Omniglot's handwritten characters and the `glyphs` problem's printed ones, each drawn again with a pen of its own.

    Training: Omniglot's background alphabets, turned by quarters too, and the training scripts of the glyphs but for the digits;
    slant, size, place, thickness, edges, ink and grain are drawn anew each time (`innerloop.tasks.pictures.pens`). Validation and
    test: other alphabets and scripts (the official ones for the test), with a brush that is in no training task, so that a
    learner is chosen by what it makes of pens it has not seen. A script may be printed in one split and handwritten in another
    (Greek, Armenian): such characters are new only as drawings. Files of one's own are read with whatever stands out from the
    paper as ink.

    Args:
        ways, shots, queries: classes of a task; support and query drawings of each class.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        valid_alphabets: of Omniglot's 30 background alphabets held out for validation.
        split_seed: of which these are.
        shuffled: examples in random order instead of class by class.
        size: height and width in pixels, 12 to 105.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (1, size, size), 1 is ink and 0 the paper.

    Raises:
        InputError: Omniglot's archives absent or damaged, more ways than classes, more examples than the 20 drawings.
        ConfigError: a size out of range or an unknown dtype.
    """
    options = dict(locals())
    loaded, printed = drawn.load_omniglot(size), glyph_images(size)
    of_hand = drawn.omniglot_splits(
        loaded, "background", valid_alphabets=valid_alphabets, valid_characters=0, seed=split_seed
    )
    images, splits = _together(loaded.images, of_hand, printed)
    return few_shot_family(
        "characters",
        images,
        splits,
        Sizes(ways, shots, queries, train_ways, train_shots, train_queries),
        shuffled=shuffled,
        changes="pens",
        test_changes="brush",
        preprocessing=preprocessing_of(None),
        dtype=dtype_named(dtype),
        options=options,
    )


def _together(
    hand: ClassImages, splits: dict[str, list[int]], printed: ClassImages
) -> tuple[ClassImages, dict[str, Sequence[int]]]:
    """All classes and who is in which split; Omniglot's training characters four times, turned by quarters.

    The printed are not turned: many signs turn into one another.
    """
    train = splits["train"]
    parts: list[Tensor] = [hand.images]
    names, groups = list(hand.names), list(hand.groups)
    for turn in (1, 2, 3):
        parts.append(torch.rot90(hand.images[torch.tensor(train)], turn, (-2, -1)))
        names += [f"{hand.names[number]} turned {90 * turn}°" for number in train]
        groups += [hand.groups[number] for number in train]
    start = len(names)
    found: dict[str, Sequence[int]] = {}
    for split, of in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        scripts = [script for script, its in SPLITS.items() if its == of and script not in _LEFT_OUT]
        found[split] = [*splits[split], *(start + number for number in printed.in_groups(scripts))]
    found["train"] = [*found["train"], *range(len(hand.names), start)]
    images = ClassImages(torch.cat([*parts, printed.images]), (*names, *printed.names), (*groups, *printed.groups))
    return images, found
