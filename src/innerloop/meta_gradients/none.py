"""No meta-learning: for baselines that start every task from the same initialisation."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.learners import GradientLearner
from innerloop.meta_gradients.solutions import mean_solution


@dataclasses.dataclass(eq=False)
class NoGradient(MetaGradient):
    """Zeros; the reported loss is the query loss after ``inner_steps`` steps."""

    learner: GradientLearner
    engine: Engine
    of_outer_loss = False
    order: str = "none"

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        _, _, metrics = mean_solution(self.learner, self.engine, meta, tasks)
        params = {name: torch.zeros_like(p) for name, p in meta.params.items()}
        rule = {name: torch.zeros_like(p) for name, p in meta.rule.items()}
        return OuterGradient(params, rule, {}, carry, metrics)
