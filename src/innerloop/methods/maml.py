"""MAML and its nearest kin: an initialisation learned by backprop through the inner loop.

`maml` (Finn et al. 2017, arXiv:1703.03400), `fomaml` (the same, first order), `anil` (Raghu et al. 2020, arXiv:1909.09157: the
head alone is adapted), `boil` (Oh et al. 2021, arXiv:2008.08882: all but the head) and `meta_sgd` (Li et al. 2017,
arXiv:1707.09835: a learned rate for every number). They differ in the update rule, in what is adapted and in the order alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, head_patterns, inner_rule, method
from innerloop.rules import PerParameterRates


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
        inner_lr: inner rate, at least 0; the paper's 0.01 on the sine (its authors' code: 1e-3), 0.4 on Omniglot 5-way.
        inner_steps: inner steps in meta-training (the paper's 1).
        eval_steps: inner steps on a new task; None: ``inner_steps`` (the paper's Omniglot 5-way: 3).

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
        inner_lr: inner rate, at least 0.
        inner_steps: inner steps in meta-training.

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
        head: shell-style patterns of the head's parameter names; None: the model's last layer.

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


@method(classification={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}, regression={"inner_lr": 0.01})
def boil(
    model: nn.Module,
    *,
    inner_lr: float = 0.5,
    inner_steps: int = 1,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    head: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """MAML whose inner loop changes all but the last layer, so that features must move towards a shared head.

    The head is learned across tasks with the same outer optimizer.

    Args:
        model: any nn.Module with at least two layers; copied, not changed.
        inner_lr: inner rate, at least 0 (the paper's 0.5 on its image problems).
        inner_steps: inner steps in meta-training (the paper's 1).
        head: shell-style patterns of the head's parameter names, which stay; None: the model's last layer.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing, a model that does not suit.

    Reference: Oh, Yoo, Kim and Yun 2021, "BOIL: Towards representation change for few-shot learning", arXiv:2008.08882.
    """
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=None,
        freeze=list(head) if head is not None else head_patterns(model),
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=Backprop,
        outer=Outer(num_tasks=25),
    )


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
        rate_low, rate_high: rates start uniform between these (the paper: 0.005 and 0.1).
        inner_steps: inner steps in meta-training (the paper's 1); all steps share the rates.

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
