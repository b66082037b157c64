"""First-order MAML: the outer gradient is taken at the adapted parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@method(
    classification={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3},
    regression={"inner_lr": 0.01},
    declares={"memory": "one step", "derivatives": "1"},
)
def fomaml(
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
    """MAML with the inner gradients held constant in the outer derivative.

    ``d fast / d meta`` is taken as the identity (for SGD), so the meta-gradient is the mean of ``grad L_query(fast)`` over
    tasks: no second derivatives, about half the time and memory of `maml`.

    Args:
        model: any nn.Module; copied, not changed.
        inner_lr: inner rate, at least 0.
        inner_steps: inner steps in meta-training.
        eval_steps: inner steps on a new task; None: ``inner_steps``.
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
        ConfigError: a value out of range, a pattern that matches nothing, a model that does not suit.

    Reference: Finn, Abbeel and Levine 2017, arXiv:1703.03400, section 5.2; named FOMAML by Nichol et al. 2018, arXiv:1803.02999.
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
        estimate=functools.partial(Backprop, first_order=True),
        outer=Outer(num_tasks=25),
    )
