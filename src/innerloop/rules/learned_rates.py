"""Gradient descent whose rates are learned with the initialisation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule


@dataclasses.dataclass(frozen=True)
class PerParameterRates(UpdateRule):
    """Meta-SGD: ``params <- params - rate * g`` with one learned rate for each number (Li et al. 2017, arXiv:1707.09835).

    Rates may become negative, as in the paper: the rate decides direction too.

    Args:
        low, high: rates start uniform between these (the paper's 0.005 and 0.1).
    """

    low: float = 0.005
    high: float = 0.1

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        rates = {}
        for name, p in params.items():
            drawn = torch.rand(p.shape, generator=generator, dtype=torch.float64)
            rates[f"rate/{name}"] = (self.low + (self.high - self.low) * drawn).to(p.dtype).to(p.device)
        return rates

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        del meta, params
        return {}

    def update(
        self,
        meta: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: Any,
        params: Mapping[str, Tensor],
        *,
        loss: Tensor,
        step: int | Tensor,
    ) -> tuple[dict[str, Tensor], Any]:
        del loss, step
        return {name: p - meta[f"rate/{name}"] * grads[name] for name, p in params.items()}, state


@dataclasses.dataclass(frozen=True)
class PerLayerPerStepRates(UpdateRule):
    """MAML++'s learned rates: one for each parameter tensor and inner step (Antoniou et al. 2019, arXiv:1810.09502).

    Args:
        lr: where all rates start.
        steps: how many inner steps have a rate of their own; later steps (in evaluation) use the last.
        positive: learn the logarithm of each rate, so that an outer step changes a rate by a share of its size and none falls
            below 0; needs an ``lr`` above 0. Not in the paper.
        clip_norm: largest norm of the gradient of an inner step, over all tensors together, above 0; None: no bound. Not in
            the paper.
    """

    lr: float
    steps: int
    positive: bool = False
    clip_norm: float | None = None

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del generator
        kind, start = ("log_rate", math.log(self.lr)) if self.positive else ("rate", self.lr)
        return {
            f"{kind}/{n}": torch.full((self.steps,), start, dtype=p.dtype, device=p.device) for n, p in params.items()
        }

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        del meta, params
        return {}

    def update(
        self,
        meta: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: Any,
        params: Mapping[str, Tensor],
        *,
        loss: Tensor,
        step: int | Tensor,
    ) -> tuple[dict[str, Tensor], Any]:
        del loss
        row = step.clamp(max=self.steps - 1) if isinstance(step, Tensor) else min(step, self.steps - 1)
        if self.clip_norm is not None:
            squared = sum(grads[name].square().sum() for name in params)
            shrunk = torch.rsqrt((squared / self.clip_norm**2).clamp(min=1.0))  # type: ignore[union-attr]
            grads = {name: shrunk * grads[name] for name in params}
        if self.positive:
            return {name: p - meta[f"log_rate/{name}"][row].exp() * grads[name] for name, p in params.items()}, state
        return {name: p - meta[f"rate/{name}"][row] * grads[name] for name, p in params.items()}, state
