"""ANIL: almost no inner loop; only the head is adapted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import (
    InnerOptimizer,
    LossArgument,
    gradient_method,
    head_patterns,
    inner_rule,
    method,
)


@method(
    classification={"inner_lr": 0.4, "inner_steps": 5},
    regression={"inner_lr": 0.01},
    declares={"memory": "grows with K, head only"},
)
def anil(
    model: nn.Module,
    *,
    inner_lr: float = 0.1,
    inner_steps: int = 5,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    head: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """MAML whose inner loop changes the last layer only; the body is shared by all tasks.

    The body still receives its meta-gradient, through the features that the head adapts on.

    Args:
        model: any nn.Module with at least two layers; copied, not changed.
        inner_lr: inner rate, at least 0.
        inner_steps: inner steps in meta-training (the paper: 5 on Omniglot 20-way).
        eval_steps: inner steps on a new task; None: ``inner_steps``.
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets.
        inner_optimizer: "sgd" (the paper's), "momentum" (0.9) or "adam"; or an `il.UpdateRule`,
            whose rates are its own.
        head: shell-style patterns of the head's parameter names; None: the model's last layer.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand, as the authors' code),
            "per_step", "running", "frozen" or "none".
        inductive: in evaluation, predict queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing, a model that does not suit.

    Reference: Raghu, Raghu, Bengio and Vinyals 2020, "Rapid learning or feature reuse?", arXiv:1909.09157.
    """
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=list(head) if head is not None else head_patterns(model),
        freeze=None,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=Backprop,
        outer=Outer(num_tasks=25),
    )
