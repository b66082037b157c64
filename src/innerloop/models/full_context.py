"""Embeddings that know of a whole support set, by LSTMs (Vinyals et al. 2016, arXiv:1606.04080, appendix)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LstmCell(nn.Module):
    """One step of an LSTM: (inputs, hidden, cell) to (new hidden, new cell).

    torch's own cell cannot be batched over tasks.

    Args:
        inputs: width of the inputs.
        hidden: width of the hidden state that comes in.
        units: width of the cell and of the hidden state that goes out.
    """

    def __init__(self, inputs: int, hidden: int, units: int) -> None:
        super().__init__()
        self.of_inputs = nn.Linear(inputs, 4 * units)
        self.of_hidden = nn.Linear(hidden, 4 * units, bias=False)

    def forward(
        self, x: Float[Tensor, "rows inputs"], hidden: Float[Tensor, "rows hidden"], cell: Float[Tensor, "rows units"]
    ) -> tuple[Float[Tensor, "rows units"], Float[Tensor, "rows units"]]:
        return self.gated(self.of_inputs(x), hidden, cell)

    def gated(self, given: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The same where the inputs' part of the gates, (rows, 4 units), is known."""
        enter, forget, value, leave = (given + self.of_hidden(hidden)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(value)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class SupportContext(nn.Module):
    """Embeddings of a support set that know of each other: each plus what an LSTM makes of it in either direction.

    Vinyals et al. 2016, appendix A.2. Padding is passed over: states go on as they were.

    Args:
        features: width of the embeddings.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.forwards = LstmCell(features, features, features)
        self.backwards = LstmCell(features, features, features)

    def forward(self, z: Float[Tensor, "support features"], counts: Tensor) -> Float[Tensor, "support features"]:
        rows = range(z.shape[0])
        return z + self._read(self.forwards, z, counts, rows) + self._read(self.backwards, z, counts, rows[::-1])

    def _read(self, cell: LstmCell, z: Tensor, counts: Tensor, order: range) -> Tensor:
        given = cell.of_inputs(z)
        hidden = state = torch.zeros_like(z[:1])
        found: dict[int, Tensor] = {}
        for i in order:
            new_hidden, new_state = cell.gated(given[i : i + 1], hidden, state)
            hidden = torch.where(counts[i], new_hidden, hidden)
            state = torch.where(counts[i], new_state, state)
            found[i] = hidden
        return torch.cat([found[i] for i in range(z.shape[0])])


class QueryContext(nn.Module):
    """Embeddings of queries that know of the support set: an LSTM that looks at it ``steps`` times, for each query alone.

    Vinyals et al. 2016, appendix A.1: in each step the hidden state attends to the support set by dot products; what is read
    and the hidden state together go into the next step, and the query's own embedding is added to what comes out.

    Args:
        features: width of the embeddings.
        steps: how often.
    """

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.cell = LstmCell(features, 2 * features, features)
        self.steps = steps

    def forward(
        self,
        z: Float[Tensor, "queries features"],
        support: Float[Tensor, "support features"],
        counts: Tensor,
    ) -> Float[Tensor, "queries features"]:
        given = self.cell.of_inputs(z)
        hidden = state = torch.zeros_like(z)
        for _ in range(self.steps):
            attention = torch.softmax(torch.where(counts, hidden @ support.T, -1e30), -1)
            hidden, state = self.cell.gated(given, torch.cat([hidden, attention @ support], -1), state)
            hidden = hidden + z
        return hidden
