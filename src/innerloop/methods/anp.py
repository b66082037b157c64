"""Attentive neural processes: a query's prediction reads the support examples that are like it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners import AttentiveLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.cnp import checked_outputs
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.cross_attention import AttentionBlock, CrossAttention, drawn_by_glorot, layers


@method(
    classification={"score_support": False, "latent": False, "self_attention": 0, "init": "glorot"},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "equivariant": True,
        "training": {"steps": 200, "outer_lr": 0.003},
        "options": {"width": 32, "heads": 4, "self_attention": 0},
        "memory": "one pass",
        "derivatives": "1",
    },
)
def anp(
    model: nn.Module,
    *,
    outputs: int | None = None,
    input_shape: Sequence[int] | None = None,
    width: int = 128,
    heads: int = 8,
    encoder_layers: int = 4,
    key_layers: int = 2,
    decoder_layers: int = 3,
    self_attention: int = 1,
    latent: bool = True,
    samples: int = 0,
    min_sd: float = 0.1,
    score_support: bool = True,
    init: Literal["torch", "glorot"] = "torch",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Attentive neural processes: a neural process whose queries attend to the support examples, with a latent variable.

    ``code_i`` is an encoder of (f(x_i), y_i); a query reads ``r = attention(f(x), f(x_i), code_i)`` and a latent variable
    ``u ~ q(u | support)``; ``(mean, sd) = decoder(f(x), r, u)``. Trained by the evidence lower bound: u is drawn from
    ``q(u | support and query)``, and ``KL(q(u | support and query) || q(u | support)) / targets`` is added to minus the mean log
    density of the targets, which are the support and the query examples. With labels, of which the paper has none, attention
    goes over one class's examples at a time, and the decoder gives that class's logit.

    Args:
        model: ``f``, any nn.Module; its output, flattened, is the embedding of x. ``il.models.mlp(1, None, hidden=())`` hands
            the inputs on as they are. Copied, not changed.
        outputs: numbers in a target, or classes; None: as many as the model's output has.
        input_shape: of one example, where it cannot be read off the model.
        width: of codes, keys, the latent variable and all inner layers; a multiple of ``heads``.
        heads: of every attention.
        encoder_layers, key_layers, decoder_layers: linear layers of the encoders, of what queries and keys go through before they
            are compared, and of the decoder.
        self_attention: self-attention blocks behind each encoder; the paper's figure has them, its notebook for curves has none.
        latent: False: no latent variable, so no bound and no noise: an attentive conditional neural process.
        samples: how many values of the latent variable a prediction averages over, drawn from the task's key; 0: its mean.
        min_sd: the least standard deviation; ``sd = min_sd + (1 - min_sd) softplus(.)`` as the authors' code. In units of y.
        score_support: the targets are the support and the query examples, as in the paper; False: the queries alone.
        init: how the weights of the method's networks are drawn: "torch" as PyTorch does, "glorot" so that outputs vary as much
            as inputs, as the authors' code does: on labels it learns far sooner, on curves it does not.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.
        batch_norm: policy of the model's BatchNorm layers; "running": in meta-training the statistics of the task's support
            and query examples together, in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner; adapted, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.anp(il.models.mlp(1, None, hidden=()), outputs=1).eval_steps
        1

    Reference: Kim et al. 2019, "Attentive neural processes", arXiv:1901.05761.
    """
    features = math.prod(features_of(model, input_shape))
    outputs = checked_outputs(outputs, features, min_sd)
    for what, value in (("samples", samples), ("self_attention", self_attention)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"{what} expected an integer of at least 0, got {value!r}")
    if init not in ("torch", "glorot"):
        raise ConfigError(f"init expected 'torch' or 'glorot', got {init!r}")
    size = width if latent else 0

    def blocks() -> nn.ModuleList:
        return nn.ModuleList(AttentionBlock(width, heads, width) for _ in range(self_attention))

    networks: dict[str, nn.Module] = {
        "encoder": layers(features + outputs, width, width, encoder_layers),
        "encoder_blocks": blocks(),
        "keys": layers(features, width, width, key_layers),
        "attention": CrossAttention(width, heads),
        "decoder": layers(features + width + size, width, 2 * outputs, decoder_layers),
    }
    if latent:
        networks["latent_encoder"] = layers(features + outputs, width, width, encoder_layers)
        networks["latent_encoder_blocks"] = blocks()
        networks["latent_head"] = layers(width, width, 2 * width, 2)

    if init == "glorot":
        for network in networks.values():
            drawn_by_glorot(network)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = AttentiveLearner(
            pure,
            outputs,
            loss,
            min_sd=min_sd,
            width=width,
            latent_size=size,
            samples=samples,
            self_attention=self_attention,
            score_support=score_support,
        )
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "anp",
        {},
        Parts(model, **networks),
        pair,
        outer=Outer(num_tasks=16, lr=5e-4, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
