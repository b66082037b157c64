"""Batch norm, ReLU and max-pooling of one task's maps as one function, with its derivatives written out.

Done one after the other, each of them writes a map as large as the convolution's, and again in the backward pass. Here only
what is left after pooling is written on the way forward and one map on the way back, part by part, while it is in a cache.

Mean and variance come in beside the map that they are of. No derivative goes through them: the formulas count them as
functions of the map, so to take them for constants would leave the first order right and make the second wrong by a half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from innerloop.functional.derivatives import being_traced, transformed

_max_pool = torch.ops.aten.max_pool2d_with_indices.default
_MAPS = (0, 2, 3)  # what statistics are over: examples, height, width
_PART = 2**18  # about so many values are a part
_ADDED_UP = 256  # at most so many values are added up one after the other


class Pool(NamedTuple):
    """What max-pooling has besides tensors."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    ceil: bool


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, (1, channels, 1, 1); no graph is kept.

    torch's kernel for channels-last maps adds up one value after the other, which loses two digits over a hundred thousand of
    them. It is given the examples alone to add up, a few hundred; what it finds for each place of the map is put together here.
    """
    x = x.detach()
    if not _in_memory(x) or not x.is_contiguous(memory_format=torch.channels_last):
        mean = x.mean(_MAPS, keepdim=True)
        return mean, (x - mean).square().mean(_MAPS, keepdim=True)
    parts = [part.permute(0, 2, 3, 1) for part in x.split(_ADDED_UP)]
    found = [torch.batch_norm_update_stats(part.flatten(1), None, None, 0.0) for part in parts]
    shares = x.new_tensor([part.shape[0] / _count(x) for part in parts])[:, None, None]
    means, variances = (torch.stack(values).unflatten(1, (-1, x.shape[1])) for values in zip(*found, strict=True))
    mean = (means * shares).sum((0, 1))
    variance = ((variances + (means - mean).square()) * shares).sum((0, 1))
    return mean[None, :, None, None], variance[None, :, None, None]


def norm_relu_pool(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float, pool: Pool
) -> Tensor:
    """``max_pool(relu((x - mean) / sqrt(variance + eps) * weight + bias))``.

    Args:
        x: (examples, channels, height, width).
        weight, bias: (1, channels, 1, 1), or None.
        mean, variance: those of ``x``, from `moments`.
        eps: of the norm.
        pool: of the max-pooling.
    """
    return _NormReLUPool.apply(x, weight, bias, mean, torch.rsqrt(variance + eps), eps, pool)[0]


class _NormReLUPool(Function):
    """To (what comes out, what of the centred map was picked, where it was picked)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inverse: Tensor, eps: float, pool: Pool
    ) -> tuple[Tensor, ...]:
        scale = inverse if weight is None else inverse * weight
        offset = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        # What never falls may as well come after the maximum, where there is less of it: the ReLU, and positive scales.
        # Where a scale is zero all is equal, and torch picks the first. Under vmap there is no looking at values.
        rises = _in_memory(x) and bool((scale > 0).all())

        def part(x: Tensor) -> tuple[Tensor, ...]:
            if rises:
                best, where = _max_pool(x, *pool)
                return torch.addcmul(offset, best, scale).relu(), best - mean, where.int()
            y, where = _max_pool(torch.addcmul(offset, x, scale), *pool)
            return y.relu(), _picked(x, where) - mean, where.int()

        return _in_parts(part, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, bias, mean, inverse, ctx.eps, ctx.pool = inputs
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(*output[1:])  # which nobody but `_Gradient` sees, and it counts them in
        ctx.save_for_backward(x, weight, mean, inverse, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        by_x, by_weight, by_bias = _Gradient.apply(grads[0], *ctx.saved_tensors, ctx.eps, ctx.pool)
        has_weight = ctx.saved_tensors[1] is not None
        return by_x, by_weight if has_weight else None, by_bias if ctx.has_bias else None, None, None, None, None


class _Gradient(Function):
    """The gradient by the map, the scale and the shift.

    With h what arrives at the values that were picked, zero elsewhere, and <> for means over a channel, that by the map is
    ``weight * inverse * (h - <h> - normed * <h * normed>)``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        x: Tensor,
        weight: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        y: Tensor,
        best: Tensor,
        where: Tensor,
        eps: float,
        pool: Pool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale, count = inverse if weight is None else inverse * weight, _count(x)
        arrived = _passed(grad, y)
        by_bias, by_weight = _total(arrived), _total(arrived * best) * inverse
        slope = -scale * inverse * by_weight / count
        offset = -scale * by_bias / count - mean * slope

        def part(x: Tensor, arrived: Tensor, where: Tensor) -> tuple[Tensor]:
            return (torch.addcmul(offset, x, slope) + _spread(arrived, x, where, pool),)

        (by_x,) = _in_parts(part, x, arrived * scale, where)
        return by_x, by_weight, by_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.eps, ctx.pool = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, u, v = grads
        grad, x, weight, mean, inverse, y, _, where = ctx.saved_tensors
        centred = x - mean
        if torch.is_grad_enabled():  # a third derivative goes through the statistics by themselves
            centred = x - x.mean(_MAPS, keepdim=True)
            inverse = torch.rsqrt(centred.square().mean(_MAPS, keepdim=True) + ctx.eps)
        normed, count = centred * inverse, _count(x)
        scale = inverse if weight is None else inverse * weight
        h, best, best_a = _passed(grad, y), _picked(normed, where), _picked(a, where)
        a_mean, a_normed = _total(a) / count, _total(a * normed) / count
        h_mean, h_normed = _total(h) / count, _total(h * best) / count
        both = _total(best_a * h) / count - a_mean * h_mean - a_normed * h_normed
        by_grad = _passed(scale * (best_a - a_mean - best * a_normed) + u * best + v, y)
        of_h, of_a = inverse * (u - scale * a_normed), -scale * inverse * h_normed
        of_normed = -(of_h * h_normed + of_a * a_normed) - scale * inverse * both
        of_one = -(of_h * h_mean + of_a * a_mean)
        by_x = torch.addcmul(of_one, normed, of_normed) + of_a * a + _spread(h * of_h, x, where, ctx.pool)
        by_weight = None if weight is None else inverse * both * count
        return by_grad, by_x, by_weight, None, None, None, None, None, None, None


def _count(x: Tensor) -> int:
    """How many values of a channel there are."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def _total(x: Tensor) -> Tensor:
    return x.sum(_MAPS, keepdim=True)


def _passed(grad: Tensor, y: Tensor) -> Tensor:
    """What a ReLU lets through backwards."""
    return torch.ops.aten.threshold_backward.default(grad, y, 0)


def _picked(full: Tensor, where: Tensor) -> Tensor:
    """The values that max-pooling picked."""
    if transformed():
        return full.flatten(2).gather(2, where.long().flatten(2)).view(where.shape)
    found = full.flatten(2).transpose(1, 2).gather(1, where.long().flatten(2).transpose(1, 2))  # stays channels-last
    return found.transpose(1, 2).unflatten(2, where.shape[2:])


def _spread(pooled: Tensor, like: Tensor, where: Tensor, pool: Pool) -> Tensor:
    """Each value back to where it was picked, zeros elsewhere; `_picked` turned round."""
    return torch.ops.aten.max_pool2d_with_indices_backward.default(pooled, like, *pool, where.long())


def _in_memory(x: Tensor) -> bool:
    """Whether these are values as they are: no transform or compiler looks on, to which one whole operation is best."""
    return not transformed() and not being_traced()


def _in_parts(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """``function(*tensors)`` whose results have the examples first, part by part."""
    examples = tensors[0].shape[0]
    rows = max(1, _PART * examples // max(tensors[0].numel(), 1))
    if rows >= examples or not _in_memory(tensors[0]):
        return function(*tensors)
    whole: list[Tensor] = []
    for start in range(0, examples, rows):
        found = function(*(t[start : start + rows] for t in tensors))
        whole = whole or [_room(f, examples) for f in found]
        for w, f in zip(whole, found, strict=True):
            w[start : start + rows] = f
    return tuple(whole)


def _room(part: Tensor, examples: int) -> Tensor:
    shape = (examples, *part.shape[1:])
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
