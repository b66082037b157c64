"""Prototypical networks: an embedding in which each class lies around the mean of its examples."""

from __future__ import annotations

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import PrototypeLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, expect_label_loss, method


@method(
    classification_tasks={"train_ways": 60, "train_queries": 5},
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
        "memory": "one pass",
        "derivatives": "1",
    },
)
def protonet(
    model: nn.Module,
    *,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Prototypical networks: a query belongs to the class whose mean support embedding is nearest.

    ``p(k | x) = softmax over k of -|f(x) - c_k|^2``, with ``c_k`` the mean of ``f`` over the support examples of class k. There
    is no inner loop and no rate: looking at the support set is one step. A task may have any number of classes, in training,
    in evaluation and in ``adapt``.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer (``il.models.conv4((1, 28, 28),
            None, downsample="max_pool")`` is the paper's); outputs with more axes are flattened. Copied, not changed.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name; None: cross-entropy.
        batch_norm: policy of BatchNorm layers; "running": in meta-training the statistics of the task's support and query
            examples together, in evaluation their running mean (as the authors' code, so it is not transductive).
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, or an unknown policy.

    Example:
        >>> import innerloop as il
        >>> il.protonet(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Snell, Swersky and Zemel 2017, "Prototypical networks for few-shot learning", arXiv:1703.05175.
    """
    expect_label_loss(loss)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = PrototypeLearner(pure, loss)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "protonet",
        {},
        model,
        pair,
        outer=Outer(num_tasks=1, schedule="halving"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
