"""Gradient descent with a fixed rate, with and without momentum; differentiable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule


@dataclasses.dataclass(frozen=True)
class SGD(UpdateRule):
    """``v <- momentum v + g``, ``params <- params - lr v`` (Polyak's heavy ball, as torch.optim.SGD).

    Args:
        lr: inner rate, > 0; fixed, so it is no parameter of the learner.
        momentum: in [0, 1); 0 is plain gradient descent.
    """

    lr: float
    momentum: float = 0.0

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        del meta
        return {name: torch.zeros_like(p) for name, p in params.items()} if self.momentum else {}

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
        if self.momentum:
            state = {name: self.momentum * state[name] + grads[name] for name in params}
            grads = state
        return {name: p - self.lr * grads[name] for name, p in params.items()}, state
