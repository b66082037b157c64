"""Matching networks: attention over the support examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import MatchingLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, expect_choice, expect_label_loss, expect_whole, method
from innerloop.models.full_context import QueryContext, SupportContext


@method(
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "memory": "one pass",
        "derivatives": "1",
    },
)
def matching(
    model: nn.Module,
    *,
    full_context: bool = False,
    context_steps: int = 5,
    order: Literal["drawn", "given"] = "drawn",
    scale: float = 1.0,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Matching networks: the probability of a class is the attention that the query pays to the class's support examples.

    ``p(k | x) = sum over support examples i of class k of softmax over i of cos(f(x), g(x_i))``. A new task takes no gradients:
    looking at the support set is one step. A task may have any number of classes, in training, in evaluation and in ``adapt``.

    Without ``full_context`` f and g are the model. With it, g is the model plus an LSTM over the support set in either direction,
    and f an LSTM that looks at the support set ``context_steps`` times. Predictions then depend on the order in which the support
    set is read; they never depend on the other queries.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer; outputs with more axes are
            flattened. Copied, not changed. The LSTMs' parameters come after its own.
        full_context: whether embeddings depend on the whole support set.
        context_steps: how often a query looks at the support set; the paper gives no number.
        order: "drawn": a random order of the support set, a function of the task's key, so labels that come in blocks are
            taken apart; "given": as it comes.
        scale: what cosines are multiplied by before the softmax. 1 is the paper's; then no class of five one-shot classes can
            have a probability above 0.65.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways), which are log-probabilities, and integer labels, or a name;
            None: cross-entropy.
        batch_norm: policy of BatchNorm layers; "running": in meta-training the statistics of the task's support and query
            examples together, in evaluation their running mean, so it is not transductive.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.
        input_shape: of one example, where the model does not tell: ``full_context`` has to know the size of its embedding.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, an unknown option, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.matching(il.models.conv4((1, 28, 28), None, downsample="max_pool"), full_context=True).eval_steps
        1

    Reference: Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016, "Matching networks for one shot learning",
    arXiv:1606.04080.
    """
    expect_label_loss(loss)
    expect_whole("context_steps", context_steps)
    expect_choice("order", order, ("drawn", "given"))
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"scale expected a finite number above 0, got {scale!r}")

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = MatchingLearner(pure, loss, scale=scale, full_context=full_context, order=order)
        return learner, Backprop(learner, engine)

    whole = model
    if full_context:
        features = math.prod(features_of(model, input_shape))
        whole = Parts(
            model, support_context=SupportContext(features), query_context=QueryContext(features, context_steps)
        )
    return MetaLearner(
        "matching",
        {},
        whole,
        pair,
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
