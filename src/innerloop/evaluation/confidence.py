"""Do probabilities hold? The expected calibration error of class probabilities.

Queries are sorted by the probability of their predicted class into `BINS` bins of equal width; in each, the mean of that
probability is compared with the share that is right, and the absolute differences are averaged over the queries (Naeini et al.
2015, AAAI; Guo et al. 2017, arXiv:1706.04599, whose 15 bins these are).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop.meta_learner.unknown_inputs import class_probabilities

BINS = 15
ROWS = 3 * BINS  # numbers that `counted` gives of a task


def off_by(ece: float) -> str:
    """The error in words."""
    return f"{100 * ece:.1f} points on average (ECE, {BINS} bins)"


def counted(
    out: Float[Tensor, "tasks queries outputs"],
    y: Int64[Tensor, "tasks queries"],
    mask: Bool[Tensor, "tasks queries"] | None = None,
) -> Float[Tensor, "rows tasks"]:
    """Of each task and bin: how many queries, their summed probabilities of the predicted class, how many are right."""
    sure, said = class_probabilities(out.double(), out.shape[-1]).max(-1)
    weight = torch.ones_like(sure) if mask is None else mask.to(sure)
    bins = (sure * BINS).ceil().long().clamp(1, BINS) - 1  # a bin has its upper end, so that 1 is in the last
    parts = torch.stack([weight, weight * sure, weight * (said == y.to(said.device))])
    found = parts.new_zeros(3, len(sure), BINS).scatter_add_(2, bins.expand(3, -1, -1), parts)
    return found.movedim(1, 2).flatten(0, 1)


def expected_calibration_error(found: Float[Tensor, "rows tasks"]) -> float:
    """Of all queries of all tasks together, by `counted`; NaN where there is no query."""
    counts, sure, right = found.sum(1).reshape(3, BINS)
    return float((sure - right).abs().sum() / counts.sum())
