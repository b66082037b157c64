"""The simplest predictors on the same tasks: what a learner has to beat before its number means anything.

They see one task's support set alone and nothing of any other task. Each is computed here, in torch, for a batch of tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop.core import Task
from innerloop.data.counts import dense, kinds_of
from innerloop.objectives import losses

# Strengths of the ridge penalty that are tried, in units of the mean eigenvalue of the support set's Gram matrix.
STRENGTHS = tuple(10.0**k for k in range(-4, 3))
MOST_ROWS = 512

Rows = Float[Tensor, "rows features"]
Values = Float[Tensor, "rows outputs"]
Queries = Float[Tensor, "queries features"]
Answers = Float[Tensor, "queries outputs"]


def without_items(batch: Task, items: int) -> Task:
    """The same tasks without the first ``items`` numbers of an input, which name items and measure nothing."""
    if not items:
        return batch
    support, query = (dataclasses.replace(side, x=side.x[..., items:]) for side in (batch.support, batch.query))
    return dataclasses.replace(batch, support=support, query=query)


def names(batch: Task) -> tuple[str, ...]:
    """The baselines that suit such tasks, the simplest first; none but for tensors of inputs with classes or values to predict.

    Targets of 0 and 1 that stand for labels, some of which may be missing, are another kind. `ridge` takes the cube of the
    number of support examples: it is left out above `MOST_ROWS`.
    """
    x, y = batch.support.x, batch.support.y
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return ()
    values = y.is_floating_point()
    if not x.is_floating_point() or x.shape[1] == 0 or (losses.is_binary(batch.objective) if values else y.ndim != 2):
        return ()
    if values and losses.takes_missing(batch.objective, y[0]):
        return ("mean",)  # of the values that are there
    if not x[0, 0].numel():
        return ("mean",) if values else ()
    known = _OF_VALUES if values else _OF_CLASSES
    return tuple(name for name in known if name != "ridge" or x.shape[1] <= MOST_ROWS)


def seen(batch: Task, preprocessing: Mapping[str, Any] | None, items: int = 0) -> Task:
    """The batch as baselines see it: sparse rows in full, and without the numbers of items (`without_items`)."""
    kinds = kinds_of(preprocessing)
    if kinds is None:
        return without_items(batch, items)
    sides = (dataclasses.replace(side, x=dense(side.x, kinds)) for side in (batch.support, batch.query))
    return dataclasses.replace(batch, **dict(zip(("support", "query"), sides, strict=True)))


def predictions(name: str, batch: Task, ways: int) -> Float[Tensor, "tasks queries outputs"]:
    """What a baseline says of the queries, in double precision: scores of the classes, or values.

    Args:
        name: one of `names`.
        batch: tasks.
        ways: how many classes a prediction has; of no meaning for values.
    """
    support, query = batch.support, batch.query
    x, z = (side.x.flatten(2).to(torch.float64) for side in (support, query))
    y = support.y
    mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if support.mask is None else support.mask
    if y.is_floating_point():
        found = torch.vmap(_OF_VALUES[name])(x, y.reshape(*y.shape[:2], -1).to(torch.float64), z, mask)
        return found.reshape(*found.shape[:2], *y.shape[2:])
    classes = F.one_hot(y.clamp(0, ways - 1), ways).to(torch.float64)
    return torch.vmap(_OF_CLASSES[name])(x, classes, z, mask)


def _distances(z: Queries, x: Float[Tensor, "others features"]) -> Float[Tensor, "queries others"]:
    """Squared Euclidean distances."""
    return (z.square().sum(1)[:, None] + x.square().sum(1)[None] - 2 * z @ x.T).clamp(min=0)


def class_mean(x: Rows, y: Values, z: Queries, mask: Bool[Tensor, " rows"]) -> Answers:
    """Minus the squared distance to the mean of each class; a class without an example is never chosen."""
    counts = (y * mask[:, None]).sum(0)
    means = (y * mask[:, None]).T @ x / counts.clamp(min=1)[:, None]
    return torch.where(counts > 0, -_distances(z, means), -1e30)


def nearest(x: Rows, y: Values, z: Queries, mask: Bool[Tensor, " rows"]) -> Answers:
    """The answer of the nearest support example."""
    return y[torch.where(mask, _distances(z, x), torch.inf).argmin(1)]


def mean(x: Rows, y: Values, z: Queries, mask: Bool[Tensor, " rows"]) -> Answers:
    """The mean of the support set's values that are there, whatever the input."""
    del x
    known = mask[:, None] & ~y.isnan()
    return (torch.where(known, y, 0.0).sum(0) / known.sum(0).clamp(min=1)).expand(len(z), -1)


def ridge(x: Rows, y: Values, z: Queries, mask: Bool[Tensor, " rows"]) -> Answers:
    """Ridge regression with an intercept; of `STRENGTHS`, the one with the least leave-one-out error on the support set."""
    weight = mask.to(x.dtype)[:, None]
    count = weight.sum().clamp(min=1)
    centre, level = (x * weight).sum(0) / count, (y * weight).sum(0) / count
    x, y = (x - centre) * weight, (y - level) * weight
    gram = x @ x.T
    scale = gram.diagonal().sum() / count
    scale = torch.where(scale > 0, scale, 1.0)
    values, vectors = torch.linalg.eigh(gram / scale)
    values = values.clamp(min=0)
    turned = vectors.T @ y

    def errors(strength: Tensor) -> Tensor:
        """The leave-one-out error: residuals over one minus the leverages, of which the intercept has 1/n."""
        shrunk = values / (values + strength)
        leverage = (vectors.square() @ shrunk + 1 / count).clamp(max=1 - 1e-6)
        return (((y - vectors @ (shrunk[:, None] * turned)) / (1 - leverage)[:, None]).square() * weight).sum()

    strengths = torch.tensor(STRENGTHS, dtype=x.dtype, device=x.device)
    strength = strengths[torch.stack([errors(s) for s in strengths]).argmin()]
    dual = vectors @ (turned / (values + strength)[:, None])
    return (z - centre) @ x.T @ dual / scale + level


Baseline = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_OF_CLASSES: dict[str, Baseline] = {"class_mean": class_mean, "nearest": nearest, "ridge": ridge}
_OF_VALUES: dict[str, Baseline] = {"mean": mean, "nearest": nearest, "ridge": ridge}
