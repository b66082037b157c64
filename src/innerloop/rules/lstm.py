"""An LSTM cell as the update rule: the fast parameters are its cell state (Ravi and Larochelle 2017)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import UpdateRule

_FEATURES = 4  # gradient and loss, each preprocessed to two numbers


@dataclasses.dataclass(frozen=True)
class LSTMRule(UpdateRule):
    """``params <- forget * params - input * grad`` with both gates from a two-layer LSTM, the same one for every number.

    The first layer is an LSTM that sees the preprocessed gradient and loss, with a state of its own for each number. The
    second has one cell a number, the parameter itself: its gates see the first layer's output, the parameter, and the gate's
    value at the step before. The gradients are those it is given: pair it with first order, as in the paper.

    Args:
        hidden: size of the first layer (the authors' 20).
        p: preprocessing scale (Andrychowicz et al. 2016, arXiv:1606.04474, appendix A: 10).
        forget_bias: the forget gate's bias starts uniform between these (the authors' code), so gates start at 0.98 to 0.998.
        input_bias: likewise the input gate's, so the first rates are 0.007 to 0.018.
        spread: all other weights start uniform between minus and plus this.
    """

    hidden: int = 20
    p: float = 10.0
    forget_bias: tuple[float, float] = (4.0, 6.0)
    input_bias: tuple[float, float] = (-5.0, -4.0)
    spread: float = 0.01

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        like = next(iter(params.values()))

        def drawn(low: float, high: float, *shape: int) -> Tensor:
            numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
            return (low + (high - low) * numbers).to(like.dtype).to(like.device)

        def small(*shape: int) -> Tensor:
            return drawn(-self.spread, self.spread, *shape)

        return {
            "lstm/weight": small(4 * self.hidden, _FEATURES + self.hidden),
            "lstm/bias": small(4 * self.hidden),
            "forget/weight": small(self.hidden + 2),
            "forget/bias": drawn(*self.forget_bias),
            "input/weight": small(self.hidden + 2),
            "input/bias": drawn(*self.input_bias),
        }

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        del meta
        like, count = next(iter(params.values())), sum(p.numel() for p in params.values())
        return {
            "hidden": like.new_zeros(count, self.hidden),
            "cell": like.new_zeros(count, self.hidden),
            "gates": like.new_zeros(count, 2),
        }

    def update(
        self,
        meta: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: Any,
        params: Mapping[str, Tensor],
        *,
        loss: Tensor,
        step: int,
    ) -> tuple[dict[str, Tensor], Any]:
        del step
        theta = torch.cat([p.reshape(-1) for p in params.values()])
        grad = torch.cat([grads[name].reshape(-1) for name in params])
        seen = preprocess(torch.cat([grad, loss.reshape(1)]), self.p)
        inputs = torch.cat([seen[:-1], seen[-1:].expand(len(theta), -1), state["hidden"]], -1)
        write, keep, value, read = torch.nn.functional.linear(inputs, meta["lstm/weight"], meta["lstm/bias"]).chunk(
            4, -1
        )
        cell = torch.sigmoid(keep) * state["cell"] + torch.sigmoid(write) * torch.tanh(value)
        hidden = torch.sigmoid(read) * torch.tanh(cell)
        forget, rate = (
            torch.sigmoid(
                hidden @ meta[f"{gate}/weight"][:-2]
                + theta * meta[f"{gate}/weight"][-2]
                + state["gates"][:, i] * meta[f"{gate}/weight"][-1]
                + meta[f"{gate}/bias"]
            )
            for i, gate in enumerate(("forget", "input"))
        )
        moved = forget * theta - rate * grad
        pieces = moved.split([p.numel() for p in params.values()])
        new = {name: piece.reshape(p.shape) for (name, p), piece in zip(params.items(), pieces, strict=True)}
        return new, {"hidden": hidden, "cell": cell, "gates": torch.stack([forget, rate], -1)}


def preprocess(value: Float[Tensor, " numbers"], p: float) -> Float[Tensor, "numbers 2"]:
    """Size and sign of numbers of very different sizes: (log|x| / p, sign x), and (-1, e^p x) where |x| is below e^-p."""
    size = value.abs()
    smallest = math.exp(-p)
    large = torch.stack([size.clamp(min=smallest).log() / p, value.sign()], -1)
    small = torch.stack([-torch.ones_like(value), math.exp(p) * value], -1)
    return torch.where((size >= smallest)[:, None], large, small)
