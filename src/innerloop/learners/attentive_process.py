"""Attentive neural processes: each query looks at the support examples near it; a latent variable moves whole curves."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys
from innerloop.core import Meta, Task
from innerloop.learners.embedding import coded
from innerloop.learners.neural_process import GaussianLearner, Gaussians, mean_over
from innerloop.learners.predictive import counts_of
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
        self_attention: self-attention blocks behind each encoder.
        score_support: the support examples are targets too.
    """

    width: int = 128
    latent_size: int = 128
    samples: int = 0
    self_attention: int = 1
    score_support: bool = True

    def init(self, meta: Meta, task: Task) -> AttentiveFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        labels, size = not task.support.y.is_floating_point(), task.support.y.shape[0]
        rows = like.new_zeros(size, self.width)
        blank = AttentiveFast(rows, rows, like.new_zeros(self.outputs if labels else 1, size), labels=labels)
        if not self.latent_size:
            return blank
        samples = 1 if self.training else self.samples
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
        gap: Tensor | None = None
        if fast.draws is not None:
            told = self.told(y, fast.labels)
            before = self.latent_of(meta, z[:shots], told[:shots], counts_of(support, z))
            after = self.latent_of(meta, z, told, counts)
            fast = dataclasses.replace(fast, latent=after.mean + after.sd * fast.draws)
            gap = divergence(after, before)
            extra["kl"] = gap.detach()
        found = self.distribution(meta, fast, z if self.score_support else z[shots:])
        judged = both if self.score_support else query
        number = counts_of(judged, z)
        loss = self.score(found, task, judged, number)
        if gap is not None:
            loss = loss + gap / number.sum().clamp(min=1.0)
        asked = Gaussians(*(part[:, -query.y.shape[0] :] for part in found))
        return loss, {"metrics": {**self.metrics(loss, asked, task), **extra}, "buffers": buffers}
