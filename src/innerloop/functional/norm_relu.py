"""Batch norm, ReLU and max-pooling of one task's maps as one function, with its derivatives written out.

Done one after the other, each of them writes a map as large as the convolution's, and again in the backward pass. Here only what
is left after pooling is written on the way forward and one map on the way back, part by part while it is in the processor's cache.

Mean and deviation come in beside the map that they are of. No derivative goes through them: the formulas count them as
functions of the map, so to take them for constants would be wrong by a half in the second order and by nothing in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from innerloop.functional.derivatives import being_traced, transformed

_max_pool = torch.ops.aten.max_pool2d_with_indices.default
_MAPS = (0, 2, 3)  # what statistics are over: examples, height, width
_PART = 2**18  # values of a part: 1 MiB in float32


class Pool(NamedTuple):
    """What max-pooling has besides tensors."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    ceil: bool


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, (1, channels, 1, 1); no graph is kept.

    In two passes, as the mean square is the small difference of two large numbers where a channel's mean is far from zero.
    """
    x = x.detach()
    mean = x.mean(_MAPS, keepdim=True)
    (squares,) = _sums(lambda x: (_squares(x - mean),), x)
    return mean, squares / _count(x)


def centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """`moments` of a map that nobody else reads: the mean is taken off it in place."""
    with torch.no_grad():
        mean = x.mean(_MAPS, keepdim=True)
        (squares,) = _sums(lambda x: (_squares(x.sub_(mean)),), x)
    return mean, squares / _count(x)


def norm_relu(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor,
    eps: float,
    pool: Pool | None,
) -> Tensor:
    """``max_pool(relu((x - mean) / sqrt(variance + eps) * weight + bias))``.

    Args:
        x: (examples, channels, height, width).
        weight, bias: (1, channels, 1, 1), or None.
        mean, variance: those of ``x``, from `moments`; no mean: ``x`` is centred already, by `centre`.
        eps: of the norm.
        pool: None: no pooling.
    """
    return _NormReLU.apply(x, weight, bias, mean, torch.rsqrt(variance + eps), eps, pool)[0]


class _NormReLU(Function):
    """To (what comes out, what of the centred map was picked, where it was picked); the last two only with pooling."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        inverse: Tensor,
        eps: float,
        pool: Pool | None,
    ) -> tuple[Tensor, ...]:
        scale = inverse if weight is None else inverse * weight

        def shifted(centred: Tensor) -> Tensor:
            return centred * scale if bias is None else torch.addcmul(bias, centred, scale)

        def part(x: Tensor) -> tuple[Tensor, ...]:
            centred = _minus(x, mean)
            if pool is None:
                return (shifted(centred).relu_(),)
            # What never falls may as well come after the maximum, where there is less of it: the ReLU, and positive scales.
            if rises:
                best, where = _max_pool(centred, *pool)
                return shifted(best).relu_(), best, where.int()
            y, where = _max_pool(shifted(centred), *pool)
            return y.relu_(), _picked(centred, where), where.int()

        # Under vmap there is no looking at values. And where nothing rises all is equal, of which torch takes the first.
        rises = pool is not None and not transformed() and not being_traced() and bool((scale > 0).all())
        return _in_parts(part, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, bias, mean, inverse, ctx.eps, ctx.pool = inputs
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, weight, mean, inverse, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        by_x, by_weight, by_bias = _Gradient.apply(grads[0], *ctx.saved_tensors, ctx.eps, ctx.pool)
        weight = ctx.saved_tensors[1]
        by_weight, by_bias = (None if weight is None else by_weight), (by_bias if ctx.has_bias else None)
        return by_x, by_weight, by_bias, None, None, None, None


class _Gradient(Function):
    """The gradient by the map, the scale and the shift.

    With h what arrives where it was picked, and bars for means over a channel, the one by the map is
    ``weight * inverse * (h - bar(h) - normed * bar(h * normed))``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor | None, inverse: Tensor, y: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        *picked, _, pool = rest
        count = _count(x)
        if pool is None:
            picked = [None, None]
            by_bias, by_scale = _sums(lambda g, x, y: _two_sums(_passed(g, y), _minus(x, mean)), grad, x, y)
        else:
            by_bias, by_scale = _sums(lambda g, best, y: _two_sums(_passed(g, y), best), grad, picked[0], y)
        by_weight = by_scale * inverse
        scale = inverse if weight is None else inverse * weight
        slope, offset = -scale * inverse * by_weight / count, -scale * by_bias / count

        def part(x: Tensor, grad: Tensor, y: Tensor, where: Tensor | None) -> tuple[Tensor]:
            found, h = torch.addcmul(offset, _minus(x, mean), slope), _passed(grad, y)
            if where is None:
                return (found.addcmul_(h, scale),)
            return (found.add_(_spread(h * scale, x, where, pool)),)

        return *_in_parts(part, x, grad, y, picked[1]), by_weight, by_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.eps, ctx.pool = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, u, v = grads
        grad, x, weight, mean, inverse, y, *picked = ctx.saved_tensors
        where, pool = (picked[1], ctx.pool) if ctx.pool else (None, None)
        if torch.is_grad_enabled():  # a third derivative goes through the statistics by themselves
            centred = x - x.mean(_MAPS, keepdim=True)
            inverse = torch.rsqrt(centred.square().mean(_MAPS, keepdim=True) + ctx.eps)
        else:
            centred = _minus(x, mean)
        normed, count = centred * inverse, _count(x)
        scale = inverse if weight is None else inverse * weight
        arrived = _passed(grad, y)
        best, best_a = _picked(normed, where), _picked(a, where)

        def total(value: Tensor) -> Tensor:
            return value.sum(_MAPS, keepdim=True)

        a_mean, a_normed = total(a) / count, total(a * normed) / count
        h_mean, h_normed = total(arrived) / count, total(arrived * best) / count
        both = total(best_a * arrived) / count - a_mean * h_mean - a_normed * h_normed
        by_grad = _passed(scale * (best_a - a_mean - best * a_normed) + u * best + v, y)
        of_h, of_a = inverse * (u - scale * a_normed), -scale * inverse * h_normed
        of_normed = -(of_h * h_normed + of_a * a_normed) - scale * inverse * both
        of_one = -(of_h * h_mean + of_a * a_mean)
        by_x = _spread(arrived * of_h, x, where, pool) + torch.addcmul(of_one, normed, of_normed) + of_a * a
        by_weight = None if weight is None else inverse * both * count
        return by_grad, by_x, by_weight, *(None for _ in range(len(ctx.saved_tensors) - 3)), None, None


def _count(x: Tensor) -> int:
    """How many values of a channel there are."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def _minus(x: Tensor, mean: Tensor | None) -> Tensor:
    return x if mean is None else x - mean


def _squares(centred: Tensor) -> Tensor:
    return (centred * centred).sum(_MAPS, keepdim=True)


def _passed(grad: Tensor, y: Tensor) -> Tensor:
    """What a ReLU lets through backwards."""
    return torch.ops.aten.threshold_backward.default(grad, y, 0)


def _two_sums(h: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    return h.sum(_MAPS, keepdim=True), (h * centred).sum(_MAPS, keepdim=True)


def _picked(full: Tensor, where: Tensor | None) -> Tensor:
    """The values that max-pooling picked."""
    if where is None:
        return full
    if transformed():
        return full.flatten(2).gather(2, where.long().flatten(2)).view(where.shape)
    found = full.flatten(2).transpose(1, 2).gather(1, where.long().flatten(2).transpose(1, 2))  # stays channels-last
    return found.transpose(1, 2).unflatten(2, where.shape[2:])


def _spread(pooled: Tensor, like: Tensor, where: Tensor | None, pool: Pool | None) -> Tensor:
    """Each value back to where it was picked, zeros elsewhere; `_picked` turned round."""
    if where is None or pool is None:
        return pooled
    return torch.ops.aten.max_pool2d_with_indices_backward.default(pooled, like, *pool, where.long())


# ---- part by part --------------------------------------------------------------------------------------------------
def _parts(tensors: Sequence[Tensor | None]) -> list[tuple[Tensor | None, ...]]:
    """The tensors cut along the examples; in one where a transform or a compiler looks, or where they are small."""
    first = tensors[0]
    assert first is not None
    rows = max(1, _PART * first.shape[0] // max(first.numel(), 1))
    if transformed() or being_traced() or rows >= first.shape[0]:
        return [tuple(tensors)]
    starts = range(0, first.shape[0], rows)
    return [tuple(None if t is None else t[a : a + rows] for t in tensors) for a in starts]


def _in_parts(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """``function(*tensors)`` whose results have the examples first, part by part."""
    parts = _parts(tensors)
    found = function(*parts[0])
    if len(parts) == 1:
        return found
    assert tensors[0] is not None
    whole = [torch.empty((tensors[0].shape[0], *f.shape[1:]), dtype=f.dtype, device=f.device,
                         memory_format=torch.channels_last) for f in found]  # fmt: skip
    start = 0
    for i, part in enumerate(parts):
        found = found if i == 0 else function(*part)
        end = start + found[0].shape[0]
        for w, f in zip(whole, found, strict=True):
            w[start:end] = f
        start = end
    return tuple(whole)


def _sums(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """The sums of what ``function`` gives for the parts."""
    found = [function(*part) for part in _parts(tensors)]
    if len(found) == 1:
        return found[0]
    return tuple(torch.stack(values).sum(0) for values in zip(*found, strict=True))
