"""A picture file as bytes of one size: only known formats, never more pixels than agreed, never code."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

from innerloop.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm")
# What pillow may try: no format that calls another program or draws what a text tells it to.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
MOST_PIXELS = 50_000_000  # a photograph has at most some 50 million; what claims more would fill the memory
MOST_BYTES = 256 << 20  # of one file
MOST_UNREADABLE = 0.1  # of many pictures; more, and something is wrong with all of them


class Unreadable(InputError):
    """A file that is no whole picture, or one that is too large to be opened; the message is the reason alone."""


def refuse_many(left_out: Sequence[tuple[str, str]], total: int, where: str) -> None:
    """Raise InputError where more than `MOST_UNREADABLE` of ``total`` pictures were left out, as (name, why)."""
    if len(left_out) > MOST_UNREADABLE * total:
        shown = "; ".join(f"{name}: {why}" for name, why in left_out[:3])
        raise InputError(
            f"{where} expected at most {MOST_UNREADABLE:.0%} of its pictures to be unreadable, got {len(left_out)} of "
            f"{total} ({shown}{'; ...' if len(left_out) > 3 else ''}); remove or replace them"
        )


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that pillow was built with, their readers loaded."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    return tuple(name for name in _FORMATS if name in Image.OPEN)


def opened(file: BinaryIO | bytes, most_pixels: int = MOST_PIXELS) -> Image:
    """The first frame of a picture, decoded, upright.

    Args:
        file: an open file, or its bytes.
        most_pixels: width times height that may be decoded; the header is looked at first.

    Raises:
        Unreadable: not a picture of a known format, damaged, cut off, or too large.
    """
    from PIL import Image, ImageOps

    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow's, of odd but readable files
            picture = Image.open(source, formats=_formats())
            width, height = picture.size
            if width * height > most_pixels:
                raise Unreadable(f"{width} x {height} pixels, more than the {most_pixels:,} allowed")
            if width < 1 or height < 1:
                raise Unreadable("no pixels")
            picture.load()
            if picture.format in ("JPEG", "MPO", "TIFF", "WEBP"):
                picture = ImageOps.exif_transpose(picture)
            return picture
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:  # pillow's own limit, met before the size is known here
        raise Unreadable(f"more pixels than the {most_pixels:,} allowed") from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not a picture of a known format") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders of foreign bytes raise what they like
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise Unreadable(f"damaged or cut off ({_short(error)})") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def in_eight_bits(picture: Image) -> Image:
    """A picture whose channels are bytes: 16-bit and floating grey levels are scaled, not cut off."""
    from PIL import Image

    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    levels = np.nan_to_num(np.asarray(picture).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(levels.max(initial=0.0))
    if picture.mode == "F" and top <= 1:
        white = 1.0
    elif picture.mode in ("I", "F") and top <= 255:
        white = 255.0
    else:
        white = max(65535.0, top)
    return Image.fromarray(np.clip(levels * (255 / white) + 0.5, 0, 255).astype(np.uint8))


def pixels(picture: Image, shape: Sequence[int], invert: bool = False) -> UInt8[np.ndarray, "channels height width"]:
    """A decoded picture, resized (not cropped), grey or in colour.

    Args:
        picture: of any mode; what is see-through counts as paper.
        shape: (channels, height, width), channels 1 or 3.
        invert: take dark for ink: 255 is what was black.
    """
    from PIL import Image

    channels, height, width = shape
    picture = in_eight_bits(picture)
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        paper = (255, 255, 255, 255) if invert else (0, 0, 0, 255)
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, paper), layer)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        larger = width > picture.width or height > picture.height
        picture = picture.resize((width, height), Image.Resampling.BILINEAR if larger else Image.Resampling.BOX)
    found = np.asarray(picture, np.uint8)
    found = 255 - found if invert else found
    return np.ascontiguousarray(found[None] if channels == 1 else found.transpose(2, 0, 1))


def as_floats(values: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Bytes as floats in [0, 1]."""
    return values.astype(np.float32) / 255
