"""Reptile's meta-gradient: where the inner loop ended up, against where it began."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.learners import GradientLearner
from innerloop.meta_gradients.solutions import displacement, mean_solution


@dataclasses.dataclass(eq=False)
class Displacement(MetaGradient):
    """``meta - mean over tasks of fast``: outer SGD with rate eps then moves meta by ``eps (fast - meta)``.

    Nichol, Achiam and Schulman 2018 (arXiv:1803.02999), batched version; with one task a step it is the serial one. No graph
    is kept, so memory does not grow with inner steps. The query set is used for the reported loss alone.
    """

    learner: GradientLearner
    engine: Engine
    of_outer_loss = False
    order: str = "first"

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        return displacement(meta, mean_solution(self.learner, self.engine, meta, tasks), carry)
