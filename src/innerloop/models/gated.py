"""A gated recurrent unit over a whole sequence, with its gradient written out: a few kernels a step, none in the way of vmap."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Sequence(torch.autograd.Function):
    """States of a GRU, time first; see `GruLayer`. First derivatives alone.

    torch's own GRU has no batching rule, and its gradient multiplies matrices of weights once a step; here it is once in all.
    """

    @staticmethod
    def forward(gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        steps, examples, width = gates.shape
        hidden = width // 3
        states = gates.new_empty(steps, examples, hidden)
        kept = gates.new_empty(steps, examples, 4 * hidden)  # reset, update, new, the state's part of new
        across = weight.T
        for t in range(steps):
            of_state = torch.addmm(bias, state, across)
            both, new, part = kept[t, :, : 2 * hidden], kept[t, :, 2 * hidden : 3 * hidden], kept[t, :, 3 * hidden :]
            torch.add(gates[t, :, : 2 * hidden], of_state[:, : 2 * hidden], out=both)
            both.sigmoid_()
            part.copy_(of_state[:, 2 * hidden :])
            torch.addcmul(gates[t, :, 2 * hidden :], both[:, :hidden], part, out=new)
            new.tanh_()
            torch.lerp(new, state, both[:, hidden:], out=states[t])
            state = states[t]
        return states, kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        _, state, weight, _ = inputs
        states, kept = output
        ctx.mark_non_differentiable(kept)
        ctx.set_materialize_grads(False)  # zeros for what was kept would be the largest tensor of all
        ctx.save_for_backward(state, weight, states, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if slope is None:
            return (None,) * 4
        begun, weight, states, kept = ctx.saved_tensors
        steps, _, hidden = states.shape
        before = torch.cat([begun[None], states[:-1]])
        of_gates = torch.empty_like(kept[..., : 3 * hidden])  # by what the input adds
        of_state = torch.empty_like(of_gates)  # by what the state adds: the same but for the new part
        back = torch.zeros_like(begun)
        for t in range(steps - 1, -1, -1):
            reset, update, new, part = kept[t].chunk(4, -1)
            back = back + slope[t]
            pulled = back * (1 - update) * (1 - new * new)
            of_gates[t, :, 2 * hidden :] = pulled
            torch.mul(pulled, reset, out=of_state[t, :, 2 * hidden :])
            of_state[t, :, :hidden] = pulled * part * reset * (1 - reset)
            of_state[t, :, hidden : 2 * hidden] = back * (before[t] - new) * update * (1 - update)
            back = torch.addmm(back * update, of_state[t], weight)
        of_gates[..., : 2 * hidden] = of_state[..., : 2 * hidden]
        flat = of_state.flatten(0, 1)
        return of_gates, back, flat.T @ before.flatten(0, 1), flat.sum(0)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *given: Tensor) -> tuple[Any, Any]:
        gates, state, weight, bias = given
        if dims[2] is None and dims[3] is None:  # one network for all: their examples lie beside each other
            many = info.batch_size
            sides = []
            for value, dim, axis in ((gates, dims[0], 1), (state, dims[1], 0)):
                whole = value[None].expand(many, *value.shape) if dim is None else value.movedim(dim, 0)
                sides.append(whole.movedim(0, axis).flatten(axis, axis + 1))
            found = _Sequence.apply(*sides, weight, bias)
            return tuple(v.unflatten(1, (many, -1)) for v in found), (1, 1)
        rows = [
            _Sequence.apply(*(v if d is None else v.select(d, i) for v, d in zip(given, dims, strict=True)))
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(v) for v in zip(*rows, strict=True)), (0, 0)


class GruLayer(nn.Module):
    """A GRU (Cho et al. 2014) over a sequence, computed as `torch.nn.GRU` does. Gates in the order reset, update, new."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input: nn.Linear = nn.Linear(features, 3 * hidden)
        self.from_state: nn.Linear = nn.Linear(hidden, 3 * hidden)
        bound = 1 / math.sqrt(features)
        nn.init.uniform_(self.from_input.weight, -bound, bound)
        for rows in self.from_state.weight.chunk(3):
            nn.init.orthogonal_(rows)
        nn.init.zeros_(self.from_input.bias)
        nn.init.zeros_(self.from_state.bias)

    def forward(
        self, x: Float[Tensor, "examples time features"], state: Float[Tensor, "examples hidden"]
    ) -> Float[Tensor, "examples time hidden"]:
        gates = self.from_input(x.movedim(1, 0))
        return _Sequence.apply(gates, state, self.from_state.weight, self.from_state.bias)[0].movedim(0, 1)
