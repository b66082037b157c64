"""ANP, attentive neural processes: each query reads the support examples near it; a latent variable moves whole curves.

The latent variable, the learner and the factory; its networks are plain layers and `models.cross_attention`. Kim et al. 2019,
"Attentive neural processes", arXiv:1901.05761.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded
from innerloop.learners.gaussian import GaussianLearner, Gaussians
from innerloop.learners.predictive import counts_of, gaussian_log_density
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, checked_outputs, method
from innerloop.models.cross_attention import (
    AttentionBlock,
    CrossAttention,
    ResidualAttention,
    drawn_by_glorot,
    layers,
)
from innerloop.objectives import losses
from innerloop.records import record, static

_LATENT = 42  # keeps the draws of the latent variable apart from what else draws from a task's key


class Latent(NamedTuple):
    """A normal distribution of the latent variable."""

    mean: Float[Tensor, " latent"]
    sd: Float[Tensor, " latent"]


def divergence(q: Latent, p: Latent) -> Float[Tensor, ""]:
    """KL(q || p) of independent normal distributions, in nats."""
    ratio = (q.sd / p.sd).square()
    return 0.5 * (ratio + ((q.mean - p.mean) / p.sd).square() - 1 - ratio.log()).sum()


@record
class AttentiveFast:
    """What an attentive neural process knows of a task.

    Attributes:
        keys: (support, width) what queries are compared with; zeros before the first step.
        codes: (support, width) what they then read.
        members: (1, support) 1 for an example that was seen, 0 for padding and before the first step; or (classes, support), 1
            for an example of that class.
        draws: (samples, latent) standard normal numbers, or zeros for the mean; None without a latent variable.
        latent: (samples, latent) the values of the latent variable.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    keys: Tensor
    codes: Tensor
    members: Tensor
    draws: Tensor | None = None
    latent: Tensor | None = None
    step: int = static(0)
    labels: bool = static(False)


@dataclasses.dataclass(frozen=True, eq=False)
class AttentiveLearner(GaussianLearner):
    """``decoder(z, attention of z over the support examples' codes, latent variable)``.

    With labels, attention goes over the examples of one class at a time, and the decoder gives the logit of that class.

    Args:
        width: of keys and codes.
        latent_size: numbers in the latent variable; 0: there is none.
        samples: how many values of it a prediction averages over; 0: its mean alone.
        train_samples: how many values of it the bound is of, see `anp`.
        self_attention: self-attention blocks behind each encoder.
        score_support: the support examples are targets too.
    """

    width: int = 128
    latent_size: int = 128
    samples: int = 0
    self_attention: int = 1
    score_support: bool = True
    train_samples: int = 1

    def init(self, meta: Meta, task: Task) -> AttentiveFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        labels, size = not task.support.y.is_floating_point(), task.support.y.shape[0]
        rows = like.new_zeros(size, self.width)
        blank = AttentiveFast(rows, rows, like.new_zeros(self.outputs if labels else 1, size), labels=labels)
        if not self.latent_size:
            return blank
        samples = self.train_samples if self.training else self.samples
        draws = like.new_zeros(max(samples, 1), self.latent_size)
        if samples and task.noise is not None:
            draws = keys.normal(task.noise, draws.shape, _LATENT, like.dtype)
        belief = self.belief(meta, like.new_zeros(self.width))
        return dataclasses.replace(blank, draws=draws, latent=belief.mean + belief.sd * draws)

    def look(self, meta: Meta, fast: AttentiveFast, z: Tensor, y: Tensor, counts: Tensor) -> AttentiveFast:
        seen = self.attended(meta, fast, z, y, counts)
        if fast.draws is None:
            return seen
        belief = self.latent_of(meta, z, self.told(y, fast.labels), counts)
        return dataclasses.replace(seen, latent=belief.mean + belief.sd * fast.draws)

    def attended(self, meta: Meta, fast: AttentiveFast, z: Tensor, y: Tensor, counts: Tensor) -> AttentiveFast:
        """The support set as attention reads it; the latent variable as it was."""
        members = y.T * counts if fast.labels else counts[None]
        codes = self.encoded(meta, "encoder", z, self.told(y, fast.labels), counts)
        return dataclasses.replace(fast, keys=self.net(meta, "keys", z), codes=codes, members=members, step=1)

    def told(self, y: Tensor, labels: bool) -> Tensor:
        """Targets as the encoders read them: which class an example is of is said by where it counts, not here."""
        return torch.zeros_like(y) if labels else y

    def encoded(self, meta: Meta, part: str, z: Tensor, y: Tensor, counts: Tensor) -> Float[Tensor, "examples width"]:
        """Codes of examples, each of which has looked at the others."""
        codes = self.net(meta, part, torch.cat([z, y], -1))
        for i in range(self.self_attention):
            codes = self.net(meta, f"{part}_blocks.{i}", codes, codes, counts)
        return codes

    def latent_of(self, meta: Meta, z: Tensor, y: Tensor, counts: Tensor) -> Latent:
        """What examples say of the latent variable."""
        return self.belief(meta, mean_over(self.encoded(meta, "latent_encoder", z, y, counts), counts))

    def belief(self, meta: Meta, mean_code: Tensor) -> Latent:
        """The latent variable's distribution, ``sd = 0.1 + 0.9 sigmoid`` as the authors' code."""
        mean, raw = self.net(meta, "latent_head", mean_code[None])[0].split(self.latent_size)
        return Latent(mean, 0.1 + 0.9 * torch.sigmoid(raw))

    def distribution(self, meta: Meta, fast: AttentiveFast, z: Tensor) -> Gaussians:
        r = self.net(meta, "attention", self.net(meta, "keys", z), fast.keys, fast.codes, fast.members)
        known = torch.cat([z.expand(r.shape[0], *z.shape), r], -1).transpose(0, 1)[None]  # (1, queries, groups, ...)
        if fast.latent is not None:
            shape = (fast.latent.shape[0], *known.shape[1:3])
            known = torch.cat([known.expand(*shape, -1), fast.latent[:, None, None].expand(*shape, -1)], -1)
        raw = self.net(meta, "decoder", known.flatten(0, 2)).reshape(*known.shape[:3], -1)
        if fast.labels:
            logits = raw[..., 0]
            return Gaussians(logits, torch.ones_like(logits))
        return self.gaussians(raw[:, :, 0])

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """Minus the evidence lower bound, divided by the number of targets."""
        del outer_step
        both, z, buffers = self.sides_of(meta, task)
        support, query, shots = task.support, task.query, task.support.y.shape[0]
        y, counts = coded(both.y, self.outputs, z), counts_of(both, z)
        fast = self.attended(meta, self.init(meta, task), z[:shots], y[:shots], counts_of(support, z))
        extra: dict[str, Tensor] = {}
        beliefs: tuple[Latent, Latent] | None = None
        if fast.draws is not None:
            told = self.told(y, fast.labels)
            before = self.latent_of(meta, z[:shots], told[:shots], counts_of(support, z))
            after = self.latent_of(meta, z, told, counts)
            fast = dataclasses.replace(fast, latent=after.mean + after.sd * fast.draws)
            beliefs = before, after
        found = self.distribution(meta, fast, z if self.score_support else z[shots:])
        judged = both if self.score_support else query
        number = counts_of(judged, z)
        if beliefs is None or self.train_samples == 1:
            loss = self.score(found, task, judged, number)
        else:
            loss = -self.weighted_bound(found, task, judged, number, fast, beliefs) / number.sum().clamp(min=1.0)
        if beliefs is not None:
            gap = divergence(beliefs[1], beliefs[0])
            extra["kl"] = gap.detach()
            if self.train_samples == 1:
                loss = loss + gap / number.sum().clamp(min=1.0)
        asked = Gaussians(*(part[:, -query.y.shape[0] :] for part in found))
        return loss, {"metrics": {**self.metrics(loss, asked, task), **extra}, "buffers": buffers}

    def weighted_bound(
        self,
        found: Gaussians,
        task: Task,
        side: Examples,
        counts: Tensor,
        fast: AttentiveFast,
        beliefs: tuple[Latent, Latent],
    ) -> Float[Tensor, ""]:
        """``log mean_k p(targets | u_k) p(u_k) / q(u_k)``, for values u_k drawn from q; p and q are the two beliefs."""
        if side.y.is_floating_point() and losses.short_form(task.objective) not in (None, "mse", losses.mse):
            raise ConfigError(
                "train_samples above 1 expected targets judged by their density, got a loss; leave it out"
            )
        assert fast.latent is not None
        each = [self.judged(Gaussians(mean[None], sd[None]), side.y) for mean, sd in zip(*found, strict=True)]
        likely = (torch.stack(each) * counts).sum(-1)
        before, after = (log_density(fast.latent, belief) for belief in beliefs)
        return torch.logsumexp(likely + before - after, 0) - math.log(self.train_samples)


def log_density(u: Float[Tensor, "samples latent"], of: Latent) -> Float[Tensor, " samples"]:
    """Of values of the latent variable, in nats."""
    return gaussian_log_density(u, of.mean.expand_as(u), of.sd.expand_as(u))


def mean_over(values: Float[Tensor, "examples width"], counts: Float[Tensor, " examples"]) -> Float[Tensor, " width"]:
    """The mean of the rows that count; zeros where none does."""
    return counts @ values / counts.sum().clamp(min=1.0)


@method(
    classification={"score_support": False, "latent": False, "self_attention": 0, "init": "glorot"},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    newer=("train_samples", "residual"),
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "equivariant": True,
        "training": {"steps": 200, "outer_lr": 0.003},
        "options": {"width": 32, "heads": 4, "self_attention": 0},
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
    train_samples: int = 1,
    residual: bool = False,
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
        width: of codes, keys, the latent variable and all inner layers; a multiple of ``heads``.
        heads: of every attention.
        encoder_layers, key_layers, decoder_layers: linear layers of the encoders, of what queries and keys go through before they
            are compared, and of the decoder.
        self_attention: self-attention blocks behind each encoder; the paper's figure has them, its notebook for curves has none.
        latent: False: no latent variable, so no bound and no noise: an attentive conditional neural process.
        samples: how many values of the latent variable a prediction averages over, drawn from the task's key; 0: its mean.
        train_samples: how many values of the latent variable training draws; more than 1: the importance-weighted bound
            (Burda et al. 2016, arXiv:1509.00519) in place of the evidence lower bound, as Nguyen and Grover 2022 train.
        residual: what a query reads is added to the query and normalised, and a layer behind it likewise, as in the code of
            Nguyen and Grover 2022 (arXiv:2207.04179).
        min_sd: the least standard deviation; ``sd = min_sd + (1 - min_sd) softplus(.)`` as the authors' code. In units of y.
        score_support: the targets are the support and the query examples, as in the paper; False: the queries alone.
        init: how the weights of the method's networks are drawn: "torch" as PyTorch does, "glorot" so that outputs vary as much
            as inputs, as the authors' code does: on labels it learns far sooner, on curves it does not.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.

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
        expect_whole(what, value, 0)
    if init not in ("torch", "glorot"):
        raise ConfigError(f"init expected 'torch' or 'glorot', got {init!r}")
    expect_whole("train_samples", train_samples)
    if train_samples > 1 and (loss is not None or not latent):
        what = "no latent variable" if not latent else "a loss of its own"
        raise ConfigError(f"train_samples={train_samples} expected a bound on the likelihood, got {what}; leave it out")
    size = width if latent else 0

    def blocks() -> nn.ModuleList:
        return nn.ModuleList(AttentionBlock(width, heads, width) for _ in range(self_attention))

    networks: dict[str, nn.Module] = {
        "encoder": layers(features + outputs, width, width, encoder_layers),
        "encoder_blocks": blocks(),
        "keys": layers(features, width, width, key_layers),
        "attention": (ResidualAttention if residual else CrossAttention)(width, heads),
        "decoder": layers(features + width + size, width, 2 * outputs, decoder_layers),
    }
    if latent:
        networks["latent_encoder"] = layers(features + outputs, width, width, encoder_layers)
        networks["latent_encoder_blocks"] = blocks()
        networks["latent_head"] = layers(width, width, 2 * width, 2)

    if init == "glorot":
        for network in networks.values():
            drawn_by_glorot(network)

    return backprop_method(
        "anp",
        Parts(model, **networks),
        lambda pure: AttentiveLearner(
            pure,
            outputs,
            loss,
            min_sd=min_sd,
            width=width,
            latent_size=size,
            samples=samples,
            self_attention=self_attention,
            score_support=score_support,
            train_samples=train_samples,
        ),
        outer=Outer(num_tasks=16, lr=5e-4, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
