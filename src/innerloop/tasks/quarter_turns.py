"""Chosen pictures, each turned by quarters: whole rows are moved on a CPU, single bytes gathered on an accelerator.

Both give the same bytes. Blocks take a quarter of the gather's time on a CPU, but have to know how many pictures are
turned how far, which an accelerator would have to be waited for.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


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
