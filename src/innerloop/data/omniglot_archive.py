"""The two Omniglot archives as pictures by class (Lake, Salakhutdinov and Tenenbaum 2015, Science 350:1332).

Official layout: ``images_background/<Alphabet>/characterNN/XXXX_NN.png``, 105 x 105, 1 bit, black ink on
white, 20 drawers a character. A file is accepted by what it holds, not by its hash, because zips that hold
the same pictures differ in their bytes.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.data.class_images import ClassImages, cached_pictures
from innerloop.data.locations import cache_folder, data_folder
from innerloop.data.zip_reading import check_checksums, contents_bytes, open_zip
from innerloop.errors import InputError

SIDE = 105  # pixels of the official pictures


class Contents(NamedTuple):
    """What an archive must hold."""

    file: str
    alphabets: int
    characters: int
    drawings: int


CONTENTS: dict[str, Contents] = {
    "background": Contents("images_background.zip", 30, 964, 19280),
    "evaluation": Contents("images_evaluation.zip", 20, 659, 13180),
}


def omniglot_folder() -> Path:
    """Where the archives are looked for."""
    return data_folder() / "omniglot"


def list_drawings(archive: zipfile.ZipFile, path: Path, contents: Contents) -> dict[tuple[str, str], list[str]]:
    """The members of each (alphabet, character), all sorted.

    Raises:
        InputError: other counts than ``contents`` says, or unequally many drawings.
    """
    classes: dict[tuple[str, str], list[str]] = {}
    for member in archive.namelist():
        parts = member.split("/")
        # Archives packed on a Mac carry a second tree of "._" files.
        if member.endswith(".png") and len(parts) >= 3 and not parts[-1].startswith("._"):
            classes.setdefault((parts[-3], parts[-2]), []).append(member)
    found = (len({alphabet for alphabet, _ in classes}), len(classes), sum(map(len, classes.values())))
    even = len({len(drawings) for drawings in classes.values()}) == 1
    if found != contents[1:] or not even:
        raise InputError(
            f"{path} expected {contents.alphabets} alphabets, {contents.characters} characters, "
            f"{contents.drawings} drawings (equally many each), got {found[0]}, {found[1]}, {found[2]}; "
            "fetch it again with: innerloop data fetch omniglot"
        )
    return {key: sorted(classes[key]) for key in sorted(classes)}


def check_archive(path: Path, contents: Contents) -> None:
    """Raise InputError when the zip at ``path`` is missing, damaged or holds other counts."""
    with open_zip(path, "omniglot") as archive:
        list_drawings(archive, path, contents)
        check_checksums(archive)


def check_background(path: Path) -> None:
    """Raise InputError unless ``path`` is a complete background archive."""
    check_archive(path, CONTENTS["background"])


def check_evaluation(path: Path) -> None:
    """Raise InputError unless ``path`` is a complete evaluation archive."""
    check_archive(path, CONTENTS["evaluation"])


def decode_drawing(data: bytes, size: int) -> NDArray[np.uint8]:
    """A PNG with dark ink on white as (size, size) bytes, 255 full ink.

    Made smaller with Lanczos's filter on grey levels, the filter that MAML's authors name. Pillow resizes
    1-bit pictures by picking the nearest pixel, whatever filter it is asked for, and that loses strokes;
    hence "L" first.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        grey = picture.convert("L")
    if grey.size != (SIDE, SIDE):
        raise ValueError(f"a picture of {grey.size[0]} x {grey.size[1]} pixels")
    if size != SIDE:
        grey = grey.resize((size, size), Image.Resampling.LANCZOS)
    return 255 - np.asarray(grey)


def _decode_all(
    archive: zipfile.ZipFile, path: Path, classes: dict[tuple[str, str], list[str]], size: int
) -> NDArray[np.uint8]:
    drawings = len(next(iter(classes.values())))
    images = np.empty((len(classes), drawings, size, size), np.uint8)
    for row, members in enumerate(classes.values()):
        for column, member in enumerate(members):
            data = archive.read(member)  # outside the try: damage to the zip has its own message
            try:
                images[row, column] = decode_drawing(data, size)
            except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: Pillow's for broken PNG chunks
                raise InputError(
                    f"{path}: {member} expected a PNG of {SIDE} x {SIDE} pixels, got {error}; "
                    "fetch it again with: innerloop data fetch omniglot"
                ) from error
    return images


def read_archives(sources: Sequence[tuple[Path, Contents]], size: int = 28) -> ClassImages:
    """The pictures of these archives, one archive's classes after the other's; decoded once, then mapped from the cache folder.

    Args:
        sources: of each zip its path and what it must hold.
        size: height and width in pixels, 1 to 105 (105: as they are).

    Returns:
        uint8 pictures (characters, drawings, size, size), ink 255; names "Alphabet/characterNN", groups the
        alphabets.

    Raises:
        InputError: a missing, damaged or wrong zip, or a size out of range.
    """
    if not 1 <= size <= SIDE:
        raise InputError(f"omniglot: size expected 1 to {SIDE} pixels, got {size}; choose one in that range")
    digest = hashlib.blake2b(digest_size=8)
    for path, contents in sources:
        digest.update(repr(contents).encode())
        digest.update(contents_bytes(path, "omniglot"))
    stems = "+".join(path.stem for path, _ in sources)

    def decode() -> ClassImages:
        images, names, groups = [], [], []
        for path, contents in sources:
            with open_zip(path, "omniglot") as archive:
                classes = list_drawings(archive, path, contents)
                images.append(torch.from_numpy(_decode_all(archive, path, classes, size)))
            names += [f"{alphabet}/{character}" for alphabet, character in classes]
            groups += [alphabet for alphabet, _ in classes]
        return ClassImages(torch.cat(images), tuple(names), tuple(groups))

    folder = cache_folder() / "omniglot"
    return cached_pictures(folder, f"{stems}-{size}", digest.hexdigest(), decode, f"*-{size}-*.npy")


class Omniglot(NamedTuple):
    """All characters; the first ``background`` of them are the background set, the others the evaluation set."""

    images: ClassImages
    background: int


def load_omniglot(size: int = 28) -> Omniglot:
    """The background set (30 alphabets, 964 characters) and the evaluation set (20, 659), 20 drawings each."""
    images = read_archives([(omniglot_folder() / contents.file, contents) for contents in CONTENTS.values()], size)
    return Omniglot(images, CONTENTS["background"].characters)
