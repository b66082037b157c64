"""The gradient of ordinary supervised learning on the pooled examples of a batch of tasks."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine, gradient
from innerloop.learners.pooled import PooledLearner, flatten


@dataclasses.dataclass(eq=False)
class Pooled(MetaGradient):
    """One forward and backward pass over all examples of all tasks; there is no inner loop in training.

    Batch norm takes its statistics, and dropout its noise, for the whole pool at once, so processes cannot share it out.
    """

    learner: PooledLearner
    engine: Engine
    of_outer_loss = False
    order: str = "none"
    shardable: bool = False

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator
        params, rule, aux = gradient(self.learner, meta, flatten(tasks), outer_step)
        return OuterGradient(params, rule, aux["buffers"], carry, aux["metrics"])
