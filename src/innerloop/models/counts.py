"""A net on sparse rows (fingerprints, words, baskets): a layer that adds up the vectors of a row's entries, then others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ShapeError
from innerloop.models.description import described, positive

# The two sums below are linear and each other's transpose, so derivatives of any order are made of them. A compiler takes them
# as they are.


@torch.library.custom_op(
    "innerloop::row_sums", mutates_args=(), schema="(Tensor weight, Tensor index, Tensor count) -> Tensor"
)
def _row_sums(weight: Tensor, index: Tensor, count: Tensor) -> Tensor:
    return F.embedding_bag(index, weight, per_sample_weights=count, mode="sum")


@_row_sums.register_fake
def _(weight: Tensor, index: Tensor, count: Tensor) -> Tensor:
    return weight.new_empty(index.shape[0], weight.shape[1])


@torch.library.custom_op(
    "innerloop::entry_sums", mutates_args=(), schema="(Tensor values, Tensor index, Tensor count, int kinds) -> Tensor"
)
def _entry_sums(values: Tensor, index: Tensor, count: Tensor, kinds: int) -> Tensor:
    # Entry by entry, from a list of the rows that have it; those that only fill rows up come last and are left out.
    flat, weight = index.reshape(-1), count.reshape(-1)
    order = torch.where(weight != 0, flat, kinds).argsort(stable=True)[: int((weight != 0).sum())]
    number = torch.bincount(flat[order], minlength=kinds)
    rows = order // index.shape[1]
    return F.embedding_bag(rows, values, number.cumsum(0) - number, per_sample_weights=weight[order], mode="sum")


@_entry_sums.register_fake
def _(values: Tensor, index: Tensor, count: Tensor, kinds: int) -> Tensor:
    return values.new_empty(kinds, values.shape[1])


def _batched(info: Any, dims: Sequence[int | None], values: Sequence[Tensor]) -> list[Tensor]:
    """Each with a leading batch axis."""
    return [
        v.expand(info.batch_size, *v.shape) if dim is None else v.movedim(dim, 0)
        for v, dim in zip(values, dims, strict=True)
    ]


def _apart(index: Tensor, kinds: int) -> Tensor:
    """(batch, rows, entries) as (batch * rows, entries): each batch has entries of its own, ``kinds`` of them."""
    first = kinds * torch.arange(len(index), device=index.device)
    return (index + first[:, None, None]).flatten(0, 1)


class _RowSums(torch.autograd.Function):
    """(kinds, features) weights, (rows, entries) numbers and counts -> (rows, features)."""

    @staticmethod
    def forward(weight: Tensor, index: Tensor, count: Tensor) -> Tensor:
        return _row_sums(weight, index, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.kinds = inputs[0].shape[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _EntrySums.apply(grad, *ctx.saved_tensors, ctx.kinds), None, None

    @staticmethod
    def vmap(info: Any, dims: Any, weight: Tensor, index: Tensor, count: Tensor) -> tuple[Tensor, int]:
        index, count = _batched(info, dims[1:], (index, count))
        rows = index.shape[1]
        if dims[0] is None:
            found = _RowSums.apply(weight, index.flatten(0, 1), count.flatten(0, 1))
        else:
            weight = weight.movedim(dims[0], 0)
            found = _RowSums.apply(weight.flatten(0, 1), _apart(index, weight.shape[1]), count.flatten(0, 1))
        return found.unflatten(0, (info.batch_size, rows)), 0


class _EntrySums(torch.autograd.Function):
    """(rows, features) values, (rows, entries) numbers and counts -> (kinds, features)."""

    @staticmethod
    def forward(values: Tensor, index: Tensor, count: Tensor, kinds: int) -> Tensor:
        return _entry_sums(values, index, count, kinds)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _RowSums.apply(grad, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, values: Tensor, index: Tensor, count: Tensor, kinds: int) -> tuple[Tensor, int]:
        values, index, count = _batched(info, dims[:3], (values, index, count))
        found = _EntrySums.apply(
            values.flatten(0, 1), _apart(index, kinds), count.flatten(0, 1), info.batch_size * kinds
        )
        return found.unflatten(0, (info.batch_size, kinds)), 0


class RowSums(nn.Module):
    """The weights of a row's entries, added up as often as they are there, and a bias: a linear layer that reads sparse rows.

    It has derivatives of every order with respect to its weights; the counts are data and have none.
    """

    def __init__(self, kinds: int, features: int) -> None:
        super().__init__()
        self.kinds = kinds
        self.weight: nn.Parameter = nn.Parameter(torch.empty(kinds, features))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(features))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu", mode="fan_out")

    def forward(self, index: Tensor, count: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # other programs know dense products alone
            full = count.new_zeros(count.shape[0], self.kinds).scatter_add(1, index, count)
            return full @ self.weight + self.bias
        return _RowSums.apply(self.weight, index, count) + self.bias


class CountsNet(nn.Module):
    """`RowSums` of transformed counts, then linear layers: (examples, 2, entries) to (examples, outputs)."""

    kinds: int
    counts: str

    def __init__(self, kinds: int, outputs: int | None, hidden: Sequence[int], counts: str) -> None:
        super().__init__()
        self.kinds, self.counts = kinds, counts
        self.entries: RowSums = RowSums(kinds, hidden[0])
        layers: list[nn.Module] = [nn.ReLU()]
        for before, after in itertools.pairwise(hidden):
            layers += [nn.Linear(before, after), nn.ReLU()]
        # An embedding may point anywhere, so it ends without a ReLU.
        self.body: nn.Sequential = nn.Sequential(*(layers[:-1] if outputs is None and len(hidden) > 1 else layers))
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(hidden[-1], outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        if x.ndim != 3 or x.shape[1] != 2:
            raise ShapeError(
                f"counts_mlp expected packed sparse rows of shape (examples, 2, entries), got {tuple(x.shape)}; see il.Counts"
            )
        if x.dtype not in (torch.float32, torch.float64):
            raise ShapeError(
                f"counts_mlp expected floats of 32 or 64 bits, which hold entry numbers, got {x.dtype}; use x.float()"
            )
        index, count = x[:, 0].to(torch.int64), x[:, 1]
        if self.counts == "log":
            count = count.log1p()
        elif self.counts == "present":
            count = (count > 0).to(count.dtype)
        return self.head(self.body(self.entries(index, count)))


@described
def counts_mlp(
    inputs: int,
    outputs: int | None,
    *,
    hidden: Sequence[int] = (256, 128),
    counts: Literal["log", "present", "plain"] = "log",
) -> CountsNet:
    """A fully connected net on sparse rows, whose first layer adds up the weights of the entries that a row has.

    Args:
        inputs: how many kinds of entries there are (2,048 bits of a fingerprint, the words of a vocabulary).
        outputs: logits or values; None: the last hidden layer, an embedding.
        hidden: sizes of the hidden layers.
        counts: what a count becomes first: "log" (log(1 + count)), "present" (1) or "plain" (itself).

    Returns:
        A module that takes (examples, 2, entries), as `il.Counts.packed` gives them.

    Example:
        >>> import innerloop as il
        >>> rows = il.Counts(index=[0, 3, 3], count=[2, 1, 5], start=[0, 2, 3])
        >>> il.models.counts_mlp(4, 2)(rows.packed()).shape
        torch.Size([2, 2])
    """
    positive(
        inputs=inputs,
        **({} if outputs is None else {"outputs": outputs}),
        **{f"hidden[{i}]": n for i, n in enumerate(hidden)},
    )
    return CountsNet(inputs, outputs, tuple(hidden), counts)
