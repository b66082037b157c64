"""Neural processes: the support set becomes a representation, and a decoder gives a distribution at any input."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Meta, Task
from innerloop.learners.embedding import coded
from innerloop.learners.predictive import PredictiveLearner, counts_of, gaussian_log_density
from innerloop.records import record, static


class Gaussians(NamedTuple):
    """An even mixture of normal distributions for each query; one sample is a plain normal distribution."""

    mean: Float[Tensor, "samples query outputs"]
    sd: Float[Tensor, "samples query outputs"]


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianLearner(PredictiveLearner):
    """A decoder's output read as mean and standard deviation, ``sd = min_sd + (1 - min_sd) softplus``; or as logits."""

    min_sd: float = 0.1

    def gaussians(self, raw: Float[Tensor, "samples query both"]) -> Gaussians:
        """The decoder's output, taken apart."""
        return Gaussians(
            raw[..., : self.outputs], self.min_sd + (1 - self.min_sd) * F.softplus(raw[..., self.outputs :])
        )

    def outputs_of(self, found: Gaussians, labels: bool) -> Tensor:
        if labels and found.mean.shape[0] > 1:
            return torch.logsumexp(torch.log_softmax(found.mean, -1), 0) - math.log(found.mean.shape[0])
        return found.mean.mean(0)

    def std_of(self, found: Gaussians) -> Tensor:
        apart = (found.mean - found.mean.mean(0)).square()
        return (found.sd.square() + apart).mean(0).sqrt()

    def density_of(self, found: Gaussians, y: Tensor) -> Tensor:
        each = gaussian_log_density(y.expand_as(found.mean), found.mean, found.sd)
        return each[0] if each.shape[0] == 1 else torch.logsumexp(each, 0) - math.log(each.shape[0])


def mean_over(values: Float[Tensor, "examples width"], counts: Float[Tensor, " examples"]) -> Float[Tensor, " width"]:
    """The mean of the rows that count; zeros where none does."""
    return counts @ values / counts.sum().clamp(min=1.0)


@record
class ConditionalFast:
    """What a conditional neural process knows of a task.

    Attributes:
        r: (1, width) the mean of the support examples' codes, or (classes, width) that of each class; zeros before the
            first step, and for a class without support.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    r: Tensor
    step: int = static(0)
    labels: bool = static(False)


@dataclasses.dataclass(frozen=True, eq=False)
class ConditionalLearner(GaussianLearner):
    """``r = mean of encoder(z, y)`` over the support set; the decoder reads a query's z and r.

    Labels are averaged class by class; the decoder reads z and one class's mean at a time, and gives the logit of that class.

    Args:
        width: of r.
        score_support: the loss is over the support examples too.
    """

    width: int = 128
    score_support: bool = True

    def init(self, meta: Meta, task: Task) -> ConditionalFast:
        labels = not task.support.y.is_floating_point()
        like = next(p for p in meta.params.values() if p.is_floating_point())
        return ConditionalFast(like.new_zeros(self.outputs if labels else 1, self.width), 0, labels)

    def look(self, meta: Meta, fast: ConditionalFast, z: Tensor, y: Tensor, counts: Tensor) -> ConditionalFast:
        # A class's mean says which class it is by its place: its examples' codes need not.
        codes = self.net(meta, "encoder", torch.cat([z, torch.zeros_like(y) if fast.labels else y], -1))
        weight = (y if fast.labels else torch.ones_like(y[:, :1])) * counts[:, None]
        r = weight.T @ codes / weight.sum(0).clamp(min=1.0)[:, None]
        return dataclasses.replace(fast, r=r, step=1)

    def distribution(self, meta: Meta, fast: ConditionalFast, z: Tensor) -> Gaussians:
        pairs = torch.cat([z[:, None].expand(-1, fast.r.shape[0], -1), fast.r.expand(z.shape[0], *fast.r.shape)], -1)
        raw = self.net(meta, "decoder", pairs.flatten(0, 1)).reshape(*pairs.shape[:2], -1)
        if fast.labels:
            logits = raw[None, ..., 0]
            return Gaussians(logits, torch.ones_like(logits))
        return self.gaussians(raw.transpose(0, 1))

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        both, z, buffers = self.sides_of(meta, task)
        support, query, shots = task.support, task.query, task.support.y.shape[0]
        fast = self.init(meta, task)
        fast = self.look(meta, fast, z[:shots], coded(support.y, self.outputs, z), counts_of(support, z))
        found = self.distribution(meta, fast, z if self.score_support else z[shots:])
        asked = Gaussians(*(part[:, -query.y.shape[0] :] for part in found))
        judged = both if self.score_support else query
        loss = self.score(found, task, judged, counts_of(judged, z))
        return loss, {"metrics": self.metrics(loss, asked, task), "buffers": buffers}
