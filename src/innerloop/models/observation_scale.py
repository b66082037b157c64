"""A policy for worlds whose observations have any size: it scales them by what it has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.models.description import described, flat_rows, positive
from innerloop.models.perceptron import Perceptron
from innerloop.models.policies import GaussianPolicy, gaussian_policy

_FAR = 10.0  # deviations from the mean that an observation counts as at most


class ObservationScale(nn.Module):
    """Observations minus a mean, over a deviation: those of all that was seen before the current outer step.

    What is seen is added up by `observe`, and used from the next `settle` on, so that a policy does not change between playing
    and learning from it. All of it is in buffers, so files and checkpoints hold it.
    """

    mean: Tensor
    deviation: Tensor
    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for name, value in (("mean", torch.zeros(size)), ("deviation", torch.ones(size)), ("count", torch.zeros(()))):
            self.register_buffer(name, value)
        for name in ("total", "squares"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples observation"]:
        flat = flat_rows("scaled_policy", x, len(self.mean))
        return ((flat - self.mean) / self.deviation).clamp(-_FAR, _FAR)

    @torch.no_grad()
    def observe(self, rows: Float[Tensor, "rows observation"]) -> None:
        """Add what was seen."""
        wide = rows.to(self.total.dtype)
        self.count += len(rows)
        self.total += wide.sum(0)
        self.squares += wide.square().sum(0)

    @torch.no_grad()
    def settle(self) -> None:
        """Scale by all that was seen so far."""
        if not float(self.count):
            return
        number = self.count.to(self.total.dtype)
        mean = self.total / number
        self.mean.copy_(mean)
        self.deviation.copy_((self.squares / number - mean.square()).clamp(min=1e-8).sqrt())


class ScaledPolicy(nn.Module):
    """`ObservationScale`, and a net after it."""

    scale: ObservationScale
    net: Perceptron

    def __init__(self, scale: ObservationScale, net: Perceptron) -> None:
        super().__init__()
        self.scale, self.net = scale, net

    @property
    def head(self) -> nn.Module:
        """The net's last layer, found by the name that every model here gives it."""
        return self.net.head

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        return self.net(self.scale(x))


@described
def scaled_policy(
    inputs: int | Sequence[int],
    outputs: int,
    *,
    gaussian: bool = False,
    hidden: Sequence[int] = (64, 64),
    activation: Literal["relu", "tanh", "sigmoid"] = "tanh",
    deviation: float = 1.0,
) -> ScaledPolicy:
    """A policy that scales observations by the mean and the deviation of what it has seen, for worlds of any units.

    `il.maml_rl` adds to these statistics with each draw of worlds, and uses them from the next one on; they travel in files.

    Args:
        inputs: numbers in an observation.
        outputs: what a policy gives: logits, or with ``gaussian`` means and logarithms of deviations.
        gaussian: for continuous actions: as `gaussian_policy`, with learned deviations.
        hidden: widths of the hidden layers.
        activation: between the layers.
        deviation: where the deviations of actions begin.

    Shapes: (examples, inputs) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, an odd number of outputs with ``gaussian``, a deviation that is not above 0.
    """
    size = inputs if isinstance(inputs, int) else math.prod(inputs)
    positive(inputs=size, outputs=outputs, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
    net: Perceptron
    if gaussian:
        gaussian_policy(size, outputs, hidden=hidden, deviation=deviation)  # its checks
        net = GaussianPolicy(size, outputs // 2, hidden, activation, deviation)
    else:
        net = Perceptron(size, outputs, hidden, activation, False, True)
    return ScaledPolicy(ObservationScale(size), net)


def scales_of(module: nn.Module) -> list[ObservationScale]:
    """The parts of a policy that scale observations."""
    return [part for part in module.modules() if isinstance(part, ObservationScale)]
