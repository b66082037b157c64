"""R2-D2: ridge regression on a learned embedding, solved for each task and differentiated through."""

from __future__ import annotations

import math

from torch import nn

from innerloop import losses
from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import RidgeLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, loss_name, method


@method(
    model={"outputs": None, "downsample": "max_pool"},
    regression={"ridge": 0.01},
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "any_ways": True,
        "equivariant": True,
        "memory": "one pass",
        "derivatives": "1",
    },
)
def r2d2(
    model: nn.Module,
    *,
    ridge: float = 1.0,
    scale: float = 10.0,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """R2-D2: a linear layer on the embedding, fitted to each task's support set by ridge regression in closed form.

    ``W = argmin mean |[f(x) 1] W - y|^2 + lambda |W|^2``, one-hot labels as y; logits are ``alpha * [f(x) 1] W + beta``.
    Embedding, lambda (its logarithm), alpha and beta are learned across tasks by backprop through the solution. Looking at
    the support set is one step. A task may have any number of classes, in training, in evaluation and in ``adapt``; where
    targets are values the prediction is ``[f(x) 1] W`` itself.

    Args:
        model: any nn.Module whose output is the embedding, so without a last layer (``outputs=None`` in `il.models`);
            outputs with more axes are flattened. Its parameters may all be frozen. Copied, not changed.
        ridge: lambda at the beginning, above 0, in units of the mean square of the embedding (the authors divide by the
            number of examples too).
        scale: alpha at the beginning (the authors' Omniglot command: 10); beta begins at 0.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers; "running": in meta-training the statistics of the task's support and query
            examples together, in evaluation their running mean, so it is not transductive.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner for classification and regression tasks.

    Raises:
        ConfigError: a ridge that is not above 0, a scale that is not finite, a binary loss, or an unknown policy.

    Example:
        >>> import innerloop as il
        >>> il.r2d2(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with differentiable closed-form solvers",
        arXiv:1805.08136.
    """
    for name, value, least in (("ridge", ridge, 0.0), ("scale", scale, -math.inf)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= least:
            above = "" if least else " above 0"
            raise ConfigError(f"{name} expected a finite number{above}, got {value!r}; leave it out for the default")
    if losses.is_binary(loss):
        raise ConfigError(
            f"loss expected one for logits (queries, ways) and integer labels, or for values, got {loss_name(loss)!r}; "
            "leave it out"
        )

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = RidgeLearner(pure, float(ridge), float(scale), loss)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "r2d2",
        {},
        model,
        pair,
        outer=Outer(num_tasks=1, schedule="halving"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
