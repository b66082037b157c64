"""No meta-learning: every task starts from the same random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import GradientLearner
from innerloop.meta_gradients.solutions import displacement, mean_solution
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@dataclasses.dataclass(eq=False)
class NoGradient(MetaGradient):
    """Zeros; the reported loss is the query loss after ``inner_steps`` steps."""

    learner: GradientLearner
    engine: Engine
    of_outer_loss = False
    says = "none: there is no meta-gradient, every task starts from the same weights"
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
        _, _, metrics, _ = mean_solution(self.learner, self.engine, meta, tasks)
        return displacement(meta, ({}, {}, metrics, {}), carry)  # nothing has moved


@method(
    declares={
        "meta_gradient": False,
        "learns": False,
        "training": {"steps": 10},
        "memory": "nothing is trained",
        "derivatives": "0",
    }
)
def scratch(
    model: nn.Module,
    *,
    inner_lr: float = 0.01,
    inner_steps: int = 50,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "adam",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """The model's own initialisation, trained on each task's support set alone: what few examples give without a family of tasks.

    Args:
        inner_lr: training rate, at least 0.
        inner_steps: training steps on each task.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: a control, as in Finn et al. 2017, arXiv:1703.03400, section 5.
    """
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=NoGradient,
        outer=Outer(num_tasks=4),
    )
