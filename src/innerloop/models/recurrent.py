"""A long short-term memory from matrix products and gates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.models.description import check_input, described, input_shape, positive


class LstmLayer(nn.Module):
    """One layer, over a whole sequence. Gates in the order input, forget, cell, output, as in torch.

    torch's own LSTM has no batching rule, so it fails under vmap.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input: nn.Linear = nn.Linear(features, 4 * hidden)
        self.from_state: nn.Linear = nn.Linear(hidden, 4 * hidden, bias=False)
        bound = 1 / math.sqrt(hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "examples time features"]) -> Float[Tensor, "examples time hidden"]:
        state = cell = x.new_zeros(x.shape[0], self.hidden)
        states = []
        for gates_in in self.from_input(x).unbind(1):
            write, keep, value, read = (gates_in + self.from_state(state)).chunk(4, -1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(value)
            state = torch.sigmoid(read) * torch.tanh(cell)
            states.append(state)
        return torch.stack(states, 1)


class Lstm(nn.Module):
    """LSTM layers and a linear layer on the last state: (examples, time, features) to (examples, outputs)."""

    def __init__(self, shape: tuple[int, ...], outputs: int | None, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = shape
        sizes = [shape[1]] + [hidden] * (layers - 1)
        self.body: nn.Sequential = nn.Sequential(*(LstmLayer(size, hidden) for size in sizes))
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(hidden, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("lstm", x, self.shape)
        return self.head(self.body(x)[:, -1])


@described
def lstm(inputs: int | Sequence[int], outputs: int | None, *, hidden: int = 40, layers: int = 1) -> Lstm:
    """A long short-term memory for sequences (Hochreiter and Schmidhuber 1997; forget gate: Gers 2000).

    Args:
        inputs: (time, features) of one sequence; a single int is refused.
        outputs: size of the output; None: no last layer, the last state comes out (an embedding).
        hidden: size of the state.
        layers: LSTM layers on top of each other.

    Shapes: (examples, time, features) to (examples, outputs), from the state after the last moment.

    Computes what `torch.nn.LSTM` computes, except that there is one bias instead of the sum of two.

    Raises:
        ConfigError: a size below 1.
        ShapeError: from the model, when sequences of another shape come in.
    """
    shape = input_shape(inputs, ("time", "features"))
    positive(outputs=1 if outputs is None else outputs, hidden=hidden, layers=layers)
    return Lstm(shape, outputs, hidden, layers)
