"""SNAIL: the support set is read as a sequence by causal convolutions and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import SequenceLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.causal_sequence import CausalSequence


@method(
    model={"outputs": None},
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "training": {"steps": 300, "outer_lr": 0.003},
        "options": {"filters": 16, "keys": (16, 16), "values": (16, 16)},
        "memory": "grows with the sequence",
        "derivatives": "1",
    },
)
def snail(
    model: nn.Module,
    *,
    outputs: int | None = None,
    max_examples: int = 25,
    filters: int = 128,
    keys: Sequence[int] = (64, 256, 512),
    values: Sequence[int] = (32, 128, 256),
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """SNAIL, a simple neural attentive meta-learner: label a query by what a causal network makes of the support set before it.

    Each support example is its embedding beside its label (one-hot, or the value itself); the query stands at the end without
    one. Attention (64, 32), convolutions, attention (256, 128), convolutions, attention (512, 256) and a linear layer predict it;
    a block of convolutions has dilations 1, 2, 4, ... that reach over the whole sequence, 128 filters each. Nothing is adapted
    by gradients: reading the support set is one step. Queries do not see each other.

    Args:
        model: any nn.Module whose output is the embedding (``il.models.conv4((1, 28, 28), None, downsample="max_pool")``);
            outputs with more axes are flattened. Copied, not changed.
        outputs: classes, or target values; None: as many as the model has outputs.
        max_examples: the largest support set, ways times shots; the paper's T is this and one.
        filters: of each convolution.
        keys, values: sizes of the attention layers' keys and values; a block of convolutions stands between two layers.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers in the embedding; "running": in meta-training the statistics of the task's support
            and query examples together, in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, as many ``keys`` as ``values`` not given, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.snail(il.models.mlp(1, None), outputs=1, max_examples=10, filters=16, keys=(8, 8), values=(8, 8)).eval_steps
        1

    Reference: Mishra, Rohaninejad, Chen and Abbeel 2018, "A simple neural attentive meta-learner", arXiv:1707.03141.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {"outputs": columns, "max_examples": max_examples, "filters": filters}
    for name, value in [*sizes.items(), *(("keys", k) for k in keys), *(("values", v) for v in values)]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} expected integers of at least 1, got {value!r}")
    if len(keys) != len(values) or not keys:
        raise ConfigError(
            f"keys and values expected one size for each attention layer, got {len(keys)} and {len(values)}"
        )
    # Labels of a support example, and one channel that says that they are known: zero may be a target's value.
    network = CausalSequence(features + columns + 1, columns, max_examples + 1, filters, keys, values)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = SequenceLearner(pure, network.width, columns, max_examples, loss)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "snail",
        {},
        Parts(model, sequence=network),
        pair,
        outer=Outer(num_tasks=32),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
