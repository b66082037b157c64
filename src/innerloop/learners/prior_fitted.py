"""Prior-fitted networks: a transformer that reads the support set as its context and answers with a histogram."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Meta, Task
from innerloop.learners.bar_distribution import bar_log_density, bar_moments
from innerloop.learners.embedding import coded
from innerloop.learners.predictive import PredictiveLearner, counts_of
from innerloop.records import record, static


class Answer(NamedTuple):
    """What the head says of the queries: logits of classes (queries, outputs), or of bars (queries, outputs, bars)."""

    logits: Tensor
    borders: Float[Tensor, " borders"]


@record
class ContextFast:
    """What a prior-fitted network knows of a task.

    Attributes:
        states: (layers, support, width) the support examples as each layer reads them; zeros before the first step.
        counts: (support,) 1 for an example that was seen, 0 for padding and before the first step.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    states: Tensor
    counts: Tensor
    step: int = static(0)
    labels: bool = static(False)


@dataclasses.dataclass(frozen=True, eq=False)
class PriorFittedLearner(PredictiveLearner):
    """Support examples attend to each other, queries to the support examples alone, in every layer.

    Args:
        width: of the tokens.
        depth: layers.
        borders: of the histogram's bars, in units of y.
    """

    width: int = 64
    depth: int = 4
    borders: tuple[float, ...] = ()

    def init(self, meta: Meta, task: Task) -> ContextFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        size = task.support.y.shape[0]
        blank = like.new_zeros(self.depth, size, self.width)
        return ContextFast(blank, like.new_zeros(size), 0, not task.support.y.is_floating_point())

    def look(self, meta: Meta, fast: ContextFast, z: Tensor, y: Tensor, counts: Tensor) -> ContextFast:
        h = self.net(meta, "inputs", z) + self.net(meta, "targets", y)
        states = [h]
        for i in range(self.depth - 1):
            h = self.net(meta, f"blocks.{i}", h, h, counts)
            states.append(h)
        return dataclasses.replace(fast, states=torch.stack(states), counts=counts, step=1)

    def distribution(self, meta: Meta, fast: ContextFast, z: Tensor) -> Answer:
        h = self.net(meta, "inputs", z)
        for i in range(self.depth):
            h = self.net(meta, f"blocks.{i}", h, fast.states[i], fast.counts)
        borders = h.new_tensor(self.borders)  # not a buffer: a compiler takes tensors from nowhere but its arguments
        if fast.labels:
            return Answer(self.net(meta, "classes", h), borders)
        return Answer(self.net(meta, "bars", h).reshape(h.shape[0], self.outputs, -1), borders)

    def outputs_of(self, found: Answer, labels: bool) -> Tensor:
        return found.logits if labels else bar_moments(*found)[0]

    def std_of(self, found: Answer) -> Tensor:
        return bar_moments(*found)[1].sqrt()

    def density_of(self, found: Answer, y: Tensor) -> Tensor:
        return bar_log_density(*found, y).sum(-1)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        z_support, z, buffers = self.embed_both(meta, support, query, task.noise)
        seen = coded(support.y, self.outputs, z), counts_of(support, z)
        fast = self.look(meta, self.init(meta, task), z_support, *seen)
        found = self.distribution(meta, fast, z)
        loss = self.score(found, task, query, counts_of(query, z))
        return loss, {"metrics": self.metrics(loss, found, task), "buffers": buffers}
