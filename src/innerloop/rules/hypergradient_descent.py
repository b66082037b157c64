"""Gradient descent that moves its own rate while it trains, by the derivative of the loss by the rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule


@dataclasses.dataclass(frozen=True)
class HypergradientDescent(UpdateRule):
    """``rate <- rate + beta g . g_before``, then ``params <- params - rate g`` (SGD-HD of Baydin et al. 2018, arXiv:1703.04782).

    One rate for all parameters; it grows while gradients agree from step to step and falls where they turn round. The rate where
    it begins is a parameter named ``lr``, (), so that many can run at once, and it may be learned.

    Args:
        lr: the rate at the first step, > 0.
        beta: the rate of the rate; 0 is plain gradient descent. 1e-3, as in the paper's logistic regression.

    Differs from the paper in: a rate that would fall below 0 stays 0.
    """

    lr: float = 0.01
    beta: float = 1e-3

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params, generator
        return {"lr": torch.tensor(self.lr, dtype=torch.get_default_dtype())}

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"rate": meta["lr"], "before": {name: torch.zeros_like(p) for name, p in params.items()}}

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
        del meta, loss, step
        agreement = torch.stack([(grads[name] * g).sum() for name, g in state["before"].items()]).sum()
        rate = (state["rate"] + self.beta * agreement).clamp(min=0.0)
        new = {name: p - rate * grads[name] for name, p in params.items()}
        return new, {"rate": rate, "before": {name: grads[name] for name in params}}
