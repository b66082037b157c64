"""Adam as a differentiable inner optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule

# Names of what goes on from task to task.
_MOMENT, _COUNT = "second_moment/", "second_moments_of"


@dataclasses.dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) with fresh moments for every task.

    Second moments of earlier tasks (`Adam.kept`), where `init` finds them beside the learned parameters, go on instead, with
    the number of updates that made them; the first moment begins anew.

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

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Any]:
        state: dict[str, Any] = {
            "m": {name: torch.zeros_like(p) for name, p in params.items()},
            "v": {name: meta.get(_MOMENT + name, torch.zeros_like(p)) for name, p in params.items()},
        }
        if _COUNT in meta:
            state["count"] = meta[_COUNT]
        return state

    def kept(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """What of a state goes on in another task: second moments, and of how many updates they are."""
        return {_COUNT: state["count"], **{_MOMENT + name: v for name, v in state["v"].items()}}

    def kept_at_first(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same before the first task: zeros."""
        # At least float32, which counts to 16 million; by then the correction has long been 1.
        some = next(iter(params.values()))
        zero = torch.zeros((), dtype=torch.promote_types(some.dtype, torch.float32), device=some.device)
        return {_COUNT: zero, **{_MOMENT + name: torch.zeros_like(p) for name, p in params.items()}}

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
        before = state.get("count", step)  # updates of the second moments
        scale1, scale2 = 1 - b1 ** (step + 1), 1 - b2 ** (before + 1)
        new = {
            name: p - self.lr * (m[name] / scale1) / torch.sqrt(v[name] / scale2 + self.eps**2)
            for name, p in params.items()
        }
        return new, {"m": m, "v": v, **({"count": before + 1} if "count" in state else {})}
