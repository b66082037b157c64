"""A user's own pictures as one task's inputs: a folder with one subfolder a class, or pictures.

Pictures become what the built-in image problems have: grey, floats in [0, 1] where 1 is ink, resized to the
learner's height and width. Ink is what is bright in the file; drawings in black on white need ``invert``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from innerloop.data.picture_decoding import SUFFIXES
from innerloop.errors import InputError

PICTURES = SUFFIXES
KIND, VERSION = "pictures", 1  # of the record of how pictures are read
Images = Float[np.ndarray, "examples channels height width"]


def preprocessing_of(invert: bool) -> dict[str, Any]:
    """The record of how pictures are read, in JSON values: kept with a run and with a task file."""
    return {"kind": KIND, "version": VERSION, "invert": invert}


def inverts(preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether pictures are read with dark as ink, by the record of a learner or a task; without one: no."""
    record = preprocessing or {}
    return record.get("kind") == KIND and bool(record.get("invert"))


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below ``folder``, in the order of their paths; hidden ones left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def read_picture(path: Path, shape: Sequence[int], invert: bool = False) -> Float[np.ndarray, "channels height width"]:
    """One picture as floats in [0, 1].

    Args:
        path: any format that pillow reads.
        shape: (channels, height, width) of the learner, channels 1 or 3.
        invert: take dark for ink.

    Raises:
        InputError: a shape that no picture has, or a file that is no whole picture.
    """
    from innerloop.data import picture_decoding

    _expect_pictures(shape)
    try:
        return _decoded(path, shape, invert)
    except picture_decoding.Unreadable as error:
        raise InputError(f"{path} expected a picture, got one that is {error}; remove or replace it") from error


def takes_pictures(shape: Sequence[int]) -> bool:
    """Whether inputs of this shape are pictures: (1 or 3 channels, height, width)."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _expect_pictures(shape: Sequence[int]) -> None:
    if not takes_pictures(shape):
        raise InputError(
            f"expected a learner of pictures (1 or 3 channels, height, width), got one of inputs {tuple(shape)}; give it "
            "a CSV table"
        )


def _decoded(path: Path, shape: Sequence[int], invert: bool) -> Float[np.ndarray, "channels height width"]:
    from innerloop.data import picture_decoding

    with path.open("rb") as file:
        picture = picture_decoding.opened(file)
    return picture_decoding.as_floats(picture_decoding.pixels(picture, shape, invert))


def read_pictures(paths: Sequence[Path], shape: Sequence[int], invert: bool = False) -> Images:
    """Many pictures, stacked."""
    return np.stack([read_picture(path, shape, invert) for path in paths])


def read_readable(
    paths: Sequence[Path], shape: Sequence[int], invert: bool = False, *, where: Path
) -> tuple[Images, list[int], list[str]]:
    """(pictures, the place of each among ``paths``, what is left out and why) of those that can be read.

    Raises:
        InputError: as `read_picture`, or more than a tenth cannot be read; ``where`` they lie is for that message.
    """
    from innerloop.data import picture_decoding

    _expect_pictures(shape)
    found, places, left_out = [], [], []
    for i, path in enumerate(paths):
        try:
            found.append(_decoded(path, shape, invert))
            places.append(i)
        except picture_decoding.Unreadable as error:
            left_out.append((str(path), str(error)))
    picture_decoding.refuse_many(left_out, len(paths), str(where))
    return np.stack(found), places, [f"{name} ({why})" for name, why in left_out]


def read_classes(
    folder: Path, shape: Sequence[int], invert: bool = False, left_out: list[str] | None = None
) -> tuple[Images, list[str]]:
    """(pictures, class name of each) of a folder with one subfolder a class.

    Args:
        folder: of the classes.
        shape: (channels, height, width) of the learner.
        invert: take dark for ink.
        left_out: takes down which pictures cannot be read, and why; None: such a picture is an error.

    Raises:
        InputError: no subfolders, a subfolder without (readable) pictures, a damaged picture, or more than a tenth of them.
    """
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise InputError(
            f"expected a folder with one subfolder of pictures a class, got {got} at {str(folder)!r}; give such a folder"
        )
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not subfolders:
        raise InputError(
            f"{folder} expected one subfolder a class with pictures in it, got no subfolders; sort the pictures"
        )
    paths, names = [], []
    for subfolder in subfolders:
        found = pictures_in(subfolder)
        if not found:
            raise InputError(f"{subfolder} expected pictures ({', '.join(PICTURES)}), got none; add some or remove it")
        paths += found
        names += [subfolder.name] * len(found)
    if left_out is None:
        return read_pictures(paths, shape, invert), names
    x, places, gone = read_readable(paths, shape, invert, where=folder)
    left_out += gone
    kept = [names[i] for i in places]
    lost = sorted(set(names) - set(kept))
    if lost:
        raise InputError(f"{folder / lost[0]} expected pictures that can be read, got none; replace {'; '.join(gone)}")
    return x, kept


def is_path(value: object) -> bool:
    """Whether ``value`` names files: a path, or a list of paths."""
    if isinstance(value, str | Path):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str | Path) for v in value)


def read_inputs(
    value: str | Path | Sequence[str | Path],
    shape: Sequence[int] | None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Images:
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
    return read_pictures(files, shape, inverts(preprocessing))
