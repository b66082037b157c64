"""Changes of pictures: small random ones (shifts, turns, sizes, light, mirror images), and turns by quarters.

The random ones are pure functions of the tasks' keys. Turns by quarters move whole rows on a CPU and gather single bytes on an
accelerator. Both give the same bytes. Blocks take a quarter of the gather's time on a CPU, but have to know how many pictures
are turned how far, which an accelerator would have to be waited for.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.tasks.pictures.pens import redrawn

Changes = Literal["none", "drawings", "photos", "pens", "brush"]
INK = ("pens", "brush")  # those of `pens`, for grey pictures of ink
_SHIFT, _ANGLE, _ZOOM, _LIGHT, _MIRROR, _CONTRAST = range(101, 107)


def changed(
    x: Float[Tensor, "tasks examples channels height width"], keys: Int64[Tensor, " tasks"], kind: Changes
) -> Float[Tensor, "tasks examples channels height width"]:
    """Every picture changed anew in this way; the same keys give the same changes."""
    if kind == "none":
        return x
    return redrawn(x, keys, kind) if kind in INK else jittered(x, keys, mirror=kind == "photos")


def jittered(
    x: Float[Tensor, "tasks examples channels height width"],
    keys: Int64[Tensor, " tasks"],
    *,
    mirror: bool,
    shift: float = 0.06,
    angle: float = 8.0,
    zoom: float = 0.08,
    light: float = 0.12,
) -> Float[Tensor, "tasks examples channels height width"]:
    """Every picture shifted, turned and resized a little; photographs also mirrored and made lighter or darker.

    Args:
        x: pictures, values in [0, 1].
        keys: of the tasks: the same keys give the same changes, in whatever batch.
        mirror: photographs: mirror every second picture, change light and contrast; drawings keep both.
        shift: largest shift, a share of height and width.
        angle: largest turn, in degrees.
        zoom: largest change of size, a share.
        light: largest change of brightness and, relatively, of contrast.
    """
    tasks, examples = x.shape[:2]

    def draw(salt: int, *more: int) -> Tensor:
        return (2 * random_keys.uniform(keys, (examples, *more), salt, x.dtype) - 1).reshape(tasks * examples, *more)

    turn, size, move = draw(_ANGLE) * math.radians(angle), 1 + draw(_ZOOM) * zoom, draw(_SHIFT, 2) * (2 * shift)
    cos, sin = torch.cos(turn) * size, torch.sin(turn) * size
    side = torch.where(draw(_MIRROR) < 0, -1.0, 1.0).to(x.dtype) if mirror else torch.ones_like(cos)
    aspect = x.shape[-1] / x.shape[-2]
    top = torch.stack([cos * side, -sin / aspect, move[:, 0]], -1)
    low = torch.stack([sin * aspect * side, cos, move[:, 1]], -1)
    flat = x.flatten(0, 1)
    grid = F.affine_grid(torch.stack([top, low], 1), list(flat.shape), align_corners=False)
    found = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    if mirror:
        contrast, more = 1 + draw(_CONTRAST) * light, draw(_LIGHT) * light
        middle = found.mean((1, 2, 3), keepdim=True)
        found = (found - middle) * contrast[:, None, None, None] + middle + more[:, None, None, None]
    return found.clamp(0, 1).reshape(x.shape)


def turned_blocks(
    stored: UInt8[Tensor, "stored channels side side"],
    rows: Int64[Tensor, " pictures"],
    turns: Int64[Tensor, " pictures"],
) -> UInt8[Tensor, "pictures channels side side"]:
    """``stored[rows]``, each turned by its number of quarters (0 to 3), anticlockwise; pictures of one turn at a time."""
    order = turns.argsort()
    blocks = stored.index_select(0, rows[order]).split(turns.bincount(minlength=4).tolist())
    turned = torch.cat([torch.rot90(block, turn, (-2, -1)) for turn, block in enumerate(blocks)])
    return turned.index_select(0, order.argsort())


def turned_gather(
    stored: UInt8[Tensor, "stored channels side side"],
    rows: Int64[Tensor, " pictures"],
    turns: Int64[Tensor, " pictures"],
    sources: Int64[Tensor, "4 pixels"],
) -> UInt8[Tensor, "pictures channels side side"]:
    """The same in one kernel, whatever the turns are; ``sources`` as `pixel_sources` gives them, on the same device."""
    chosen = stored.index_select(0, rows)
    flat = chosen.flatten(2)
    return flat.gather(-1, sources[turns][:, None].expand(flat.shape)).reshape(chosen.shape)


def pixel_sources(side: int) -> Int64[Tensor, "4 pixels"]:
    """Where each pixel of a picture of side x side comes from when it is turned by 0, 1, 2 and 3 quarters."""
    pixels = torch.arange(side * side).reshape(side, side)
    return torch.stack([torch.rot90(pixels, turn).reshape(-1) for turn in range(4)])
