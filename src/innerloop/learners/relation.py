"""Relation networks' learner: a learned comparison of a query with each class's features."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import losses
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ShapeError
from innerloop.learners.comparing import ComparingFast, ComparingLearner
from innerloop.learners.metric import class_sums, only_shown, ways_of
from innerloop.records import record, static


@record
class RelationFast:
    """What a relation learner knows of a task.

    Attributes:
        features: (ways, *features) of each class; zeros before the first step, and without support.
        counts: (ways,) how many support examples each class has.
        step: how many steps came before.
    """

    features: Tensor
    counts: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class RelationLearner(ComparingLearner):
    """Logits are what the part "comparison" makes of each query's features beside each class's.

    In meta-training their sigmoids, the scores, are to be 1 for the query's class and 0 for the others, by squared error; with a
    ``loss`` the logits are judged by that.

    Args:
        features: shape of the model's output for one example, which the relation was built for.
        combine: "sum" or "mean" of the support examples' features is the class's.
    """

    features: tuple[int, ...] = ()
    combine: Literal["sum", "mean"] = "sum"

    flattens = False

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        if of_model[1:] != self.features:
            raise ShapeError(
                f"the model expected to return features of shape {self.features}, which the relation was built for, got "
                f"{of_model[1:]}; give the inputs' shape when the method is made: input_shape={tuple(tasks.support.x.shape[2:])}"
            )
        return super().prediction_shape(tasks, of_model)

    def blank(self, meta: Meta, task: Task, one: Tensor) -> RelationFast:
        return RelationFast(one.new_zeros(ways_of(task), *one.shape[1:]), one.new_zeros(ways_of(task)))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> RelationFast:
        features, counts = class_sums(z.flatten(1), support.y, ways, support.mask)
        if self.combine == "mean":
            features = features / counts.clamp(min=1.0)[:, None]
        return RelationFast(features.reshape(ways, *z.shape[1:]), counts, step=1)

    def compare(
        self, meta: Meta, fast: RelationFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        queries, ways = z.shape[0], fast.counts.shape[0]
        shown = (fast.counts > 0).expand(queries, ways)
        pairs = shown if mask is None else mask[:, None] & shown  # those that count in batch norm's statistics
        logits, buffers = self.model.apply(
            meta.params,
            meta.buffers,
            fast.features,
            z,
            mask=pairs.reshape(-1),
            training=self.training,
            part="comparison",
        )
        return only_shown(logits.reshape(queries, ways), fast.counts), {**meta.buffers, **buffers}

    def query_loss(self, logits: Tensor, fast: ComparingFast, task: Task) -> Tensor:
        if self.loss is not None:
            return super().query_loss(logits, fast, task)
        y, mask = task.query.y, task.query.mask
        target = (y[:, None] == torch.arange(logits.shape[1], device=y.device)).to(logits.dtype)
        shown = (fast.counts > 0).to(logits.dtype)
        each = ((torch.sigmoid(logits) - target).square() * shown).sum(-1) / shown.sum().clamp(min=1.0)
        return losses.masked_mean(each, mask)
