"""Known optimizers with hyperparameters given from outside, as numbers or tensors: what schedules learn and sweeps try."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import UpdateRule

Number = float | Tensor


@dataclasses.dataclass(frozen=True)
class Hyper:
    """Hyperparameters at one step, of one tensor; each base rule reads its own.

    Attributes:
        lr: rate.
        beta1, beta2: decays of Adam's moments.
        momentum: of the heavy ball.
        weight_decay: decoupled (Loshchilov and Hutter 2019): weights shrink by ``lr * weight_decay`` of themselves.
    """

    lr: Number
    beta1: Number = 0.9
    beta2: Number = 0.999
    momentum: Number = 0.9
    weight_decay: Number = 0.0


_EPS = 1e-8
_ALPHA = 0.99  # torch's decay of RMSprop's second moment, a rule that is swept and never differentiated
Step = tuple[Tensor, dict[str, Tensor]]  # what a number moves by times minus the rate, and what is kept


def _sgd(grad: Tensor, kept: Mapping[str, Tensor], at: Hyper) -> Step:
    del kept, at
    return grad, {}


def _momentum(grad: Tensor, kept: Mapping[str, Tensor], at: Hyper) -> Step:
    velocity = at.momentum * kept["velocity"] + grad
    return velocity, {"velocity": velocity}


def _adam(grad: Tensor, kept: Mapping[str, Tensor], at: Hyper) -> Step:
    # Bias is corrected by the product of the decays so far, since they may differ from step to step. eps stands inside the root,
    # as in `Adam`: outside, its derivative at 0 is infinite.
    m = at.beta1 * kept["m"] + (1 - at.beta1) * grad
    v = at.beta2 * kept["v"] + (1 - at.beta2) * grad.square()
    left1, left2 = at.beta1 * kept["left1"], at.beta2 * kept["left2"]
    moved = (m / (1 - left1)) / torch.sqrt(v / (1 - left2) + _EPS**2)
    return moved, {"m": m, "v": v, "left1": left1, "left2": left2}


def _rmsprop(grad: Tensor, kept: Mapping[str, Tensor], at: Hyper) -> Step:
    del at
    v = _ALPHA * kept["v"] + (1 - _ALPHA) * grad.square()
    return grad / (torch.sqrt(v) + _EPS), {"v": v}


# For each: what it keeps of a tensor (1: of each number; 0: one number that begins at 1), and its step.
BASES: dict[str, tuple[dict[str, int], Callable[[Tensor, Mapping[str, Tensor], Hyper], Step]]] = {
    "sgd": ({}, _sgd),
    "momentum": ({"velocity": 1}, _momentum),
    "adam": ({"m": 1, "v": 1, "left1": 0, "left2": 0}, _adam),
    "rmsprop": ({"v": 1}, _rmsprop),
}
BASE_RULES = ("sgd", "momentum", "adam")  # whose hyperparameters may be learned


def begin_base(base: str, params: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{kind: {parameter: tensor}} before the first step."""
    kinds = BASES[base][0]
    return {
        kind: {name: torch.zeros_like(p) if each else torch.ones_like(p.reshape(-1)[0]) for name, p in params.items()}
        for kind, each in kinds.items()
    }


def base_update(
    base: str,
    grads: Mapping[str, Tensor],
    state: Mapping[str, Mapping[str, Tensor]],
    params: Mapping[str, Tensor],
    at: Mapping[str, Hyper],
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """(new parameters, new state) with these hyperparameters for each parameter."""
    kinds, step = BASES[base]
    new: dict[str, Tensor] = {}
    after: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
    for name, p in params.items():
        here = at[name]
        moved, kept = step(grads[name], {kind: state[kind][name] for kind in kinds}, here)
        decayed = (
            p
            if isinstance(here.weight_decay, float) and here.weight_decay == 0
            else p * (1 - here.lr * here.weight_decay)
        )
        new[name] = decayed - here.lr * moved
        for kind, value in kept.items():
            after[kind][name] = value
    return new, after


@dataclasses.dataclass(frozen=True)
class Tuned(UpdateRule):
    """A known optimizer at a rate that is the learned parameter ``lr``, (): so that many rates run at once.

    Args:
        base: "sgd", "momentum" (0.9), "adam" or "rmsprop".
        lr: where ``lr`` begins.
    """

    base: str
    lr: float = 0.01

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params, generator
        return {"lr": torch.tensor(self.lr, dtype=torch.get_default_dtype())}

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Any:
        del meta
        return begin_base(self.base, params)

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
        at = Hyper(meta["lr"])
        return base_update(self.base, grads, state, params, dict.fromkeys(params, at))
