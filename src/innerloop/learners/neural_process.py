"""Neural processes: the support set becomes a representation, and a decoder gives a distribution at any input."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Meta, Task, record, static
from innerloop.learners.predictive import PredictiveLearner, counts_of, gaussian_log_density


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
        return Gaussians(raw[..., : self.outputs], self.min_sd + (1 - self.min_sd) * F.softplus(raw[..., self.outputs :]))

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
        r: (width,) the mean of the support examples' codes; zeros before the first step.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    r: Tensor
    step: int = static(0)
    labels: bool = static(False)


@dataclasses.dataclass(frozen=True, eq=False)
class ConditionalLearner(GaussianLearner):
    """``r = mean of encoder(z, y)`` over the support set; the decoder reads a query's z and r.

    Args:
        width: of r.
        score_support: the loss is over the support examples too.
    """

    width: int = 128
    score_support: bool = True

    def init(self, meta: Meta, task: Task) -> ConditionalFast:
        like = next(iter(meta.params.values()))
        return ConditionalFast(like.new_zeros(self.width), 0, not task.support.y.is_floating_point())

    def look(self, meta: Meta, fast: ConditionalFast, z: Tensor, y: Tensor, counts: Tensor) -> ConditionalFast:
        codes = self.net(meta, "encoder", torch.cat([z, y], -1))
        return dataclasses.replace(fast, r=mean_over(codes, counts), step=1)

    def distribution(self, meta: Meta, fast: ConditionalFast, z: Tensor) -> Gaussians:
        r = fast.r.expand(z.shape[0], -1)
        return self.gaussians(self.net(meta, "decoder", torch.cat([z, r], -1))[None])

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        both, z, buffers = self.embed_both(meta, task)
        support, query, shots = task.support, task.query, task.support.y.shape[0]
        fast = self.init(meta, task)
        fast = self.look(meta, fast, z[:shots], self.coded(support.y, z), counts_of(support, z))
        found = self.distribution(meta, fast, z if self.score_support else z[shots:])
        asked = Gaussians(*(part[:, -query.y.shape[0] :] for part in found))
        judged = both if self.score_support else query
        loss = self.score(found, task, judged, counts_of(judged, z))
        return loss, {"metrics": self.metrics(loss, asked, task), "buffers": buffers}
