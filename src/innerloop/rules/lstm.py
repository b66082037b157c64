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
            "lstm/weight": small(4 * self.hidden, 4 + self.hidden),
            "lstm/bias": small(4 * self.hidden),
            "gates/weight": small(2, self.hidden + 2),
            "gates/bias": torch.stack([drawn(*self.forget_bias), drawn(*self.input_bias)]),
        }

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        del meta
        like, count = next(iter(params.values())), sum(p.numel() for p in params.values())
        return {
            "hidden": like.new_zeros(self.hidden, count),
            "cell": like.new_zeros(self.hidden, count),
            "gates": like.new_zeros(2, count),
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
        del step
        theta = torch.cat([p.reshape(-1) for p in params.values()])
        grad = torch.cat([grads[name].reshape(-1) for name in params])
        # One column a number of the model, so that each gate is one piece of memory; the loss is the same for all of them.
        of_loss, of_grad, of_hidden = meta["lstm/weight"].split([2, 2, self.hidden], -1)
        same = meta["lstm/bias"] + of_loss @ preprocess(loss.reshape(1), self.p)[:, 0]
        gates = of_grad @ preprocess(grad, self.p) + of_hidden @ state["hidden"] + same[:, None]
        write, keep, read, value = gates.split(self.hidden)
        cell = keep.sigmoid() * state["cell"] + write.sigmoid() * value.tanh()
        hidden = read.sigmoid() * cell.tanh()
        of_hidden, of_theta, of_gate = meta["gates/weight"].split([self.hidden, 1, 1], -1)
        gates = of_hidden @ hidden + of_theta * theta + of_gate * state["gates"] + meta["gates/bias"][:, None]
        gates = gates.sigmoid()  # (2, numbers): what is kept of a number, and the rate of its gradient
        moved = gates[0] * theta - gates[1] * grad
        pieces = moved.split([p.numel() for p in params.values()])
        new = {name: piece.reshape(p.shape) for (name, p), piece in zip(params.items(), pieces, strict=True)}
        return new, {"hidden": hidden, "cell": cell, "gates": gates}


def preprocess(value: Float[Tensor, " numbers"], p: float) -> Float[Tensor, "two numbers"]:
    """Size and sign of numbers of very different sizes: (log|x| / p, sign x), and (-1, e^p x) where |x| is below e^-p."""
    size, smallest = value.abs(), math.exp(-p)
    large = torch.stack([size.clamp(min=smallest).log() / p, value.sign()])
    small = torch.stack([torch.full_like(value, -1.0), math.exp(p) * value])
    return torch.where(size >= smallest, large, small)
