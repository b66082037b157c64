"""Relation networks: a learned network says how well a query goes with a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import RelationLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, expect_choice, expect_label_loss, expect_whole, method
from innerloop.models.comparison import Relation


@method(
    model={"outputs": None, "downsample": "max_pool", "halvings": 2, "spatial": "map"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "adds_parameters": True,
        "memory": "one pass",
        "derivatives": "1",
    },
)
def relation(
    model: nn.Module,
    *,
    filters: int = 64,
    hidden: int = 8,
    combine: Literal["sum", "mean"] = "sum",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Relation networks: the score of query and class is ``sigmoid(g(sum of f over the class's support examples, f(x)))``.

    ``g`` is learned too: two convolution blocks and two linear layers where the model ``f`` returns a map, three linear layers
    where it returns a vector. The scores are trained to be 1 for the query's class and 0 for the others, by squared error. A new
    task takes no gradients. It may have any number of classes, in training, in evaluation and in ``adapt``.

    Args:
        model: any nn.Module that returns a map (channels, height, width) or a vector of features for each example;
            ``il.models.conv4((1, 28, 28), None, downsample="max_pool", halvings=2, spatial="map")`` is the paper's but for its
            padding. Copied, not changed. The comparison network's parameters come after its own.
        filters: channels of the comparison network's convolutions, or width of its first linear layer.
        hidden: width of its last hidden layer.
        combine: the "sum" of the support examples' features is the class's, as in the paper, or their "mean", for classes of
            unequal sizes and for other numbers of shots than in training.
        loss: None: squared error of the scores. ``loss(logits, y) -> scalar`` on logits (queries, ways), whose sigmoids are the
            scores, and integer labels, or a name.
        batch_norm: policy of BatchNorm layers, the comparison network's too; "running": in meta-training the statistics of
            the task's support and query examples together (there: of all its pairs), in evaluation their running mean, so it is
            not transductive.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.
        input_shape: of one example, where the model does not tell: the shape of its features has to be known.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: features of another rank, a loss that is not for labels, an unknown option, or an input shape that is not
            known.

    Example:
        >>> import innerloop as il
        >>> il.relation(il.models.conv4((1, 28, 28), None, spatial="map")).eval_steps
        1

    Reference: Sung, Yang, Zhang, Xiang, Torr and Hospedales 2018, "Learning to compare: relation network for few-shot learning",
    arXiv:1711.06025.
    """
    expect_label_loss(loss)
    expect_whole("filters", filters)
    expect_whole("hidden", hidden)
    expect_choice("combine", combine, ("sum", "mean"))
    features = features_of(model, input_shape)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = RelationLearner(pure, loss, features=features, combine=combine)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "relation",
        {},
        Parts(model, comparison=Relation(features, filters, hidden)),
        pair,
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
