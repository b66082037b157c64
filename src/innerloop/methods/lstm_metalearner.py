"""The LSTM meta-learner: an LSTM cell whose state is the learner's parameters trains the learner."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from innerloop.errors import ConfigError
from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, gradient_method, method
from innerloop.rules import LSTMRule


@method(
    declares={
        "adds_parameters": True,
        "training": {"steps": 50, "outer_lr": 0.01},
        "options": {"inner_steps": 5},
        "derivatives": "1",
    }
)
def lstm_metalearner(
    model: nn.Module,
    *,
    inner_steps: int = 12,
    eval_steps: int | None = None,
    hidden: int = 20,
    loss: LossArgument = None,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = True,
) -> MetaLearner:
    """The LSTM meta-learner: ``fast = f * fast - i * grad L_support(fast)`` with learned gates f and i.

    The gates come from a two-layer LSTM that sees, for every number of the model by itself, its gradient, the loss, its value
    and the gates before; its weights are shared by all numbers. Its initial cell state is the initialisation, so that is
    learned too. It starts close to gradient descent with a rate of 0.01. The gradients of the inner loop are taken as
    constants in the outer derivative.

    Args:
        model: any nn.Module; copied, not changed.
        inner_steps: inner steps in meta-training (the paper's 12 for 1 shot; it has 5 for 5 shots).
        eval_steps: inner steps on a new task; None: ``inner_steps``.
        hidden: size of the LSTM's first layer (the authors' 20); a task keeps twice as many numbers for each of the model's.
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets.
        adapt, freeze: shell-style patterns of parameter names to adapt, or to leave out; None: all.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand), "per_step", "running", "frozen" or
            "none".
        inductive: in evaluation, predict queries one at a time beside the support set (the paper's statistics are those of the
            support set, never of other tasks).

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Example:
        >>> import innerloop as il
        >>> il.lstm_metalearner(il.models.mlp(1, 1)).inner_steps
        12

    Reference: Ravi and Larochelle 2017, "Optimization as a model for few-shot learning", ICLR, openreview rJY0-Kcll.
    """
    if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
        raise ConfigError(f"hidden expected an integer of at least 1, got {hidden!r}")
    return gradient_method(
        model,
        rule=LSTMRule(hidden),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=functools.partial(Backprop, first_order=True),
        outer=Outer(num_tasks=1),
    )
