"""Extremely randomized trees in tensor operations, so that many small tasks grow theirs at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop import keys

_COLUMNS, _THRESHOLDS = 1, 2


class Trees(NamedTuple):
    """Trees that are all full to one depth: the node after ``i`` is ``2 i + 1`` or ``2 i + 2``.

    Attributes:
        columns: (trees, nodes) which column a node asks for.
        thresholds: (trees, nodes) the value from which on, itself left out, a row goes to the second.
        counts: (trees, leaves, ways) support rows of each class in a leaf.
    """

    columns: Int64[Tensor, "trees nodes"]
    thresholds: Float[Tensor, "trees nodes"]
    counts: Float[Tensor, "trees leaves ways"]


def grown(
    x: Float[Tensor, "support columns"],
    members: Float[Tensor, "support ways"],
    alive: Bool[Tensor, " columns"],
    *,
    trees: int,
    depth: int,
    candidates: int,
) -> Trees:
    """Trees on all support rows; each node takes the purest of a few random cuts of random columns.

    The draws are the same for every task, and do not depend on the order of the rows. No gradient passes.

    Args:
        x: support rows.
        members: 1 where a row belongs to a class; rows of no class do not count.
        alive: columns that vary.
        trees: how many.
        depth: cuts on the way to a leaf, at least 1.
        candidates: cuts to choose from.

    Reference: Geurts, Ernst and Wehenkel 2006, "Extremely randomized trees", Machine Learning 63.
    """
    x, counted = x.detach(), members.sum(-1) > 0
    shape = (trees, 2**depth - 1, candidates)
    key = torch.zeros((), dtype=torch.int64, device=x.device)
    usable = alive.sum().clamp(min=1)
    order = torch.argsort((~alive).to(torch.int64), stable=True)
    drawn = order[(keys.uniform(key, shape, _COLUMNS, torch.float32) * usable).to(torch.int64)]
    share = keys.uniform(key, shape, _THRESHOLDS, torch.float32).to(x.dtype)
    here = counted.expand(trees, 1, -1)  # which rows are at each node of this depth
    columns, thresholds = [], []
    for level in range(depth):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        values = x.T[drawn[:, nodes]]  # (trees, nodes, candidates, support)
        inside = here[:, :, None]
        low = torch.where(inside, values, torch.inf).amin(-1)
        high = torch.where(inside, values, -torch.inf).amax(-1)
        cut = torch.where(low < high, low + share[:, nodes] * (high - low), 0.0)
        second = (values > cut[..., None]) & inside
        whole = (inside.to(x.dtype) @ members).expand(*cut.shape, -1)
        after = second.to(x.dtype) @ members
        purity = sum(c.square().sum(-1) / c.sum(-1).clamp(min=1.0) for c in (after, whole - after))
        assert isinstance(purity, Tensor)
        best = purity.argmax(-1, keepdim=True)
        columns.append(drawn[:, nodes].gather(-1, best)[..., 0])
        thresholds.append(cut.gather(-1, best)[..., 0])
        goes = second.gather(2, best[..., None].expand(-1, -1, -1, x.shape[0]))[:, :, 0]
        here = torch.stack([here & ~goes, here & goes], 2).flatten(1, 2)
    return Trees(torch.cat(columns, 1), torch.cat(thresholds, 1), here.to(x.dtype) @ members)


def leaves_of(trees: Trees, x: Float[Tensor, "examples columns"]) -> Int64[Tensor, "trees examples"]:
    """The leaf of each example in each tree."""
    x = x.detach()
    at = torch.zeros(trees.columns.shape[0], x.shape[0], dtype=torch.int64, device=x.device)
    depth = (trees.columns.shape[1] + 1).bit_length() - 1
    for _ in range(depth):
        column, threshold = trees.columns.gather(1, at), trees.thresholds.gather(1, at)
        at = 2 * at + 1 + (x.T.gather(0, column) > threshold).to(torch.int64)
    return at - trees.columns.shape[1]


def shares(
    trees: Trees, x: Float[Tensor, "examples columns"], less: Float[Tensor, "examples ways"] | None = None
) -> Float[Tensor, "examples ways"]:
    """The mean over the trees of each class's share of the rows in an example's leaf; even where the leaf is empty.

    Args:
        trees: grown on the support set.
        x: examples.
        less: taken off the leaf's counts: the example itself, where it is a support row.
    """
    leaves = leaves_of(trees, x)
    found = trees.counts.gather(1, leaves[..., None].expand(-1, -1, trees.counts.shape[-1]))
    found = (found if less is None else found - less).clamp(min=0.0)
    shown = (trees.counts.sum((0, 1)) > 0).to(found.dtype)
    even = shown / shown.sum().clamp(min=1.0)
    number = found.sum(-1, keepdim=True)
    return torch.where(number > 0, found / number.clamp(min=1.0), even).mean(0)
