"""A recurrent controller with an external memory: written where it is least used, read by similarity."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from innerloop.records import record

_SHARPNESS = 10.0
_TINY = 1e-8  # under the roots of squared lengths: an empty row is similar to nothing


@record
class MemoryState:
    """What the network carries from one example to the next; any axes may lead.

    Attributes:
        memory: (..., rows, columns).
        read_weights: (..., heads, rows) of the last reading; they sum to 1 for each head, or are 0 before the first.
        usage: (..., rows) how much each row was read and written, with the past counting less and less.
        reads: (..., heads * columns) what the heads read last.
        hidden: (..., units) the controller's output.
        cell: (..., units) its cell.
    """

    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    reads: Tensor
    hidden: Tensor
    cell: Tensor


class ExternalMemory(nn.Module):
    """The network of Santoro et al. 2016 (arXiv:1605.06065): an LSTM, a memory, heads that read it and write to it.

    One step, with the paper's names::

        h, c      = LSTM([x, r], h, c)                                r: what was read in the step before
        k, g      = tanh(W_k h), sigmoid(W_g h)                       a key and a gate for each head
        w_w       = g w_r + (1 - g) w_lu                              w_r of the step before; w_lu: its least used rows
        M         = M with its least used row emptied + w_w^T k
        w_r       = softmax(s cosine(k, M))
        w_u       = usage_decay w_u + sum of w_r + sum of w_w         sums over heads
        r         = w_r M
        output    = W_o [h, r]

    The head number i writes to the i-th least used row. The sharpness ``s`` is 1 in the paper, and is learned here for each
    head and step (``1 + softplus``) where ``sharpen`` says so.

    Args:
        features: of an input, the label shown with it included.
        outputs: of a prediction.
        units: of the controller.
        rows, columns: of the memory.
        heads: how many.
        usage_decay: the paper's gamma.
        sharpen: learn how sharply to read.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        units: int,
        rows: int,
        columns: int,
        heads: int,
        usage_decay: float,
        sharpen: bool,
    ) -> None:
        super().__init__()
        self.units, self.rows, self.columns, self.heads = units, rows, columns, heads
        self.usage_decay, self.sharpen = usage_decay, sharpen
        self.from_input = nn.Linear(features, 4 * units)
        self.from_state = nn.Linear(units + heads * columns, 4 * units, bias=False)
        self.to_heads = nn.Linear(units, heads * (columns + (2 if sharpen else 1)))
        self.head = nn.Linear(units + heads * columns, outputs)
        bound = 1 / math.sqrt(units)
        for layer in (self.from_input, self.from_state):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        if (
            sharpen
        ):  # a softmax over cosines is nearly flat over so many rows; begin where the most similar row stands out
            with torch.no_grad():
                self.to_heads.bias[-heads:] = _SHARPNESS

    def empty(self, like: Tensor) -> MemoryState:
        """The state before the first example: nothing was written, read or used."""
        return MemoryState(
            like.new_zeros(self.rows, self.columns),
            like.new_zeros(self.heads, self.rows),
            like.new_zeros(self.rows),
            like.new_zeros(self.heads * self.columns),
            like.new_zeros(self.units),
            like.new_zeros(self.units),
        )

    def forward(
        self, x: Float[Tensor, "time *batch features"], state: MemoryState, counts: Bool[Tensor, " time"] | None = None
    ) -> tuple[Float[Tensor, "time *batch outputs"], MemoryState]:
        """Predictions at every moment of a sequence, and the state after it.

        Args:
            x: inputs with the labels that are shown beside them.
            state: where to go on from, with the same axes between time and features.
            counts: which moments there are; at the others nothing happens. None: all.
        """
        seen = []
        for t, gates_in in enumerate(self.from_input(x).unbind(0)):
            after = self.moment(gates_in, state)
            if counts is not None:
                after = _chosen(counts[t], after, state)
            state = after
            seen.append(torch.cat([state.hidden, state.reads], -1))
        return self.head(torch.stack(seen)), state

    def moment(self, gates_in: Tensor, before: MemoryState) -> MemoryState:
        """One step; ``gates_in`` is what the input adds to the controller's gates, (..., 4 * units)."""
        gates = gates_in + self.from_state(torch.cat([before.hidden, before.reads], -1))
        among = torch.sigmoid(gates[..., : 3 * self.units])
        write, keep, show = among.chunk(3, -1)
        cell = keep * before.cell + write * torch.tanh(gates[..., 3 * self.units :])
        hidden = show * torch.tanh(cell)

        controls = self.to_heads(hidden)
        keys = torch.tanh(controls[..., : self.heads * self.columns])
        keys = keys.unflatten(-1, (self.heads, self.columns))
        scalars = controls[..., self.heads * self.columns :, None]
        gate = torch.sigmoid(scalars[..., : self.heads, :])

        least_used = least_used_rows(before.usage, self.heads).to(keys.dtype)
        write_weights = gate * before.read_weights + (1 - gate) * least_used
        memory = before.memory * (1 - least_used[..., 0, :, None]) + write_weights.mT @ keys

        sharpness = 1 + nn.functional.softplus(scalars[..., self.heads :, :]) if self.sharpen else 1.0
        lengths = torch.rsqrt(memory.square().sum(-1) + _TINY)
        scale = sharpness * torch.rsqrt(keys.square().sum(-1, keepdim=True) + _TINY)
        read_weights = torch.softmax((keys * scale) @ memory.mT * lengths[..., None, :], -1)
        usage = self.usage_decay * before.usage + (read_weights.detach() + write_weights.detach()).sum(-2)
        reads = (read_weights @ memory).flatten(-2)
        return MemoryState(memory, read_weights, usage, reads, hidden, cell)


def least_used_rows(usage: Float[Tensor, "*batch rows"], count: int) -> Bool[Tensor, "*batch count rows"]:
    """One row of True for each of the ``count`` least used rows of the memory, the least used first."""
    found = usage.topk(count, dim=-1, largest=False, sorted=True).indices
    return found[..., None] == torch.arange(usage.shape[-1], device=usage.device)


def _chosen(now: Tensor, after: MemoryState, before: MemoryState) -> MemoryState:
    return MemoryState(
        *(torch.where(now, getattr(after, name), getattr(before, name)) for name in MemoryState.__dataclass_fields__)
    )
