"""Adam as a differentiable inner optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule


@dataclasses.dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) with fresh moments for every task.

    Differs from the paper in: eps stands inside the root, ``m / sqrt(v + eps^2)``. With eps outside, the derivative of
    sqrt at v = 0 is infinite, and one parameter whose gradient is zero turns the whole meta-gradient into NaN.

    Args:
        lr: inner rate, > 0.
        beta1: decay of the first moment; 0 in Reptile's experiments.
        beta2: decay of the second moment.
        eps: as in the paper, before squaring.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        del meta
        return {
            "m": {name: torch.zeros_like(p) for name, p in params.items()},
            "v": {name: torch.zeros_like(p) for name, p in params.items()},
        }

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
        del meta, loss
        b1, b2 = self.beta1, self.beta2
        m = {name: b1 * state["m"][name] + (1 - b1) * grads[name] for name in params}
        v = {name: b2 * state["v"][name] + (1 - b2) * grads[name].square() for name in params}
        if isinstance(step, Tensor):
            step = step.to(next(iter(params.values())).dtype)  # else the powers are in torch's default type
        scale1, scale2 = 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)
        new = {
            name: p - self.lr * (m[name] / scale1) / torch.sqrt(v[name] / scale2 + self.eps**2)
            for name, p in params.items()
        }
        return new, {"m": m, "v": v}
