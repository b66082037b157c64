"""Learners whose answer for a query is a normal distribution, or an even mixture of a few."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from innerloop.learners.predictive import PredictiveLearner, gaussian_log_density


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
