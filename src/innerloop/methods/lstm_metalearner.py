"""The LSTM meta-learner: an LSTM cell whose state is the learner's parameters trains the learner.

The update rule and the factory. Ravi and Larochelle 2017, "Optimization as a model for few-shot learning", ICLR, openreview
rJY0-Kcll.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import UpdateRule
from innerloop.errors import ConfigError, expect_whole
from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, gradient_method, method


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
        if len({p.dtype for p in params.values()}) > 1:
            raise ConfigError(
                "lstm_metalearner reads all adapted parameters in one row, so it expected one dtype, got "
                f"{', '.join(sorted({str(p.dtype) for p in params.values()}))}; cast the model (model.float())"
            )

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


@method(
    newer=("input_bias",),
    declares={
        "adds_parameters": True,
        "training": {"steps": 50, "outer_lr": 0.01},
        "options": {"inner_steps": 5},
        "derivatives": "1",
    },
)
def lstm_metalearner(
    model: nn.Module,
    *,
    inner_steps: int = 12,
    eval_steps: int | None = None,
    hidden: int = 20,
    input_bias: Sequence[float] = (-5.0, -4.0),
    loss: LossArgument = None,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = True,
) -> MetaLearner:
    """The LSTM meta-learner: ``fast = f * fast - i * grad L_support(fast)`` with learned gates f and i.

    The gates come from a two-layer LSTM that sees, for every number of the model by itself, its gradient, the loss, its value
    and the gates before; its weights are shared by all numbers. Its initial cell state is the initialisation, so that is
    learned too. It starts close to gradient descent with a rate of 0.01. The gradients of the inner loop are taken as
    constants in the outer derivative.

    Args:
        inner_steps: inner steps in meta-training (the paper's 12 for 1 shot; it has 5 for 5 shots).
        hidden: size of the LSTM's first layer (the authors' 20); a task keeps twice as many numbers for each of the model's.
        input_bias: (low, high) between which the input gate's bias starts: first rates of 0.007 to 0.018 as
            the authors'; with few inner steps higher ones learn sooner, (-2, -1) has rates of 0.12 to 0.27.
        inductive: in evaluation, predict queries one at a time beside the support set (the paper's statistics are those of the
            support set, never of other tasks).

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Example:
        >>> import innerloop as il
        >>> il.lstm_metalearner(il.models.mlp(1, 1)).inner_steps
        12

    Reference: Ravi and Larochelle 2017, "Optimization as a model for few-shot learning", ICLR, openreview rJY0-Kcll.
    """
    expect_whole("hidden", hidden)
    bias = tuple(input_bias)
    if len(bias) != 2 or not all(map(math.isfinite, bias)) or bias[0] > bias[1]:
        raise ConfigError(f"input_bias expected two finite numbers, low then high, got {input_bias!r}")
    return gradient_method(
        model,
        rule=LSTMRule(hidden, input_bias=(float(bias[0]), float(bias[1]))),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=functools.partial(Backprop, first_order=True),
        outer=Outer(num_tasks=1),
    )
