"""Streams of classes, one after another, from pictures by class: learn each from a few examples, and forget none."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.class_images import ClassImages
from innerloop.data.glyph_fonts import SPLITS, TEST, TRAIN, VALID
from innerloop.data.glyph_images import glyph_images
from innerloop.data.omniglot_archive import load_omniglot
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.tasks.pictures.few_shot import draw_without_replacement
from innerloop.tasks.pictures.omniglot import omniglot_splits
from innerloop.tasks.precision import DtypeName, dtype_named

_CLASSES, _DRAWINGS, _REMEMBERED, _NOISE = range(1, 5)


class ClassStreams(TaskDistribution):
    """One split of a problem of class streams.

    A training task is a short stream, ``learn`` pictures of ONE class, and has ``remember`` pictures of any classes beside them
    in its query side; labels are numbers of the split's classes. A held-out task is a long stream, ``learn`` pictures of each
    of ``classes`` classes, class after class; its query side has ``judged`` others of each, and labels are numbered in the order
    in which classes come.

    Args:
        images: all classes.
        numbers: of this split's classes.
        name, split: what and which ("train", "valid", "test").
        learn: pictures to learn of each class.
        judged: others of each class that a held-out stream is judged on.
        remember: pictures of any class beside a training stream.
        classes: of a held-out stream.
        dtype: of the pictures; None: torch's default.

    Raises:
        InputError: more classes than the split has, or more pictures than a class has.
    """

    objective = "cross_entropy"
    metrics: tuple[str, ...] = ("accuracy",)
    images: ClassImages
    numbers: Tensor
    name: str
    split: str
    dtype: torch.dtype | None
    learn: int
    judged: int
    remember: int
    classes: int

    def __init__(
        self,
        images: ClassImages,
        numbers: Sequence[int],
        *,
        name: str,
        split: str,
        learn: int,
        judged: int,
        remember: int,
        classes: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.images, self.numbers = images, torch.tensor(list(numbers), dtype=torch.int64)
        self.name, self.split, self.dtype = name, split, dtype
        self.learn, self.judged, self.remember, self.classes = learn, judged, remember, classes
        self.training: bool = split == "train"
        self.valid: ClassStreams | None = None  # where what is chosen for these streams is judged
        self.num_classes: int = len(self.numbers)  # type: ignore[assignment]
        self.input_shape: tuple[int, ...] = images.example_shape
        counts = torch.tensor(images.sizes, dtype=torch.int64)
        self._starts, self._counts = counts.cumsum(0) - counts, counts
        self._check()

    def _check(self) -> None:
        self.output_size: int = self.num_classes if self.training else self.classes
        where = f"{self.name} ({self.split})"
        if not self.training and not 1 <= self.classes <= self.num_classes:
            raise InputError(
                f"{where}: classes expected 1 to {self.num_classes}, those of this split, got {self.classes}; choose fewer"
            )
        fewest = int(self._counts[self.numbers].min()) if self.num_classes else 0
        wanted = self.learn if self.training else self.learn + self.judged
        if wanted > fewest:
            raise InputError(
                f"{where}: expected at most {fewest} pictures of each class, the fewest that one has, got {wanted}; learn from "
                "fewer, or judge on fewer"
            )

    def with_classes(self, classes: int) -> ClassStreams:
        """The same split with held-out streams of so many classes."""
        new = copy.copy(self)
        new.classes = classes
        new._check()
        return new

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The streams of these keys; x (tasks, pictures, channels, height, width) in [0, 1], y (tasks, pictures)."""
        return self._short(keys) if self.training else self._long(keys)

    def _short(self, keys: Tensor) -> Task:
        which = random_keys.integers(keys, self.num_classes, (), _CLASSES)  # (tasks,)
        drawings = self._drawn(keys, self.numbers[which], self.learn)
        others = random_keys.integers(keys, self.num_classes, (self.remember,), _REMEMBERED)
        numbers = self.numbers[others]
        share = random_keys.uniform(random_keys.fold(keys, _REMEMBERED), (self.remember,), 0, torch.float64)
        remembered = (share * self._counts[numbers]).long()
        x = self._pictures(self._starts[self.numbers[which]][:, None] + drawings)
        kept = self._pictures(self._starts[numbers] + remembered)
        y = which[:, None].expand(-1, self.learn)
        every = torch.arange(self.num_classes).expand(len(keys), -1)
        return self._task(keys, Examples(x, y), Examples(torch.cat([x, kept], 1), torch.cat([y, others], 1)), every)

    def _long(self, keys: Tensor) -> Task:
        which = draw_without_replacement(keys, self.num_classes, self.classes, _CLASSES)  # (tasks, classes)
        numbers = self.numbers[which]
        each = random_keys.fold(keys[:, None], torch.arange(self.classes))
        rows = self._starts[numbers][..., None] + self._drawn(each, numbers, self.learn + self.judged)
        labels = torch.arange(self.classes).expand(len(keys), -1)[..., None].expand_as(rows)
        sides = []
        for part in (slice(None, self.learn), slice(self.learn, None)):
            sides.append(Examples(self._pictures(rows[..., part].flatten(1)), labels[..., part].flatten(1)))
        return self._task(keys, sides[0], sides[1], which)

    def _task(self, keys: Tensor, support: Examples, query: Examples, classes: Tensor) -> Task:
        noise = random_keys.fold(keys, _NOISE)
        return Task(support, query, self.objective, class_ids=classes, num_classes=self.num_classes, noise=noise)

    def _drawn(self, keys: Tensor, numbers: Tensor, count: int) -> Int64[Tensor, "*keys count"]:
        """So many distinct pictures of each class."""
        most = int(self._counts[self.numbers].max())
        return draw_without_replacement(keys, most, count, _DRAWINGS, self._counts[numbers])

    def _pictures(self, rows: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape channels height width"]:
        chosen = self.images.rows(rows.device).index_select(0, rows.reshape(-1))
        return chosen.to(self.dtype or torch.get_default_dtype()).div_(255).reshape(*rows.shape, *self.input_shape)

    def class_name(self, class_id: int) -> str:
        """The name of a class of this split, by the number that `Task.class_ids` gives."""
        return self.images.names[int(self.numbers[class_id])]

    def default_model(self) -> nn.Module:
        """Four convolutions of 64 channels, three with stride 2, without norm layers, a ReLU at the end or a last layer."""
        from innerloop import models

        return models.conv4(self.input_shape, None, norm="none", spatial="flatten", halvings=3, last_relu=False)


def _family(
    name: str,
    images: ClassImages,
    splits: Mapping[str, Sequence[int]],
    *,
    learn: int,
    judged: int,
    train_learn: int,
    remember: int,
    classes: int,
    dtype: DtypeName | None,
    options: Mapping[str, Any],
) -> TaskFamily:
    for what, value in (("learn", learn), ("judged", judged), ("train_learn", train_learn), ("classes", classes)):
        expect_whole(what, value)
    expect_whole("remember", remember, 0)
    made: dict[str, ClassStreams] = {}
    for split, numbers in splits.items():
        longest = len(numbers) if split == "valid" else classes
        made[split] = ClassStreams(
            images,
            numbers,
            name=name,
            split=split,
            learn=train_learn if split == "train" else learn,
            judged=judged,
            remember=remember,
            classes=min(classes, longest),
            dtype=dtype_named(dtype),
        )
    made["test"].valid = made["valid"]
    return TaskFamily(name, made["train"], made["valid"], made["test"], dict(options))


def omniglot_stream(
    *,
    learn: int = 15,
    judged: int = 5,
    train_learn: int = 20,
    remember: int = 64,
    classes: int = 50,
    valid_alphabets: int = 5,
    split_seed: int = 0,
    size: int = 28,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Handwritten characters one after another, of which none should be forgotten; read from INNERLOOP_DATA/omniglot.

    Training streams: 20 drawings of one character, and 64 drawings of any to remember. Test streams: 15 drawings of each of
    many characters that were never seen, 5 others of each to be judged on. Training and validation characters are those of the
    30 background alphabets, test characters the 659 of the 20 others. Beaulieu et al. 2020 (arXiv:2002.09571); the first to
    use such streams were Javed and White 2019 (arXiv:1905.12588).

    Args:
        learn, judged: drawings of each character that a held-out stream shows, and others that it is judged on.
        train_learn: drawings in a training stream.
        remember: drawings of any training characters beside it.
        classes: characters in a held-out stream; validation has no more than it has characters.
        valid_alphabets: whole background alphabets held out for validation.
        split_seed: which.
        size: height and width in pixels.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (1, size, size), 1 is ink and 0 the paper.

    Raises:
        InputError: absent or damaged archives, more characters or drawings than there are.
    """
    options = dict(locals())
    if valid_alphabets < 1:
        raise ConfigError(f"valid_alphabets expected at least 1, as rates are chosen on them, got {valid_alphabets}")
    loaded = load_omniglot(size)
    splits = omniglot_splits(loaded, "background", valid_alphabets=valid_alphabets, valid_characters=0, seed=split_seed)
    return _family(
        "omniglot_stream", loaded.images, splits, learn=learn, judged=judged, train_learn=train_learn, remember=remember,
        classes=classes, dtype=dtype, options=options,
    )  # fmt: skip


def glyphs_stream(
    *,
    learn: int = 15,
    judged: int = 5,
    train_learn: int = 20,
    remember: int = 64,
    classes: int = 50,
    size: int = 28,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """The same with printed characters of many scripts (see `glyphs`): built in, nothing to fetch.

    Args:
        learn, judged, train_learn, remember, classes, dtype: see `omniglot_stream`.
        size: height and width in pixels, 12 to 112.

    Raises:
        InputError: more characters or drawings than there are, matplotlib's fonts missing.
        ConfigError: a size out of range.
    """
    options = dict(locals())
    images = glyph_images(size)
    splits = {
        split: images.in_groups([script for script, of in SPLITS.items() if of == split])
        for split in (TRAIN, VALID, TEST)
    }
    return _family(
        "glyphs_stream", images, splits, learn=learn, judged=judged, train_learn=train_learn, remember=remember,
        classes=classes, dtype=dtype, options=options,
    )  # fmt: skip
