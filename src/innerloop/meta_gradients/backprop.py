"""Backpropagation of the query loss through the inner loop."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.learners.gradient import by_gradients


@dataclasses.dataclass(eq=False)
class Backprop(MetaGradient):
    """``grad of mean over tasks of L_query(adapt(meta))``.

    Args:
        learner: any learner whose ``meta_loss`` is differentiable.
        engine: runs the one-task loss over many tasks.
        first_order: stop at the inner gradients: the derivative of the fast parameters by the initial ones becomes the
            identity (for SGD), Finn et al. 2017 section 5.2.
        first_order_until: outer steps that are first order before second order begins (MAML++'s annealing); 0: none.
    """

    learner: BaseLearner
    engine: Engine
    first_order: bool = False
    first_order_until: int = 0

    of_mean_gradient = True

    def __post_init__(self) -> None:
        self.order = "first" if self.first_order else "second"
        if (self.first_order or self.first_order_until) and not by_gradients(self.learner):
            raise ConfigError(
                f"first order needs a learner that adapts by gradients, got {type(self.learner).__name__}; use Backprop as it is"
            )
        # Two learners, not a switch within one: plans and compiled steps are kept by learner and `phase`, and one for the cheap
        # graph must not serve the other.
        self._cheap = (
            dataclasses.replace(self.learner, first_order=True) if by_gradients(self.learner) else self.learner
        )

    def phase(self, outer_step: int) -> tuple[bool, int]:
        of_learner = getattr(self.learner, "phase", None)
        return outer_step < self.first_order_until, of_learner(outer_step) if of_learner else 0

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator
        learner = self._cheap if self.first_order or outer_step < self.first_order_until else self.learner
        params, rule, aux = self.engine.mean_gradient(learner, meta, tasks, outer_step)
        return OuterGradient(params, rule, aux.get("buffers", {}), carry, aux["metrics"])


def first_order(learner: BaseLearner, engine: Engine) -> Backprop:
    """Backpropagation that stops at the inner gradients; see `Backprop`."""
    return Backprop(learner, engine, first_order=True)
