"""Siamese networks: twins with shared weights that learn to say whether two examples are of one class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import SiameseLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, expect_choice, expect_label_loss, expect_whole, method


@method(
    classification_tasks={"train_ways": 20, "train_queries": 5},
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
        "adds_parameters": True,
        "memory": "one pass",
        "derivatives": "1",
    },
)
def siamese(
    model: nn.Module,
    *,
    pairs: int = 128,
    combine: Literal["max", "mean"] = "max",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Siamese networks: two examples are of one class with probability ``sigmoid(a . |f(x1) - f(x2)| + b)``.

    Trained to verify: pairs of a task's examples (support and query together), half of them of one class, with binary
    cross-entropy. A new task takes no gradients: a query goes to the class of the support example that it is most probably the
    same as. A task may have any number of classes, in training, in evaluation and in ``adapt``.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer; outputs with more axes are
            flattened. Copied, not changed. The weights ``a`` and ``b`` come after its parameters.
        pairs: how many are drawn in each task; the paper's minibatch is 128.
        combine: a query's logit for a class is the "max" or the "mean" over the class's support examples; the paper has one.
        loss: None: verification of pairs. ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name:
            the queries are judged among the task's classes instead, and no pairs are drawn.
        batch_norm: policy of BatchNorm layers; "running": in meta-training the statistics of the task's support and query
            examples together, in evaluation their running mean, so it is not transductive.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.
        input_shape: of one example, where the model does not tell: the size of its embedding has to be known.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, an unknown option, fewer than two pairs, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.siamese(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Koch, Zemel and Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition", ICML deep learning
    workshop. The network, its layer-wise rates and its distorted training pictures are the paper's own and not here.
    """
    expect_label_loss(loss)
    expect_whole("pairs", pairs, 2)
    expect_choice("combine", combine, ("max", "mean"))

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = SiameseLearner(pure, loss, pairs=pairs, combine=combine)
        return learner, Backprop(learner, engine)

    similarity = nn.Linear(math.prod(features_of(model, input_shape)), 1)
    return MetaLearner(
        "siamese",
        {},
        Parts(model, similarity=similarity),
        pair,
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
