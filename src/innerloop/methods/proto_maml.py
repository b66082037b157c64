"""Proto-MAML: MAML whose last layer starts, in every task, as the nearest class mean."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from innerloop import losses
from innerloop.errors import ConfigError
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import PrototypeHeadLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import (
    InnerOptimizer,
    LossArgument,
    gradient_method,
    inner_rule,
    loss_name,
    method,
)


@method(
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "starts_adapted": True,
        "derivatives": "2, or 1",
    },
)
def proto_maml(
    model: nn.Module,
    *,
    inner_lr: float = 0.005,
    inner_steps: int = 6,
    eval_steps: int | None = None,
    first_order: bool = False,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """Proto-MAML: a linear head made of the task's class means, then gradient steps on embedding and head.

    The head begins with ``w_k = 2 c_k`` and ``b_k = -|c_k|^2``, which classifies as prototypical networks do, and the outer
    gradient goes through this beginning too. So there is no head to learn, and a task may have any number of classes.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer (``outputs=None`` in
            `il.models`); outputs with more axes are flattened. Copied, not changed.
        inner_lr: inner rate, at least 0 (the authors' best on ImageNet alone: 0.0054).
        inner_steps: inner steps in meta-training (likewise: 6).
        eval_steps: inner steps on a new task; None: ``inner_steps``. With 0 steps it is the nearest class mean.
        first_order: hold the inner gradients constant in the outer derivative, as the authors' best settings do; the
            derivative through the head's beginning is always there.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name; None: cross-entropy.
        inner_optimizer: "sgd" (the paper's), "momentum" (0.9) or "adam"; or an `il.UpdateRule`,
            whose rates are its own.
        adapt, freeze: shell-style patterns of the embedding's parameter names to adapt, or to leave out; None: all.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand), "per_step", "running",
            "frozen" or "none".
        inductive: in evaluation, predict queries one at a time beside the support set.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a value out of range, a loss that is not for labels, a pattern that matches nothing.

    Example:
        >>> import innerloop as il
        >>> il.proto_maml(il.models.mlp(784, None), inner_steps=3).inner_steps
        3

    Reference: Triantafillou et al. 2020, "Meta-Dataset: a dataset of datasets for learning to learn from few examples",
        arXiv:1903.03096, section 3.
    """
    if loss in ("mse", losses.mse, F.mse_loss) or losses.is_binary(loss):
        raise ConfigError(
            f"loss expected one for logits (queries, ways) and integer labels, such as 'cross_entropy', got "
            f"{loss_name(loss)!r}; leave it out"
        )
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
        estimate=functools.partial(Backprop, first_order=first_order),
        outer=Outer(num_tasks=16),
        learner=PrototypeHeadLearner,
    )
