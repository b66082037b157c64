"""A user's pictures by class as a `ClassImages`: size and channels from the data, decoded once, what is unreadable named."""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from innerloop.data.class_images import ClassImages, cached_pictures
from innerloop.data.locations import cache_folder
from innerloop.data.picture_decoding import (
    Reading,
    Unreadable,
    flat,
    opened,
    pixels,
    read_together,
    refuse_many,
    sameness,
)
from innerloop.data.picture_sources import PictureSource, printable
from innerloop.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_VERSION = 2  # of decoding: another number, and what is in the cache is made again
_SAMPLE = 48  # pictures that decide the defaults
LONGEST_PHOTO, LONGEST_DRAWING = (
    84,
    28,
)  # pixels that the longest side is brought below, by whole numbers for photographs


class Look(NamedTuple):
    """What a sample of the pictures is like.

    Attributes:
        size: (height, width) to bring them to.
        channels: 1 for grey, 3 for colour.
        drawings: nearly all pixels are black or white.
        dark_ink: drawings on light paper.
        smallest, largest: (height, width) with the fewest and the most pixels.
    """

    size: tuple[int, int]
    channels: int
    drawings: bool
    dark_ink: bool
    smallest: tuple[int, int]
    largest: tuple[int, int]


_looks: dict[tuple[Path, str], Look] = {}  # of this process: a command makes its problem more than once


def look_at(pictures: Iterable[Image], where: str) -> Look:
    """Sizes, colour and kind of these decoded pictures.

    Raises:
        InputError: there are none.
    """
    sizes, colour, two_tone, light = [], 0, [], []
    for picture in pictures:
        try:
            whole = flat(picture)
        except Unreadable:
            continue
        sizes.append((picture.height, picture.width))
        small = pixels(whole, (3, *(min(64, side) for side in sizes[-1]))).astype(np.int16)
        colour += int((small.max(0) - small.min(0)).mean() > 2)
        # At full size: making it smaller would turn black and white into grey.
        grey = np.asarray(whole.convert("L"))
        two_tone.append(float(((grey < 24) | (grey > 231)).mean()))
        light.append(float(grey.mean()))
    if not sizes:
        raise InputError(f"{where} expected pictures that can be read, got none in the sample; see the files")
    height, width = (statistics.median_low([s[i] for s in sizes]) for i in (0, 1))
    drawings = statistics.median(two_tone) >= 0.97 and colour <= 0.05 * len(sizes)
    longest = max(height, width)
    by = max(1.0, longest / LONGEST_DRAWING) if drawings else float(math.ceil(longest / LONGEST_PHOTO))
    ordered = sorted(sizes, key=math.prod)
    return Look(
        (max(8, round(height / by)), max(8, round(width / by))),
        3 if colour > 0.05 * len(sizes) else 1,
        drawings,
        drawings and statistics.median(light) > 127,
        ordered[0],
        ordered[-1],
    )


def _readable(source: PictureSource, names: Sequence[str]) -> Iterator[Image]:
    left_out = []
    for name in names:
        try:
            yield opened(source.read(name))
        except Unreadable as error:
            left_out.append((printable(name), str(error)))
    if len(left_out) == len(names):
        refuse_many(left_out, len(names), str(source.path))


def look(source: PictureSource) -> Look:
    """Sizes, colour and kind of a sample of the pictures; the same sample for the same files.

    Raises:
        InputError: none of the sample can be read.
    """
    names = [name for members in source.classes.values() for name in members]
    step = max(1, len(names) // _SAMPLE)
    found = _looks.get((source.path, source.stamp))
    if found is None:
        found = _looks[source.path, source.stamp] = look_at(
            _readable(source, names[::step][: _SAMPLE + 1]), str(source.path)
        )
    return found


def read_classes(source: PictureSource, shape: Sequence[int], invert: bool = False) -> ClassImages:
    """All pictures, decoded; from the cache folder where they were decoded before.

    Args:
        source: what `open_source` found.
        shape: (channels, height, width) to bring them to.
        invert: take dark for ink.

    Returns:
        Pictures by class with ``counts``; ``left_out`` has the name of each unreadable one and why. Classes without a
        readable picture are left out too. ``remarks`` holds the "reading" (`picture_decoding.Reading`), the names of
        those with more frames ("animated") and of those "squeezed", and sentences on their "sameness".

    Raises:
        InputError: more than a tenth of the pictures cannot be read.
    """
    key = hashlib.blake2b(digest_size=8)
    label = (_VERSION, source.stamp, list(source.classes.items()), tuple(shape), invert)
    key.update(repr(label).encode("utf-8", "surrogateescape"))
    where = hashlib.blake2b(str(source.path.resolve()).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", source.path.stem).strip("-")[:40] or "pictures"
    channels, height, width = shape
    name = f"{slug}-{where}-{channels}x{height}x{width}{'i' if invert else ''}"
    return cached_pictures(
        cache_folder() / "own", name, key.hexdigest(), lambda: _decode(source, shape, invert), f"{name}-*.npy"
    )


def _decode(source: PictureSource, shape: Sequence[int], invert: bool) -> ClassImages:
    names = [name for members in source.classes.values() for name in members]
    found = read_together(len(names), lambda i: opened(source.read(names[i])), shape, invert)
    left_out = tuple((printable(names[i]), why) for i, why in found.left_out)
    refuse_many(left_out, len(names), str(source.path))
    lost = {names[i] for i, _ in found.left_out}
    counts = {label: sum(name not in lost for name in members) for label, members in source.classes.items()}
    counts = {label: count for label, count in counts.items() if count}
    remarks = {
        "reading": found.reading,
        "animated": [printable(names[i]) for i in found.animated],
        "squeezed": [printable(names[i]) for i in found.squeezed],
        "sameness": sameness(found.images),
    }
    groups = tuple(label.rpartition("/")[0] for label in counts)
    return ClassImages(torch.from_numpy(found.images), tuple(counts), groups, tuple(counts.values()), left_out, remarks)


def reading_of(images: ClassImages) -> Reading:
    """What was decided when these were read."""
    levels, paper = images.remarks["reading"]
    return Reading(None if levels is None else tuple(levels), paper)
