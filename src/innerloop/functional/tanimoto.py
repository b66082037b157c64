"""How alike two sparse rows of counts are: Tanimoto's coefficient of counts, as chemists compare molecules."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_MOST_LEVELS = 64  # different counts up to which they are taken level by level


def tanimoto(
    a: Float[Tensor, "*batch first 2 entries"], b: Float[Tensor, "*batch second 2 others"], kinds: int
) -> Float[Tensor, "*batch first second"]:
    """``sum_j min(a_j, b_j) / sum_j max(a_j, b_j)``, 1 for two rows without entries; without slopes.

    It is positive definite (Ralaivola et al. 2005, "Graph kernels for chemical informatics", Neural Networks 18:1093, MinMax).

    Args:
        a, b: packed rows as `il.Counts.packed` gives them; data, so nothing is learned through them.
        kinds: how many different entries there are.
    """
    both = _Shared.apply(a.detach(), b.detach(), kinds)
    sizes = (a[..., 1, :].detach().sum(-1)[..., :, None], b[..., 1, :].detach().sum(-1)[..., None, :])
    either = sizes[0] + sizes[1] - both
    return torch.where(either > 0, both / torch.where(either > 0, either, 1.0), 1.0)


@torch.library.custom_op(
    "innerloop::shared_counts", mutates_args=(), schema="(Tensor a, Tensor b, int kinds) -> Tensor"
)
def _shared_counts(a: Tensor, b: Tensor, kinds: int) -> Tensor:
    batch = a.shape[:-3]
    found = a.new_empty(*batch, a.shape[-3], b.shape[-3])
    for own, one, other in zip(
        found.reshape(-1, *found.shape[-2:]), a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:]), strict=True
    ):
        own.copy_(_of_one(one, other, kinds))
    return found


@_shared_counts.register_fake
def _(a: Tensor, b: Tensor, kinds: int) -> Tensor:
    return a.new_empty(*a.shape[:-2], b.shape[-3])


def _of_one(a: Tensor, b: Tensor, kinds: int) -> Tensor:
    # min(x, y) is the sum over all levels that both reach of the level's height: products of ones and zeros, of the few
    # kinds of entries that are there at all. That is exact in float32, and much faster than minima.
    full = torch.zeros(len(a) + len(b), kinds, dtype=torch.float32, device=a.device)
    for rows, packed in ((full[: len(a)], a), (full[len(a) :], b)):
        rows.scatter_add_(1, packed[:, 0].to(torch.int64), packed[:, 1].to(torch.float32))
    highest = (
        torch.minimum(full[: len(a)].amax(0), full[len(a) :].amax(0)) if len(a) and len(b) else full.new_zeros(kinds)
    )
    used = highest > 0
    full, highest = full[:, used], highest[used]
    levels = torch.cat([a[:, 1].flatten(), b[:, 1].flatten()]).unique().to(torch.float32)
    levels = levels[levels > 0]
    if len(levels) > _MOST_LEVELS:
        return torch.stack([torch.minimum(row, full[len(a) :]).sum(-1) for row in full[: len(a)]]).to(a.dtype)
    found = full.new_zeros(len(a), len(b))
    below = 0.0
    for level in levels.tolist():
        kept = highest >= level
        full, highest = full[:, kept], highest[kept]
        if not full.shape[1]:
            break
        reached = (full >= level).to(torch.float32)
        found += (level - below) * (reached[: len(a)] @ reached[len(a) :].T)
        below = level
    return found.to(a.dtype)


class _Shared(torch.autograd.Function):
    """(first, 2, entries) and (second, 2, others) packed rows -> (first, second) sums of minima."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, kinds: int) -> Tensor:
        return _shared_counts(a, b, kinds)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        return None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, a: Tensor, b: Tensor, kinds: int) -> tuple[Tensor, int]:
        a, b = (
            v.expand(info.batch_size, *v.shape) if dim is None else v.movedim(dim, 0)
            for v, dim in zip((a, b), dims, strict=False)
        )
        return _Shared.apply(a, b, kinds), 0
