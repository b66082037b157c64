"""The pictures of the `glyphs` problem: characters of fonts, each drawn in 20 ways. Built once, then cached.

A drawing is a function of its character, its number and its size alone. It takes one of the faces that have
the character, turns, slants, stretches, bends and moves it and makes its strokes thinner or thicker, all by
random amounts. Strokes: the character is blurred, and the level at which it is cut says how thick they come
out (as with distance fields, Green 2007, "Improved alpha-tested magnification for vector textures").
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from innerloop import keys
from innerloop.data import glyph_fonts
from innerloop.data.class_images import ClassImages, cached_pictures
from innerloop.data.glyph_fonts import Character, characters, drawn
from innerloop.data.glyph_shapes import Shapes
from innerloop.data.locations import cache_folder
from innerloop.errors import ConfigError

DRAWINGS = 20  # of each class, as many as Omniglot has
SEED = 2016

# The ranges of the random changes. Lengths are fractions of half the picture's side.
TURN = 0.22  # radians, at most: a form turned by 90 degrees is another class
SLANT = 0.25
STRETCH = 0.16  # log of width over height
SCALE = (0.80, 1.08)  # 1: the longer side of the character is FILL of the picture's side
SHIFT = 0.10
BEND = 0.07  # standard deviation of a 4 x 4 grid of displacements
STROKE = (
    0.25,
    0.55,
)  # where the edge lies between background (0) and the middle of a stroke (1) of a blurred character

FILL = 0.72
_CANVAS = 12 / 7  # side of the picture that is bent, over that of the result
_BLUR = 0.032  # standard deviation of the blur, as a fraction of the picture's side
_CHUNK = 128  # classes drawn at once


def glyph_images(size: int = 28) -> ClassImages:
    """All classes of the `glyphs` problem; groups are scripts, see `glyph_fonts.SPLITS` for their splits.

    The first call takes some ten seconds; the pictures are then kept in the cache folder where possible.

    Args:
        size: side of a picture in pixels.

    Raises:
        ConfigError: a size below 12 or above 112.
        InputError: matplotlib's fonts are missing.
    """
    if not 12 <= size <= 112:
        raise ConfigError(f"glyphs expected a size of 12 to 112 pixels, got {size}; 28 is the usual one")
    return _loaded(size, cache_folder())


@functools.lru_cache(maxsize=2)  # where nothing can be kept, they are at least not made twice
def _loaded(size: int, folder: Path) -> ClassImages:
    return cached_pictures(folder, f"glyphs-{size}", _fingerprint(), lambda: build(size), f"glyphs-{size}-*.npy")


def build(size: int) -> ClassImages:
    """All classes, drawn anew."""
    chosen = classes()
    scripts = {
        code: block.script for block in reversed(glyph_fonts.BLOCKS) for code in range(block.first, block.last + 1)
    }
    return ClassImages(
        draw(chosen, size),
        tuple(glyph_fonts.character_name(character.code) for character in chosen),
        tuple(scripts[character.code] for character in chosen),
    )


def classes() -> list[Character]:
    """One character for each shape, see `glyph_shapes`."""
    found = characters()
    ink = [[picture for face in c.faces[:2] if (picture := drawn(c.code, face, 24)) is not None] for c in found]
    found = [character for character, pictures in zip(found, ink, strict=True) if pictures]
    shapes = Shapes([pictures for pictures in ink if pictures])
    splits = [glyph_fonts.SPLITS[character.script] for character in found]
    stands_for = shapes.representatives(splits)
    numbers = np.unique(stands_for)
    pairs = shapes.alike_pairs(numbers, [splits[number] for number in numbers])
    if pairs:
        raise RuntimeError(f"characters {pairs[:3]} of the glyphs look alike; representatives() is wrong")
    return [found[number] for number in numbers]


def draw(chosen: Sequence[Character], size: int, number: int = DRAWINGS) -> UInt8[Tensor, "classes number size size"]:
    """So many drawings of some characters; each depends on its own character and its number alone."""
    drawings = torch.arange(number)
    parts = []
    for start in range(0, len(chosen), _CHUNK):  # so that memory stays at some ten megabytes
        part = chosen[start : start + _CHUNK]
        canvases, first, count = _canvases(part, size)
        codes = torch.tensor([character.code for character in part])
        each = keys.fold(keys.fold(torch.tensor(SEED), codes)[:, None], drawings)
        # Faces in turn, so that a character that two fonts have is drawn equally often in both.
        source = first[:, None] + drawings % count[:, None]
        pictures = _changed(canvases[source.flatten()], each.flatten(), size)
        parts.append(pictures.reshape(len(part), number, size, size))
    return torch.cat(parts)


def _canvases(
    chosen: Sequence[Character], size: int
) -> tuple[Float[Tensor, "pictures side side"], Int64[Tensor, " classes"], Int64[Tensor, " classes"]]:
    """Blurred characters in all their faces, middle of a stroke at 1; the first of each, how many it has."""
    from PIL import Image

    side = round(size * _CANVAS)
    longer = round(side * FILL)
    pictures, counts = [], []
    for character in chosen:
        inks = [picture for face in character.faces if (picture := drawn(character.code, face, longer)) is not None]
        counts.append(len(inks))
        for ink in inks:
            factor = longer / max(ink.shape)
            height, width = (max(1, round(length * factor)) for length in ink.shape)
            picture = np.zeros((side, side), np.uint8)
            top, left = (side - height) // 2, (side - width) // 2
            scaled = Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR)
            picture[top : top + height, left : left + width] = np.asarray(scaled)
            pictures.append(picture)
    count = torch.tensor(counts)
    deviation = side * _BLUR / _CANVAS
    place = torch.arange(side, dtype=torch.float32)
    blur = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    blur = blur / (deviation * math.sqrt(2 * math.pi))
    blurred = blur @ (torch.from_numpy(np.stack(pictures)).to(torch.float32) / 255) @ blur
    # Relative to the middle of the strokes, or thin ones would vanish.
    blurred /= blurred.amax((1, 2), keepdim=True)
    return blurred, count.cumsum(0) - count, count


def _changed(
    canvas: Float[Tensor, "drawings side side"], key: Int64[Tensor, " drawings"], size: int
) -> UInt8[Tensor, "drawings size size"]:
    """Each canvas seen through a random affine map and a bend, cut at a random thickness of stroke."""

    def between(low: float, high: float, salt: int) -> Tensor:
        return low + (high - low) * keys.uniform(key, salt=salt, dtype=torch.float32)

    turn, slant = between(-TURN, TURN, 1), between(-SLANT, SLANT, 2)
    stretch, scale = torch.exp(between(-STRETCH, STRETCH, 3) / 2), between(*SCALE, 4)
    shift = SHIFT * (2 * keys.uniform(key, (2,), 5, torch.float32) - 1)
    # From picture to canvas: shift back, then undo the scale, the turn, the slant and the stretch.
    cos, sin = torch.cos(turn), torch.sin(turn)
    inverse = torch.stack([cos + slant * sin, sin - slant * cos, -sin, cos], -1).reshape(-1, 2, 2)
    inverse = inverse / (torch.stack([stretch, 1 / stretch], -1)[..., None] * scale[:, None, None])
    bend = BEND * keys.normal(key, (2, 16), 6, torch.float32)
    weights = torch.cat([inverse, -(inverse @ shift[..., None]), bend], -1)
    grid = (weights @ _surfaces(size)).reshape(-1, 2, size, size).movedim(1, -1)
    field = F.grid_sample(canvas[:, None], grid, align_corners=False)[:, 0]
    # An edge of the blurred field climbs over some 2.5 deviations; this factor makes that one pixel.
    steepness = 2.5 * _BLUR * size
    edge = between(*STROKE, 7)[:, None, None]
    return ((field - edge) * steepness + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)


@functools.lru_cache(maxsize=2)
def _surfaces(size: int) -> Float[Tensor, "19 pixels"]:
    """What a map of the plane is a weighted sum of: x, y, 1 and a bump for each point of a 4 x 4 grid."""
    middles = (2 * torch.arange(size, dtype=torch.float32) + 1) / size - 1
    plane = torch.stack([middles.expand(size, size), middles[:, None].expand(size, size), torch.ones(size, size)])
    points = torch.eye(16).reshape(16, 1, 4, 4)
    bumps = F.interpolate(points, (size, size), mode="bicubic", align_corners=True)
    return torch.cat([plane, bumps[:, 0]]).flatten(1)


def _fingerprint() -> str:
    """Changes when the code here or the fonts' and the font reader's versions change."""
    # Not by importing them, which takes longer than opening the pictures.
    versions = " ".join(f"{name} {metadata.version(name)}" for name in ("matplotlib", "pillow"))
    digest = hashlib.blake2b(versions.encode(), digest_size=6)
    for name in ("glyph_fonts.py", "glyph_shapes.py", "glyph_images.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()
