"""A user's own pictures as one task's inputs: a folder with one subfolder a class, or pictures.

Pictures become what the built-in image problems have: grey, floats in [0, 1] where 1 is ink, resized to the
learner's height and width. Ink is what is bright in the file; drawings in black on white need ``invert``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from innerloop.data.picture_decoding import (
    SUFFIXES,
    UNDECIDED,
    Reading,
    Together,
    as_floats,
    opened,
    read_together,
    refuse_many,
    sameness,
)
from innerloop.data.picture_sources import is_picture, limited, open_source, printable, walked
from innerloop.errors import InnerloopWarning, InputError

PICTURES = SUFFIXES
KIND, VERSION = "pictures", 1  # of the record of how pictures are read
Images = Float[np.ndarray, "examples channels height width"]


def preprocessing_of(
    invert: bool | None, reading: Reading = UNDECIDED, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record of how pictures are read, in JSON values: kept with a run and with a task file.

    ``invert``: take dark for ink; None: by the paper, of a task's examples for all of its pictures.
    ``before``: the record so far, whose embedding stays.
    """
    decided = {
        "levels": None if reading.levels is None else list(reading.levels),
        "paper": None if reading.paper is None else int(reading.paper),
    }
    return {
        "kind": KIND,
        "version": VERSION,
        "invert": invert,
        **{name: value for name, value in decided.items() if value is not None},
        **{name: value for name, value in (before or {}).items() if name == "embedding"},
    }


def reading_of(preprocessing: Mapping[str, Any] | None) -> Reading:
    """What a record of `preprocessing_of` decided for all pictures.

    Raises:
        InputError: it says what no such record says.
    """
    record = preprocessing or {}
    if record.get("kind") != KIND:
        return UNDECIDED
    levels, paper = record.get("levels"), record.get("paper")
    try:
        black, white = (0.0, 1.0) if levels is None else map(float, levels)
        right = black < white < math.inf and black > -math.inf and paper in (None, 0, 255)
    except (TypeError, ValueError):
        right = False
    if not right:
        raise InputError(
            f"expected a record of pictures with levels [black, white] and a paper of 0 or 255, got levels {levels!r} "
            f"and paper {paper!r}; adapt again"
        )
    return Reading(None if levels is None else (float(levels[0]), float(levels[1])), paper)


def inverts(preprocessing: Mapping[str, Any] | None) -> bool | None:
    """Whether pictures are read with dark as ink, by the record of a learner or a task; None: by their paper; no record: no."""
    record = preprocessing or {}
    found = record.get("invert", False) if record.get("kind") == KIND else False
    return None if found is None else bool(found)


def with_ink(
    images: UInt8[np.ndarray, "pictures channels height width"], invert: bool | None
) -> tuple[UInt8[np.ndarray, "pictures channels height width"], bool]:
    """(the pictures with ink bright, whether dark was ink) of pictures that were read with bright ink where that is open.

    Args:
        images: read together.
        invert: how they were read; None: with bright ink, and the paper is to decide: what most of their edges are.
    """
    if invert is not None:
        return images, invert
    edges = [images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]]
    dark = bool(images.size) and float(np.median(np.concatenate([edge.ravel() for edge in edges]))) > 127
    return (255 - images if dark else images), dark


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below ``folder`` (links are followed), in the order of their paths; hidden ones left out."""
    return sorted(folder / name for name in walked(folder).files if is_picture(name))


def takes_pictures(shape: Sequence[int]) -> bool:
    """Whether inputs of this shape are pictures: (1 or 3 channels, height, width)."""
    return len(shape) == 3 and shape[0] in (1, 3)


def picture_shape(shape: Sequence[int], preprocessing: Mapping[str, Any] | None) -> tuple[int, ...]:
    """The shape in which a learner's pictures are read: that of its inputs, or of its embedding's."""
    record = (preprocessing or {}).get("embedding") or {}
    return tuple(record.get("shape", shape))


def _expect_pictures(shape: Sequence[int]) -> None:
    if not takes_pictures(shape):
        raise InputError(
            f"expected a learner of pictures (1 or 3 channels, height, width), got one of inputs {tuple(shape)}; give it "
            "a CSV table"
        )


def read_pictures(
    paths: Sequence[Path], shape: Sequence[int], invert: bool | None = False, kept: Reading = UNDECIDED
) -> Images:
    """Pictures as floats in [0, 1], of one scale and on one paper.

    Args:
        paths: of any format that is read.
        shape: (channels, height, width) of the learner, channels 1 or 3.
        invert: take dark for ink; None: as `with_ink`.
        kept: what was decided for the learner's pictures.

    Raises:
        InputError: a shape that no picture has, or a file that is no whole picture.
    """
    return _all_of(paths, shape, invert, kept).images


class Read(NamedTuple):
    """Some pictures.

    Attributes:
        images: floats in [0, 1].
        reading: what was decided for all.
        invert: whether dark was taken for ink.
    """

    images: Images
    reading: Reading
    invert: bool


def _all_of(paths: Sequence[Path], shape: Sequence[int], invert: bool | None, kept: Reading) -> Read:
    found, left_out = _together(paths, shape, invert, kept)
    for path, why in left_out:
        raise InputError(f"{path} expected a picture, got one that is {why}; remove or replace it")
    images, dark = with_ink(found.images, invert)
    return Read(as_floats(images), found.reading, dark)


def read_readable(
    paths: Sequence[Path], shape: Sequence[int], invert: bool | None = False, kept: Reading = UNDECIDED, *, where: Path
) -> tuple[Images, list[int], list[str]]:
    """(pictures, the place of each among ``paths``, what is left out and why) of those that can be read.

    Raises:
        InputError: as `read_pictures`, or more than a tenth cannot be read; ``where`` they lie is for that message.
    """
    found, left_out = _together(paths, shape, invert, kept)
    refuse_many(left_out, len(paths), str(where))
    images, _ = with_ink(found.images, invert)
    return as_floats(images), found.places, [f"{name} ({why})" for name, why in left_out]


def _together(
    paths: Sequence[Path], shape: Sequence[int], invert: bool | None, kept: Reading
) -> tuple[Together, list[tuple[str, str]]]:
    _expect_pictures(shape)
    found = read_together(len(paths), lambda i: opened(limited(paths[i])), shape, bool(invert), kept)
    return found, [(printable(paths[i]), why) for i, why in found.left_out]


class ClassesRead(NamedTuple):
    """The pictures of a folder of classes.

    Attributes:
        images: floats in [0, 1].
        names: the class of each.
        reading: what was decided for all.
        invert: whether dark was taken for ink.
    """

    images: Images
    names: list[str]
    reading: Reading
    invert: bool


def read_classes(
    path: Path,
    shape: Sequence[int],
    invert: bool | None = False,
    left_out: list[str] | None = None,
    kept: Reading = UNDECIDED,
) -> ClassesRead:
    """The pictures of a folder with one subfolder a class, of a .zip of the same, or of a table of path,label.

    Args:
        path: of the classes.
        shape: (channels, height, width) of the learner.
        invert: take dark for ink; None: as `with_ink`.
        left_out: takes down which pictures cannot be read, and why; None: such a picture is an error.
        kept: what was decided for the learner's pictures.

    Raises:
        InputError: no subfolders, a subfolder without (readable) pictures, a damaged picture, or more than a tenth of them.
    """
    _expect_pictures(shape)
    source = open_source(path, levels=1)
    for note in source.notes:
        warnings.warn(f"{path}: {note}", InnerloopWarning, stacklevel=2)
    if source.empty:
        raise InputError(
            f"{path / source.empty[0]} expected pictures ({', '.join(PICTURES)}), got none; add some or remove it"
        )
    names = [(label, name) for label, members in source.classes.items() for name in members]
    found = read_together(len(names), lambda i: opened(source.read(names[i][1])), shape, bool(invert), kept)
    gone = [(printable(path / names[i][1]), why) for i, why in found.left_out]
    if left_out is None and gone:
        raise InputError(f"{gone[0][0]} expected a picture, got one that is {gone[0][1]}; remove or replace it")
    refuse_many(gone, len(names), str(path))
    for note in sameness(found.images):
        warnings.warn(f"{path}: {note}", InnerloopWarning, stacklevel=2)
    labels = [names[i][0] for i in found.places]
    lost = sorted(set(source.classes) - set(labels))
    told = [f"{name} ({why})" for name, why in gone]
    if lost:
        raise InputError(f"{path / lost[0]} expected pictures that can be read, got none; replace {'; '.join(told)}")
    if left_out is not None:
        left_out += told
    images, dark = with_ink(found.images, invert)
    return ClassesRead(as_floats(images), labels, found.reading, dark)


def is_path(value: object) -> bool:
    """Whether ``value`` names files: a path, or a list of paths."""
    if isinstance(value, str | Path):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str | Path) for v in value)


def read_inputs(
    value: str | Path | Sequence[str | Path],
    shape: Sequence[int] | None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Read:
    """The pictures that paths name, as a learner of inputs of ``shape`` takes them.

    Args:
        value: pictures and folders, which stand for all pictures below them.
        shape: of one input.
        preprocessing: how the learner's files become inputs; None: with bright ink.

    Raises:
        InputError: nothing there, no pictures, or the input shape is not known.
    """
    if shape is None:
        raise InputError(
            "the shape of this learner's inputs is not known, so pictures cannot be read; give tensors or arrays"
        )
    given = [Path(value)] if isinstance(value, str | Path) else [Path(v) for v in value]
    files = [file for path in given for file in (pictures_in(path) if path.is_dir() else [path])]
    for file in files:
        if not file.is_file():
            raise InputError(f"expected a picture or a folder of pictures at {file}, found nothing there")
    if not files:
        raise InputError(f"expected pictures below {', '.join(map(str, given))}, found none")
    return _all_of(files, shape, inverts(preprocessing), reading_of(preprocessing))
