"""Meta-SGD: initialisation, update direction and rate are all learned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, gradient_method, method
from innerloop.rules import PerParameterRates


@method(
    classification={"rate_low": 0.1, "rate_high": 0.5},
    declares={"adds_parameters": True, "learned_rate": True},
)
def meta_sgd(
    model: nn.Module,
    *,
    rate_low: float = 0.005,
    rate_high: float = 0.1,
    inner_steps: int = 1,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """MAML with one learned rate for every single parameter: ``fast = meta - rate * grad L_support(meta)``.

    The rates are parameters of the learner (after the model's own) and are learned together with the initialisation; they
    may turn negative, so direction is learned too.

    Args:
        model: any nn.Module; copied, not changed.
        rate_low, rate_high: rates start uniform between these (the paper: 0.005 and 0.1).
        inner_steps: inner steps in meta-training (the paper's 1); all steps share the rates.
        eval_steps: inner steps on a new task; None: ``inner_steps``.
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets.
        adapt, freeze: shell-style patterns of parameter names to adapt, or to leave out; None: all.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand, as the authors' code),
            "per_step", "running", "frozen" or "none".
        inductive: in evaluation, predict queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: Li, Zhou, Chen and Li 2017, "Meta-SGD: learning to learn quickly for few-shot learning", arXiv:1707.09835.
    """
    return gradient_method(
        model,
        rule=PerParameterRates(rate_low, rate_high),
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
