"""Policies: what an agent does, from what it sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described, positive
from innerloop.models.gated import GruLayer
from innerloop.models.perceptron import Perceptron


class GaussianPolicy(Perceptron):
    """Means from a fully connected net, then logarithms of deviations that are parameters: (examples, 2 size)."""

    def __init__(self, inputs: int, size: int, hidden: Sequence[int], activation: str, deviation: float) -> None:
        super().__init__(inputs, size, hidden, activation, False, True)
        self.log_std: nn.Parameter = nn.Parameter(torch.full((size,), math.log(deviation)))
        assert isinstance(self.head, nn.Linear)
        nn.init.orthogonal_(self.head.weight, 0.01)  # at the beginning the mean is about 0 wherever it looks
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        mean = super().forward(x)
        return torch.cat([mean, self.log_std.expand_as(mean)], -1)


@described
def gaussian_policy(
    inputs: int | Sequence[int],
    outputs: int,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: Literal["relu", "tanh", "sigmoid"] = "tanh",
    deviation: float = 1.0,
) -> GaussianPolicy:
    """A policy for continuous actions: a fully connected net for the mean, a learned deviation for each number of an action.

    Args:
        inputs: numbers in an observation.
        outputs: twice the numbers of an action: means, and logarithms of deviations.
        hidden: widths of the hidden layers.
        activation: between the layers.
        deviation: where the deviations begin.

    Shapes: (examples, inputs) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, an odd number of outputs, a deviation that is not above 0.
    """
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    positive(inputs=math.prod(shape), outputs=outputs, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    if outputs % 2:
        raise ConfigError(f"outputs expected twice the numbers of an action, an even number, got {outputs}")
    if not (math.isfinite(deviation) and deviation > 0):
        raise ConfigError(f"deviation expected a finite number above 0, got {deviation!r}")
    return GaussianPolicy(math.prod(shape), outputs // 2, hidden, activation, deviation)


class GruPolicy(nn.Module):
    """A gated recurrent unit and linear layers: (examples, time, features) to (examples, time, outputs + 1).

    What a policy with a memory is told at each moment: observation, the last action, the last reward, whether an episode ended
    with it. The last output is the value that it expects.
    """

    features: int
    hidden: int

    def __init__(self, features: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.features, self.hidden = features, hidden
        self.body: GruLayer = GruLayer(features, hidden)
        self.head: nn.Linear = nn.Linear(hidden, outputs + 1)
        nn.init.orthogonal_(self.head.weight, 0.1)  # nearly uniform at the beginning
        nn.init.zeros_(self.head.bias)

    def begin(self, examples: int, like: Tensor) -> Float[Tensor, "examples hidden"]:
        """The memory before anything was seen."""
        return like.new_zeros(examples, self.hidden)

    def forward(self, x: Shaped[Tensor, "*shape"], state: Tensor | None = None) -> Any:
        """Outputs; with a ``state`` (examples, hidden) to begin from also the state after the last moment."""
        check_input("gru_policy", x[:, 0] if x.ndim == 3 else x, (self.features,))
        states = self.body(x, self.begin(x.shape[0], x) if state is None else state)
        out = self.head(states)
        return out if state is None else (out, states[:, -1])


@described
def gru_policy(inputs: int | Sequence[int], outputs: int, *, actions: int | None = None, hidden: int = 64) -> GruPolicy:
    """A policy with a memory, for `il.rl2` (Duan 2016, who has 256 units): a GRU (Cho 2014) and a linear layer on its state.

    Args:
        inputs: numbers in an observation; beside them it is told the last action and reward, and whether an episode ended.
        outputs: what a policy gives: logits, or means and logarithms of deviations.
        actions: numbers that tell an action: of discrete ones how many there are, of continuous ones its size; None: ``outputs``.
        hidden: size of the state.

    Shapes: (examples, time, inputs + actions + 2) to (examples, time, outputs + 1); the last one is the expected value.

    Raises:
        ConfigError: a size below 1.
    """
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    actions = outputs if actions is None else actions
    positive(inputs=math.prod(shape), outputs=outputs, actions=actions, hidden=hidden)
    return GruPolicy(math.prod(shape) + actions + 2, outputs, hidden)
