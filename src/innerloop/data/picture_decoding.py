"""A picture file as bytes of one size: only known formats, never more pixels than agreed, never code."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, UInt8

from innerloop.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm")
# What pillow may try: no format that calls another program or draws what a text tells it to.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
MOST_PIXELS = 50_000_000  # a photograph has at most some 50 million; what claims more would fill the memory
MOST_BYTES = 256 << 20  # of one file
MOST_SQUEEZED = 4.0  # times that a picture's proportion may differ from the common one before that is said
_LEAST_INK = 8  # levels of 255 that something must differ from the paper to be seen
_LEAST_RANGE = 16  # levels of 255 between the darkest and the lightest of a picture that shows something
_WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 1, 8, 10, 12, 14 and 16 bits
# In a picture's ``info``: its lower bytes, and whether there are more frames.
_LOW_BYTES, _MORE_FRAMES = "innerloop low bytes", "innerloop more frames"
# What pillow calls 16-bit colours in a file of this or that byte order -> what reads their lower bytes.
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_LOW = {f"{mode};16{a}": f"{mode};16{b}" for mode in ("RGB", "RGBA", "RGBX") for a, b in _OTHER.items()}
_LOW["LA;16B"] = "RGBA"
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


class Reading(NamedTuple):
    """What is decided once for pictures that belong together; None: no picture of them asked for it.

    Attributes:
        levels: what is black and what is white in files of more than eight bits a channel.
        paper: the brightness, 0 or 255, behind what is see-through.
    """

    levels: tuple[float, float] | None = None
    paper: int | None = None


UNDECIDED = Reading()


class Seen(NamedTuple):
    """What one picture says about how it and those beside it are to be read.

    Attributes:
        levels: the lowest and the highest of a file of more than eight bits a channel, and whether all are whole numbers;
            None: a file of bytes.
        ink: the mean brightness, 0 to 255, weighted by how little is seen through it; None: nothing is see-through.
    """

    levels: tuple[float, float, bool] | None
    ink: float | None


class Together(NamedTuple):
    """Pictures that were read together.

    Attributes:
        images: (pictures, *shape) bytes.
        places: of each, among those asked for.
        left_out: (place, why) of those that cannot be read.
        reading: what was decided for all.
        animated: places of those with more frames or pages than the first, which alone is read.
        squeezed: places of those whose height and width are more than `MOST_SQUEEZED` times out of proportion.
    """

    images: UInt8[np.ndarray, "pictures channels height width"]
    places: list[int]
    left_out: list[tuple[int, str]]
    reading: Reading
    animated: list[int]
    squeezed: list[int]


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
            if not source.read(1):
                raise Unreadable("empty, of 0 bytes")
            source.seek(0)
            picture = Image.open(source, formats=_formats())
            width, height = picture.size
            if width * height > most_pixels:
                raise Unreadable(f"{width} x {height} pixels, more than the {most_pixels:,} allowed")
            if width < 1 or height < 1:
                raise Unreadable("no pixels")
            packing = _packings(picture)
            picture.load()
            low = _low_bytes(source, picture.format, packing) if _LOW.keys() & set(packing) else None
            more = picture.format in ("GIF", "TIFF", "PNG", "WEBP") and _has_more(source, picture.format)
            upright = ImageOps.exif_transpose(_in_rgb(picture) if picture.mode == "LAB" else picture)
            upright.info.update({_LOW_BYTES: low, _MORE_FRAMES: more})
            return upright
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


def _packings(picture: Any) -> list[str]:
    """How the channels lie in a file that is not decoded yet, of each of its tiles, in pillow's words."""
    return [tile[3] if isinstance(tile[3], str) else str(tile[3][0]) for tile in picture.tile]


def _low_bytes(source: BinaryIO, kind: str | None, packings: Sequence[str]) -> Image:
    """The lower bytes of 16-bit colours, of which pillow keeps the upper ones only: decoded again, the bytes swapped."""
    from PIL import Image, ImageOps

    source.seek(0)
    picture: Any = Image.open(source, formats=(str(kind),))
    picture.tile = [
        tile._replace(args=_LOW[how] if isinstance(tile.args, str) else (_LOW[how], *tile.args[1:]))
        for tile, how in zip(picture.tile, packings, strict=True)
    ]
    picture.load()
    if packings[0] == "LA;16B":  # four bytes a pixel: grey's two, then those of how opaque it is
        picture = Image.merge("RGB", [picture.getchannel(1)] * 3)
    return ImageOps.exif_transpose(picture.convert("RGB"))


def _has_more(source: BinaryIO, kind: str | None) -> bool:
    """Whether a file has more frames or pages than the first."""
    from PIL import Image

    with contextlib.suppress(Exception):  # damage behind the first frame takes nothing from it
        source.seek(0)
        return bool(getattr(Image.open(source, formats=(str(kind),)), "is_animated", False))
    return False


def _in_rgb(picture: Image) -> Image:
    """A picture in CIE Lab, which pillow converts by colour profiles only."""
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    found = ImageCms.applyTransform(picture, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
    assert found is not None
    return found


# ---- what is decided for pictures together ---------------------------------------------------------------------------
def _deep(picture: Image) -> Float64[np.ndarray, "height width *channels"] | None:
    """The levels of a file of more than eight bits a channel; None of any other.

    Raises:
        Unreadable: no level is finite.
    """
    low = picture.info.get(_LOW_BYTES)
    if low is not None:
        return 256.0 * np.asarray(picture.convert("RGB")) + np.asarray(low)
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return None
    levels = np.asarray(picture).astype(np.float64)
    if not np.isfinite(levels).any():
        raise Unreadable("without a finite level")
    return np.nan_to_num(levels, nan=0.0, posinf=0.0, neginf=0.0)


def _scale(seen: Sequence[tuple[float, float, bool]]) -> tuple[float, float]:
    """Black and white of levels (lowest, highest, whole): by what the files hold, not by what they could hold."""
    black = min(0.0, *(low for low, _, _ in seen))
    top = max(high for _, high, _ in seen)
    if black < 0:
        return black, max(top, black + 1)
    whole = all(w for _, _, w in seen)
    for white in _WHITES:
        if top <= white and (whole or top > white / (16 if white == 1 else 2)):
            return black, white
    return black, top or 1.0


def in_bytes(picture: Image, levels: tuple[float, float] | None = None) -> Image:
    """A picture whose channels are bytes: deeper grey levels and colours are scaled, not cut off.

    Args:
        picture: of any mode.
        levels: what is black and white in it; None: by what it holds.

    Raises:
        Unreadable: it holds more than twice as much as ``levels``.
    """
    from PIL import Image

    deep = _deep(picture)
    if deep is None:
        return picture
    black, white = levels or _scale([_span(deep)])
    if deep.max() > 2 * white - black:
        raise Unreadable(f"of levels up to {deep.max():g}, where those of the pictures before end at {white:g}")
    scaled = np.clip((deep - black) * (255 / (white - black)) + 0.5, 0, 255).astype(np.uint8)
    made, key = Image.fromarray(scaled), picture.info.get("transparency")
    if "A" in picture.getbands():
        made.putalpha(picture.getchannel("A"))
    elif isinstance(key, int | tuple):  # the one colour that is see-through
        same = (deep == np.asarray(key)).reshape(*deep.shape[:2], -1).all(-1)
        made.putalpha(Image.fromarray(np.where(same, 0, 255).astype(np.uint8)))
    return made


def _span(deep: Float64[np.ndarray, "height width *channels"]) -> tuple[float, float, bool]:
    return float(deep.min()), float(deep.max()), bool((deep == np.round(deep)).all())


def _layer(picture: Image) -> Image | None:
    """A picture of bytes in red, green, blue and how opaque it is; None where all of it is opaque."""
    if not ({"A", "a"} & set(picture.getbands()) or "transparency" in picture.info):
        return None
    layer = picture.convert("RGBA")
    return None if layer.getchannel("A").getextrema()[0] == 255 else layer


def seen_in(picture: Image) -> Seen | None:
    """What there is to decide about a picture; None: nothing, its channels are bytes and opaque.

    Raises:
        Unreadable: it is wholly see-through.
    """
    deep = _deep(picture)
    layer = _layer(in_bytes(picture))
    if deep is None and layer is None:
        return None
    ink = None
    if layer is not None:
        opaque, light = (np.asarray(band, np.float64) for band in (layer.getchannel("A"), layer.convert("L")))
        if not opaque.any():
            raise Unreadable("wholly see-through")
        ink = float((opaque * light).sum() / opaque.sum())
    return Seen(None if deep is None else _span(deep), ink)


def decided(seen: Iterable[Seen | None], kept: Reading = UNDECIDED) -> Reading:
    """How pictures are read together: what was ``kept`` of those before, and what these say where that says nothing."""
    spans, inks = [], []
    for one in filter(None, seen):
        spans += [one.levels] if one.levels is not None else []
        inks += [one.ink] if one.ink is not None else []
    levels = kept.levels or (_scale(spans) if spans else None)
    # On white, unless the ink is light.
    paper = kept.paper if kept.paper is not None or not inks else 0 if sum(inks) / len(inks) > 127.5 else 255
    return Reading(levels, paper)


def flat(picture: Image, reading: Reading = UNDECIDED) -> Image:
    """A picture of bytes, laid on paper where it is see-through; what ``reading`` does not say, it decides for itself.

    Raises:
        Unreadable: nothing of it is to be seen on that paper, or its levels are far above those decided.
    """
    from PIL import Image

    made = in_bytes(picture, reading.levels)
    layer = _layer(made)
    if layer is None:
        return made.convert("RGBA").convert("RGB") if {"A", "a"} & set(made.getbands()) else made
    paper = decided([seen_in(made)], Reading(paper=reading.paper)).paper
    assert paper is not None
    found = Image.alpha_composite(Image.new("RGBA", layer.size, (paper, paper, paper, 255)), layer).convert("RGB")
    if np.abs(np.asarray(found, np.int16) - paper).max() < _LEAST_INK:
        raise Unreadable(f"of ink that is not seen on the {'white' if paper else 'black'} paper that suits most others")
    return found


def read_together(
    count: int,
    picture: Callable[[int], Image],
    shape: Sequence[int],
    invert: bool = False,
    kept: Reading = UNDECIDED,
) -> Together:
    """Pictures of one size, read alike: one scale for deep ones, one paper behind what is see-through.

    Args:
        count: how many.
        picture: the decoded one at a place below ``count``; asked for twice where something is to be decided. Unreadable is
            taken down.
        shape: (channels, height, width), channels 1 or 3.
        invert: take dark for ink.
        kept: what was decided for pictures before, such as those of training.
    """
    images = np.empty((count, *shape), np.uint8)
    why: dict[int, str] = {}
    waiting: dict[int, Seen] = {}
    animated, squeezed = [], []
    for i in range(count):
        try:
            one = picture(i)
            seen = seen_in(one)
            if seen is not None:
                waiting[i] = seen
            else:
                images[i] = pixels(one, shape, invert)
        except Unreadable as error:
            why[i] = str(error)
            continue
        if one.info.get(_MORE_FRAMES):
            animated.append(i)
        proportion = one.width * shape[1] / (one.height * shape[2])
        if not 1 / MOST_SQUEEZED <= proportion <= MOST_SQUEEZED:
            squeezed.append(i)
    reading = decided(waiting.values(), kept)
    for i in waiting:
        try:
            images[i] = pixels(picture(i), shape, invert, reading)
        except Unreadable as error:
            why[i] = str(error)
    places = [i for i in range(count) if i not in why]
    for to, at in enumerate(places):
        if to != at:
            images[to] = images[at]
    return Together(images[: len(places)], places, sorted(why.items()), reading, animated, squeezed)


def pixels(
    picture: Image, shape: Sequence[int], invert: bool = False, reading: Reading = UNDECIDED
) -> UInt8[np.ndarray, "channels height width"]:
    """A decoded picture, resized (not cropped), grey or in colour.

    Args:
        picture: of any mode.
        shape: (channels, height, width), channels 1 or 3.
        invert: take dark for ink: 255 is what was black.
        reading: what was decided for it and those beside it.

    Raises:
        Unreadable: as `flat`.
    """
    from PIL import Image

    channels, height, width = shape
    picture = flat(picture, reading).convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        larger = width > picture.width or height > picture.height
        picture = picture.resize((width, height), Image.Resampling.BILINEAR if larger else Image.Resampling.BOX)
    found = np.asarray(picture, np.uint8)
    found = 255 - found if invert else found
    return np.ascontiguousarray(found[None] if channels == 1 else found.transpose(2, 0, 1))


def sameness(images: UInt8[np.ndarray, "pictures channels height width"]) -> list[str]:
    """Sentences where most pictures show nothing, or are equal; none where they do not."""
    rows = images.reshape(len(images), -1)
    blank = int((rows.max(1) - rows.min(1) < _LEAST_RANGE).sum()) if rows.size else 0
    different = len({hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows})
    found = []
    if blank > len(rows) / 2:
        found.append(
            f"{blank} of {len(rows)} pictures are nearly of one brightness as they are read (mean {rows.mean():.0f} of 255), "
            "so there is nothing in them to learn; look at the files, and at invert, channels and size"
        )
    elif different < len(rows) / 2:
        found.append(f"only {different} of {len(rows)} pictures are different; look for copies")
    return found


def as_floats(values: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Bytes as floats in [0, 1]."""
    return values.astype(np.float32) / 255
