"""Networks that turn loss gradients into weights, coordinate by coordinate, and a small net that takes such weights."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

_PRECISION = 7.0  # the authors' p: gradients below exp(-p) go in by value, larger ones by logarithm and sign
_SMALL = (
    0.1  # fast weights begin this much smaller than a fresh layer's outputs, so that they do not drown the slow ones
)


def log_and_sign(gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 2"]:
    """``(log |g| / p, sign g)``, each kept within -1 and 1 for small ``g`` (Andrychowicz et al. 2016, p = 7)."""
    tiny = torch.finfo(gradient.dtype).eps
    size = (torch.log(gradient.abs() + tiny) / _PRECISION).clamp(min=-1.0)
    return torch.stack([size, (gradient * math.exp(_PRECISION)).clamp(-1.0, 1.0)], -1)


class SequenceGenerator(nn.Module):
    """An LSTM over a sequence of gradients of the same weights: (time, weights) to one number a weight."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(2, 4 * hidden)
        self.from_state = nn.Linear(hidden, 4 * hidden, bias=False)
        self.head = _small(nn.Linear(hidden, 1))

    def forward(
        self, gradients: Float[Tensor, "time weights"], counts: Bool[Tensor, " time"] | None = None
    ) -> Float[Tensor, " weights"]:
        state = cell = gradients.new_zeros(gradients.shape[1], self.hidden)
        for t, seen in enumerate(log_and_sign(gradients).unbind(0)):
            gates = self.from_input(seen) + self.from_state(state) if t else self.from_input(seen)
            among = torch.sigmoid(gates[:, : 3 * self.hidden])
            write, keep, show = among.chunk(3, -1)
            new_cell = keep * cell + write * torch.tanh(gates[:, 3 * self.hidden :])
            new_state = show * torch.tanh(new_cell)
            if counts is not None:
                new_cell, new_state = (
                    torch.where(counts[t], n, old) for n, old in ((new_cell, cell), (new_state, state))
                )
            state, cell = new_state, new_cell
        return self.head(state)[:, 0]


class Generator(nn.Module):
    """A fully connected net on each gradient alone: (*shape) to one number a weight, (*shape)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = _small(nn.Linear(hidden, 1))

    def forward(self, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.head(self.body(log_and_sign(gradient)))[..., 0]


class AugmentedNet(nn.Module):
    """Two layers, each with slow weights and, where given, a mixture of remembered fast ones; no biases.

    ``y = W2 h + W2* h`` with ``h = relu(W1 r) + relu(W1* r)``.
    """

    def __init__(self, features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden, bias=False)
        self.second = nn.Linear(hidden, outputs, bias=False)

    def forward(
        self,
        r: Float[Tensor, "examples features"],
        attention: Float[Tensor, "examples rows"] | None = None,
        first: Float[Tensor, "rows hidden features"] | None = None,
        second: Float[Tensor, "rows outputs hidden"] | None = None,
    ) -> Float[Tensor, "examples outputs"]:
        """Outputs for embeddings ``r``.

        Args:
            r: embeddings.
            attention: how much of each row of the memory each example takes.
            first, second: the memory: fast weights of both layers.
        """
        if attention is None or first is None or second is None:
            return self.second(torch.relu(self.first(r)))
        h = torch.relu(self.first(r)) + torch.relu(mixed(r, attention, first))
        return self.second(h) + mixed(h, attention, second)


def mixed(
    x: Float[Tensor, "examples inputs"],
    attention: Float[Tensor, "examples rows"],
    memory: Float[Tensor, "rows outputs inputs"],
) -> Float[Tensor, "examples outputs"]:
    """``(sum over rows of attention x memory) x``: every row's product first, so that no weights are made for each example."""
    each = (x @ memory.flatten(0, 1).mT).unflatten(-1, memory.shape[:2])
    return (attention[..., None] * each).sum(-2)


def _small(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(_SMALL)
        layer.bias.zero_()
    return layer
