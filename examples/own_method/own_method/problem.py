"""A problem with a model of its own: lines of random slope and offset."""

from __future__ import annotations

import torch
from torch import nn

import innerloop as il


class Cubic(nn.Module):
    """A linear layer on x, x^2 and x^3."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.head = nn.Linear(3, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([x, x**2, x**3], -1))


def cubic(inputs: int, outputs: int, *, noise: float = 0.0) -> nn.Module:
    """A linear layer on powers of one input.

    Args:
        inputs: 1.
        outputs: numbers to predict.
        noise: standard deviation of what is added to the first weights.
    """
    model = Cubic(outputs)
    with torch.no_grad():
        model.head.weight += noise * torch.randn_like(model.head.weight)
    return model


class Lines(il.TaskDistribution):
    """``y = slope x + offset`` with both normal; x uniform on [-1, 1]."""

    name, objective, metrics, input_shape, output_size = "lines", "mse", ("mse",), (1,), 1

    def __init__(self, split: str, shots: int) -> None:
        self.split, self.shots = split, shots

    def from_keys(self, keys):
        drawn = torch.stack([self._draw(int(key)) for key in keys])
        x, y = drawn[..., :1], drawn[..., 1:]
        n = self.shots
        return il.Task(il.Examples(x[:, :n], y[:, :n]), il.Examples(x[:, n:], y[:, n:]), self.objective, noise=keys)

    def _draw(self, key: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(key)
        slope, offset = torch.randn(2, generator=generator)
        x = 2 * torch.rand(self.shots + 10, 1, generator=generator) - 1
        return torch.cat([x, slope * x + offset], -1)

    def default_model(self) -> nn.Module:
        return Cubic()


def lines(*, shots: int = 5) -> il.TaskFamily:
    """Regression on lines.

    Args:
        shots: support examples of a task.
    """
    return il.TaskFamily.by_split("straight lines", lambda split: Lines(split, shots), {})
