"""The multi-task average: solve every training task by itself and keep the mean of the solutions."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.learners import GradientLearner
from innerloop.meta_gradients.solutions import displacement, mean_solution


@dataclasses.dataclass(eq=False)
class AverageOfSolutions(MetaGradient):
    """``meta - mean of solutions``, each solution started from the SAME first initialisation, not from meta.

    With outer SGD at rate 1 / (step + 1), meta is the exact mean of all solutions so far (schedule "average"). The carry
    holds the first initialisation. Finn et al. 2017, appendix C: the baseline that knows many tasks but not how to adapt.
    """

    learner: GradientLearner
    engine: Engine
    of_outer_loss = False
    order: str = "none"

    def init(self, meta: Meta) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in meta.params.items()}

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        start = Meta(carry, meta.rule, meta.buffers)
        return displacement(meta, mean_solution(self.learner, self.engine, start, tasks), carry)
