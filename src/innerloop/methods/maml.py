"""MAML: an initialisation from which one or a few gradient steps suffice."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@method(classification={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}, regression={"inner_lr": 0.01})
def maml(
    model: nn.Module,
    *,
    inner_lr: float = 0.01,
    inner_steps: int = 1,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """Model-agnostic meta-learning, second order.

    ``fast = meta - inner_lr grad L_support(meta)``, repeated; ``meta`` descends ``L_query(fast)`` with the gradient taken
    through the inner loop, Hessians included.

    Args:
        model: any nn.Module; copied, not changed.
        inner_lr: inner rate, at least 0; the paper's 0.01 on the sine (its authors' code: 1e-3), 0.4 on Omniglot 5-way.
        inner_steps: inner steps in meta-training (the paper's 1).
        eval_steps: inner steps on a new task; None: ``inner_steps`` (the paper's Omniglot 5-way: 3).
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets.
        inner_optimizer: "sgd" (the paper's), "momentum" (0.9) or "adam"; or an `il.UpdateRule`,
            whose rates are its own.
        adapt, freeze: shell-style patterns of parameter names to adapt, or to leave out; None: all.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand, as the authors' code),
            "per_step", "running", "frozen" or "none".
        inductive: in evaluation, predict queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing, a model without parameters.

    Example:
        >>> import innerloop as il
        >>> il.maml(il.models.mlp(1, 1), inner_lr=0.01, inner_steps=5).inner_steps
        5

    Reference: Finn, Abbeel and Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks",
        arXiv:1703.03400.
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
        estimate=Backprop,
        outer=Outer(num_tasks=25),
    )
