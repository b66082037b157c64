"""Conditional neural processes: the examples' codes are averaged, and a decoder predicts a distribution at any input."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners import ConditionalLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.cross_attention import layers


@method(
    classification={"score_support": False},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "equivariant": True,
        "training": {"steps": 100, "outer_lr": 0.003},
        "options": {"width": 32},
        "memory": "one pass",
        "derivatives": "1",
    },
)
def cnp(
    model: nn.Module,
    *,
    outputs: int | None = None,
    input_shape: Sequence[int] | None = None,
    width: int = 128,
    encoder_layers: int = 3,
    decoder_layers: int = 5,
    min_sd: float = 0.1,
    score_support: bool = True,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Conditional neural processes: ``y ~ N(mean, sd^2)``, both decoded from x and the mean code of the support set.

    ``r = mean of encoder(f(x), y)`` over the support examples, ``(mean, sd) = decoder(f(x), r)``. Trained by the likelihood of
    the targets. With labels, codes are averaged class by class, and the decoder gives a class's logit from f(x) and that class's
    mean (the paper's decoder reads all classes' means side by side). There is no inner loop and no rate: looking at the support
    set is one step.

    Args:
        model: ``f``, any nn.Module; its output, flattened, is the embedding of x. ``il.models.mlp(1, None, hidden=())`` hands
            the inputs on as they are. Copied, not changed.
        outputs: numbers in a target, or classes; None: as many as the model's output has.
        input_shape: of one example, where it cannot be read off the model.
        width: of the code and of all inner layers.
        encoder_layers, decoder_layers: linear layers of the two networks, with ReLU between them.
        min_sd: the least standard deviation; ``sd = min_sd + (1 - min_sd) softplus(.)`` as the authors' code. In units of y.
        score_support: the loss is over support and query examples, as in the paper; False: over the queries alone.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.
        batch_norm: policy of the model's BatchNorm layers; "running": in meta-training the statistics of the task's support
            and query examples together, in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner; adapted, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a size below 1, a negative ``min_sd``, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.cnp(il.models.mlp(1, None, hidden=()), outputs=1).eval_steps
        1

    Reference: Garnelo et al. 2018, "Conditional neural processes", arXiv:1807.01613.
    """
    features = math.prod(features_of(model, input_shape))
    outputs = checked_outputs(outputs, features, min_sd)
    encoder = layers(features + outputs, width, width, encoder_layers)
    decoder = layers(features + width, width, 2 * outputs, decoder_layers)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = ConditionalLearner(pure, outputs, loss, min_sd=min_sd, width=width, score_support=score_support)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "cnp",
        {},
        Parts(model, encoder=encoder, decoder=decoder),
        pair,
        outer=Outer(num_tasks=16, lr=5e-4, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )


def checked_outputs(outputs: int | None, features: int, min_sd: float = 0.0) -> int:
    """How many outputs there are; ConfigError for fewer than one, or for a least standard deviation that cannot be."""
    if not (math.isfinite(min_sd) and 0 <= min_sd < 1):
        raise ConfigError(
            f"min_sd expected a number from 0 to below 1, got {min_sd}; scale the targets if they vary less"
        )
    found = features if outputs is None else outputs
    if found < 1:
        raise ConfigError(f"outputs expected at least 1, got {found}; give the numbers in a target, or the classes")
    return found
