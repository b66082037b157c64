"""Scales that a task's own support set gives: for many tasks at once in training, for one when a learner is adapted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop.data.table_preprocessing import LIMIT


class Scales(NamedTuple):
    """Per task and encoded number: mean, deviation, and which numbers come first."""

    mean: Float[Tensor, "tasks width"]
    std: Float[Tensor, "tasks width"]
    order: Int64[Tensor, "tasks kept"] | None


def support_scales(
    x: Float[Tensor, "tasks support width"],
    mask: Bool[Tensor, "tasks support"],
    y: Tensor | None = None,
    keep: int | None = None,
) -> Scales:
    """The support sets' means and standard deviations, over what is there; 1 where a number does not vary.

    Args:
        x: encoded rows, NaN where a number is missing.
        mask: False for padding.
        y: labels (tasks, support) or targets (tasks, support, outputs), to rank the numbers by how much they tell about
            them; None: the order stays.
        keep: how many to keep of the ranked.
    """
    there = (~x.isnan() & mask[..., None]).to(x.dtype)
    count = there.sum(1).clamp(min=1)
    filled = x.nan_to_num(0.0) * there
    mean = filled.sum(1) / count
    spread = ((filled - mean[:, None]).square() * there).sum(1) / count
    size = mean.abs().clamp(min=1e-30)
    std = torch.where(spread.sqrt() > 1e-6 * size, spread.sqrt(), torch.ones_like(spread))
    if y is None:
        return Scales(mean, std, None)
    told = telling(scaled(x, Scales(mean, std, None)) * mask[..., None], y, mask)
    # Exact ties (one column twice, or none that varies) keep the table's own order.
    order = torch.argsort(told, dim=-1, descending=True, stable=True)
    return Scales(mean, std, order if keep is None else order[:, :keep])


def scaled(x: Float[Tensor, "tasks rows width"], scales: Scales) -> Float[Tensor, "tasks rows kept"]:
    """Rows in a task's own scales; missing numbers at the mean."""
    z = ((x - scales.mean[:, None]) / scales.std[:, None]).nan_to_num(0.0).clamp(-LIMIT, LIMIT)
    if scales.order is None:
        return z
    return z.gather(2, scales.order[:, None].expand(-1, z.shape[1], -1))


def telling(
    z: Float[Tensor, "tasks support width"], y: Tensor, mask: Bool[Tensor, "tasks support"]
) -> Float[Tensor, "tasks width"]:
    """How much of each number's variance in the support set the targets explain, from 0 to 1.

    For labels, the variance between the classes' means; for targets, the largest squared correlation with one of them.
    """
    weight = mask.to(z.dtype)[..., None]
    total = (z.square() * weight).sum(1).clamp(min=1e-12)
    if y.is_floating_point():
        middle = (y * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        t = (y - middle) * weight
        shared = torch.einsum("tsw,tso->two", z * weight, t).square()
        return (shared / t.square().sum(1).clamp(min=1e-12)[:, None]).amax(-1) / total
    labels = y.masked_fill(~mask, 0)
    member = (labels[..., None] == torch.arange(int(labels.max()) + 1, device=y.device)) & mask[..., None]
    member = member.to(z.dtype)
    counts = member.sum(1).clamp(min=1)[..., None]
    sums = torch.einsum("tsc,tsw->tcw", member, z)
    return (sums.square() / counts).sum(1) / total
