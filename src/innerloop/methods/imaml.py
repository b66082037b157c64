"""Implicit MAML: the meta-gradient of where the inner loop ends, whatever way led there."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from torch import nn

from innerloop.errors import ConfigError
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import ProximalLearner
from innerloop.meta_gradients import Implicit
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@method(
    # The authors' equations, up to a factor that Adam does not see: they divide H by strength + 10.
    classification={"eval_strength": 0.0, "damping": 11.0},
    regression={"inner_lr": 3e-3, "inner_steps": 16, "strength": 0.5, "eval_strength": 0.0},
    declares={
        "options": {"inner_steps": 6, "cg_steps": 3, "inner_lr": 0.3, "strength": 0.5},
        "memory": "does not grow with K",
        "derivatives": "2, as products",
    },
)
def imaml(
    model: nn.Module,
    *,
    inner_lr: float = 0.1,
    inner_steps: int = 16,
    eval_steps: int | None = None,
    strength: float = 2.0,
    eval_strength: float | None = None,
    cg_steps: int = 5,
    damping: float = 1.0,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """Adapt near the initialisation, and differentiate the solution instead of the steps that led to it.

    The inner loop descends ``L_support(phi) + strength / 2 |phi - meta|^2``. At its solution the derivative of phi by meta is
    ``(I + H / strength)^-1``, H the Hessian of the support loss there, so the meta-gradient needs the end point alone: one
    system of equations, solved by ``cg_steps`` Hessian-vector products. Memory does not grow with inner steps.

    Args:
        model: any nn.Module; copied, not changed. Dropout is refused: the inner problem has to be the same at every step.
        inner_lr: inner rate, at least 0 (the authors' 0.1 on Omniglot).
        inner_steps: inner steps in meta-training (their 16).
        strength: the paper's lambda, above 0 (their 2.0).
        eval_strength: the same on a new task, at least 0 (their 0 on Omniglot); None: ``strength``.
        cg_steps: steps of conjugate gradients, at least 1 (their 5).
        damping: added to the identity in the equations, at least 0 (their 1.0); 0 is the equation of the paper.

    Returns:
        A MetaLearner. `il.with_meta_gradient(learner, "backprop")` differentiates the same inner loop step by step.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing, a model with dropout or without parameters.

    Reference: Rajeswaran, Finn, Kakade and Levine 2019, "Meta-learning with implicit gradients", arXiv:1909.04630; defaults
        from the authors' commands for Omniglot.
    """
    for name, value in (("strength", strength), ("eval_strength", eval_strength)):
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} expected a finite number of at least 0, got {value!r}")
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
        estimate=functools.partial(Implicit, cg_steps=cg_steps, damping=damping),  # type: ignore[arg-type]
        outer=Outer(num_tasks=32),
        learner=ProximalLearner,
        strength=strength,
        eval_strength=eval_strength,
    )
