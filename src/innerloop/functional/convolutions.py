"""Two-dimensional convolution, fast for one task and for many with weights of their own.

vmap turns convolutions with per-task weights into one grouped convolution, which CPUs run at a third to a half of the speed of an
ordinary one. Here vmap leads to one ordinary convolution a task instead, in channels-last layout, while everything around it
stays batched; what tasks share (the same weights, before the first inner step) is one convolution over all their pictures.
A convolution is bilinear, so its two gradients and it form a closed set: each is differentiated by the other two, to any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from innerloop.functional.derivatives import being_traced, transformed

_convolution = torch.ops.aten.convolution.default
_backward = torch.ops.aten.convolution_backward.default
_per_task: list[bool] = [False]
_FEW_CHANNELS = 3


@contextmanager
def per_task_convolutions(wanted: bool) -> Iterator[None]:
    """Whether convolutions under vmap go task by task; torch's own grouped rule otherwise."""
    _per_task.append(wanted)
    try:
        yield
    finally:
        _per_task.pop()


class Geometry(NamedTuple):
    """What a convolution has besides tensors."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Conv2d(nn.Conv2d):
    """nn.Conv2d with zero padding."""

    def forward(self, x: Tensor, before_norm: bool = False) -> Tensor:
        """The maps of pictures; ``before_norm``: for a norm that takes them in channels-last layout as they are."""
        g = Geometry(_pair(self.stride), _pair(self.padding), _pair(self.dilation), self.groups)
        if _per_task[-1] and transformed() and x.ndim == 4:
            operands = (x, self.weight, self.bias)
            if torch.is_autocast_enabled(x.device.type):  # which knows torch's own functions only
                low = torch.get_autocast_dtype(x.device.type)
                operands = tuple(None if value is None else value.to(low) for value in operands)
            return _Convolve.apply(*operands, g)
        # The weights decide the layout, and channels-last has the faster kernels on CPUs. Not in what runs operation by
        # operation, though: there batch norm would have to turn it back (see `norms`).
        channels_last = (being_traced() or before_norm) and not transformed()
        if channels_last and not being_traced() and x.ndim == 4 and _thin(x, g):
            return _product(x, self.weight, self.bias, g)
        weight = _channels_last(self.weight) if channels_last else self.weight
        return F.conv2d(x, weight, self.bias, g.stride, g.padding, g.dilation, g.groups)


def speed_up(layer: nn.Module) -> None:
    """Turn a layer that `Conv2d` computes into one, in place: parameters, attributes and hooks stay."""
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        layer.__class__ = Conv2d


def _pair(value: Any) -> tuple[int, int]:
    found = tuple(value)
    return found[0], found[1]


def _channels_last(x: Tensor) -> Tensor:
    # Not contiguous(): one channel makes any tensor channels-last by its shape, with strides that kernels do not take as such.
    return x.to(memory_format=torch.channels_last)


def _thin(x: Tensor, g: Geometry) -> bool:
    """Whether a convolution of such pictures is faster as a matrix product: a first layer, of one or a few channels."""
    return x.shape[1] <= _FEW_CHANNELS and g.groups == 1 and g.dilation == (1, 1) and not x.requires_grad


def _product(x: Tensor, w: Tensor, b: Tensor | None, g: Geometry) -> Tensor:
    """The convolution as one matrix product of all the patches, laid out in rows, and the weights; channels-last."""
    (high, wide), rows = w.shape[2:], w[0].numel()
    x = F.pad(x, (g.padding[1], g.padding[1], g.padding[0], g.padding[0]))
    patches = x.unfold(2, high, g.stride[0]).unfold(3, wide, g.stride[1]).permute(0, 2, 3, 1, 4, 5)
    laid_out = x.new_ones(*patches.shape[:3], rows + (b is not None))  # the bias is the weight of a one
    laid_out[..., :rows].unflatten(-1, w.shape[1:]).copy_(patches)
    weights = w.flatten(1) if b is None else torch.cat([w.flatten(1), b[:, None]], 1)
    return (laid_out.flatten(0, 2) @ weights.t().contiguous()).view(*patches.shape[:3], -1).permute(0, 3, 1, 2)


# The three operations, for operands (*lead, ...) whose leading dimensions are vmapped ones, each of full size or 1.


class _Convolve(Function):
    """(*lead, examples, in, height, width), weights (*lead, out, in, kh, kw), bias (*lead, out) or None."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, g: Geometry) -> Tensor:
        return _by_task(_convolve, _convolve_each, x, w, b, g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, w, b, ctx.geometry = inputs
        ctx.bias_lead = None if b is None else b.shape[:-1]
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        x, w = ctx.saved_tensors
        by_x = by_w = by_b = None
        if ctx.needs_input_grad[0]:
            by_x = _reduce(_ByInput.apply(grad, w, ctx.geometry, tuple(x.shape[-2:])), x, 4)
        if ctx.needs_input_grad[1]:
            by_w = _ByWeight.apply(grad, x, ctx.geometry, tuple(w.shape[-2:]), _shared(w))
        if ctx.bias_lead is not None and ctx.needs_input_grad[2]:
            by_b = grad.sum((-4, -2, -1))
            for d, size in enumerate(ctx.bias_lead):
                if size == 1 and by_b.shape[d] != 1:
                    by_b = by_b.sum(d, keepdim=True)
        return by_x, by_w, by_b, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, w: Tensor, b: Tensor | None, g: Geometry) -> Any:
        x, w = _lead(x, in_dims[0]), _lead(w, in_dims[1])
        b = None if b is None else _lead(b, in_dims[2])
        return _Convolve.apply(x, w, b, g), 0


class _ByInput(Function):
    """The gradient by the input: (*lead, examples, out, h, w), weights, to (*lead, examples, in, *size)."""

    generate_vmap_rule = False

    @staticmethod
    def forward(grad: Tensor, w: Tensor, g: Geometry, size: tuple[int, int]) -> Tensor:
        return _by_task(_input_gradient, _input_gradients, grad, w, None, g, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        grad, w, ctx.geometry, _ = inputs
        ctx.save_for_backward(grad, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (c,) = grads
        grad, w = ctx.saved_tensors
        by_grad = by_w = None
        if ctx.needs_input_grad[0]:
            by_grad = _reduce(_Convolve.apply(c, w, None, ctx.geometry), grad, 4)
        if ctx.needs_input_grad[1]:
            by_w = _ByWeight.apply(grad, c, ctx.geometry, tuple(w.shape[-2:]), _shared(w))
        return by_grad, by_w, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, grad: Tensor, w: Tensor, g: Geometry, size: tuple[int, int]) -> Any:
        return _ByInput.apply(_lead(grad, in_dims[0]), _lead(w, in_dims[1]), g, size), 0


class _ByWeight(Function):
    """The gradient by the weights, summed over examples and over the leading dimensions marked in ``shared``."""

    generate_vmap_rule = False

    @staticmethod
    def forward(grad: Tensor, x: Tensor, g: Geometry, kernel: tuple[int, int], shared: tuple[bool, ...]) -> Tensor:
        lead = torch.broadcast_shapes(grad.shape[:-4], x.shape[:-4])
        own = [d for d in range(len(lead)) if not shared[d]]
        folded = [d for d in range(len(lead)) if shared[d]]
        grads, xs = (_folded(t.expand(*lead, *t.shape[-4:]), own, folded) for t in (grad, x))
        if being_traced() and len(grads) > 1:
            stacked = _weight_gradients(grads, xs, *_arguments(g), kernel)
        else:
            found = [_weight_gradient(*pair, g, kernel) for pair in zip(grads, xs, strict=True)]
            stacked = found[0][None] if len(found) == 1 else torch.stack(found)
        return stacked.reshape(*(1 if shared[d] else lead[d] for d in range(len(lead))), *stacked.shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        grad, x, ctx.geometry, *_ = inputs
        ctx.save_for_backward(grad, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (c,) = grads
        grad, x = ctx.saved_tensors
        by_grad = by_x = None
        if ctx.needs_input_grad[0]:
            by_grad = _reduce(_Convolve.apply(x, c, None, ctx.geometry), grad, 4)
        if ctx.needs_input_grad[1]:
            by_x = _reduce(_ByInput.apply(grad, c, ctx.geometry, tuple(x.shape[-2:])), x, 4)
        return by_grad, by_x, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        grad: Tensor,
        x: Tensor,
        g: Geometry,
        kernel: tuple[int, int],
        shared: tuple[bool, ...],
    ) -> Any:
        return _ByWeight.apply(_lead(grad, in_dims[0]), _lead(x, in_dims[1]), g, kernel, (False, *shared)), 0


# ---- one task, and in a graph all of them as one operation: a graph of each would take a compiler minutes -----------


def _convolve(x: Tensor, w: Tensor, b: Tensor | None, g: Geometry) -> Tensor:
    return _convolution(_channels_last(x), _channels_last(w), b, *_settings(g))


def _input_gradient(grad: Tensor, w: Tensor, b: None, g: Geometry, size: Sequence[int]) -> Tensor:
    like = grad.new_empty(1).expand(grad.shape[0], w.shape[1] * g.groups, *size)
    return _backward(_channels_last(grad), like, _channels_last(w), b, *_settings(g), [True, False, False])[0]


def _weight_gradient(grad: Tensor, x: Tensor, g: Geometry, kernel: Sequence[int]) -> Tensor:
    like = grad.new_empty(1).expand(grad.shape[1], x.shape[1] // g.groups, *kernel)
    return _backward(_channels_last(grad), _channels_last(x), like, None, *_settings(g), [False, True, False])[1]


def _operation(name: str, arguments: str) -> Any:
    geometry = "int[] stride, int[] padding, int[] dilation, int groups"
    schema = f"({arguments.replace('geometry', geometry)}) -> Tensor"
    return torch.library.custom_op(f"innerloop::{name}", mutates_args=(), schema=schema)


@_operation("convolve_each", "Tensor x, Tensor w, Tensor? b, geometry")
def _convolve_each(x: Tensor, w: Tensor, b: Tensor | None, *geometry: Any) -> Tensor:
    g = Geometry(*geometry)
    out = _pictures(x, w.shape[1], [_out(x, w, g, d) for d in (0, 1)])
    for i in range(len(x)):
        out[i] = _convolve(x[i], w[i], None if b is None else b[i], g)
    return out


@_convolve_each.register_fake
def _(x: Tensor, w: Tensor, b: Tensor | None, *geometry: Any) -> Tensor:
    g = Geometry(*geometry)
    return _pictures(x, w.shape[1], [_out(x, w, g, d) for d in (0, 1)])


@_operation("convolution_input_gradients", "Tensor grad, Tensor w, Tensor? b, geometry, int[] size")
def _input_gradients(grad: Tensor, w: Tensor, b: None, *more: Any) -> Tensor:
    g, size = Geometry(*more[:-1]), more[-1]
    out = _pictures(grad, w.shape[2] * g.groups, size)
    for i in range(len(grad)):
        out[i] = _input_gradient(grad[i], w[i], b, g, size)
    return out


@_input_gradients.register_fake
def _(grad: Tensor, w: Tensor, b: None, *more: Any) -> Tensor:
    return _pictures(grad, w.shape[2] * Geometry(*more[:-1]).groups, more[-1])


@_operation("convolution_weight_gradients", "Tensor grad, Tensor x, geometry, int[] kernel")
def _weight_gradients(grad: Tensor, x: Tensor, *more: Any) -> Tensor:
    g, kernel = Geometry(*more[:-1]), more[-1]
    return torch.stack([_weight_gradient(grad[i], x[i], g, kernel).contiguous() for i in range(len(grad))])


@_weight_gradients.register_fake
def _(grad: Tensor, x: Tensor, *more: Any) -> Tensor:
    return grad.new_empty(len(grad), grad.shape[2], x.shape[2] // Geometry(*more[:-1]).groups, *more[-1])


def _pictures(like: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    """Room for (tasks, pictures, channels, *size), channels last."""
    return like.new_empty(*like.shape[:2], *size, channels).permute(0, 1, 4, 2, 3)


def _out(x: Tensor, w: Tensor, g: Geometry, d: int) -> int:
    reach = g.dilation[d] * (w.shape[d - 2] - 1) + 1
    return (x.shape[d - 2] + 2 * g.padding[d] - reach) // g.stride[d] + 1


def _arguments(g: Geometry) -> tuple[Any, ...]:
    return list(g.stride), list(g.padding), list(g.dilation), g.groups


def _settings(g: Geometry) -> tuple[Any, ...]:
    return list(g.stride), list(g.padding), list(g.dilation), False, [0, 0], g.groups


def _lead(x: Tensor, dim: int | None) -> Tensor:
    """The vmapped dimension first; of size 1 where the operand has none."""
    return x.unsqueeze(0) if dim is None else x.movedim(dim, 0)


def _shared(w: Tensor) -> tuple[bool, ...]:
    """Which leading dimensions the weights do not have: their gradient is a sum over these."""
    return tuple(size == 1 for size in w.shape[:-4])


def _reduce(x: Tensor, like: Tensor, own: int) -> Tensor:
    """Sum over leading dimensions that ``like`` was broadcast along."""
    for d in range(like.ndim - own):
        if like.shape[d] == 1 and x.shape[d] != 1:
            x = x.sum(d, keepdim=True)
    return x


def _folded(x: Tensor, own: list[int], folded: list[int]) -> Tensor:
    """(*lead, examples, ...) to (product of own, product of folded x examples, ...)."""
    lead = x.ndim - 4
    x = x.permute(*own, *folded, *range(lead, x.ndim))
    rows = 1
    for size in x.shape[: len(own)]:
        rows *= size
    return x.reshape(rows, -1, *x.shape[-3:])


def _by_task(
    one: Any, each: Any, x: Tensor, w: Tensor, b: Tensor | None, g: Geometry, *more: tuple[int, int]
) -> Tensor:
    """``one(pictures, weights, bias, ...)`` for every task that has weights of its own; those without go together.

    ``each`` is the same as one operation, for a graph.
    """
    lead = torch.broadcast_shapes(x.shape[:-4], w.shape[:-4])
    if not lead:
        return one(x, w, b, g, *more)
    own = [d for d in range(len(lead)) if w.shape[d] != 1 or (b is not None and b.shape[d] != 1)]
    folded = [d for d in range(len(lead)) if d not in own]
    sizes = [lead[d] for d in own], [x.shape[d] for d in folded]
    xs = _folded(x.expand(*(lead[d] if d in own else x.shape[d] for d in range(len(lead))), *x.shape[-4:]), own, folded)
    ws = w.expand(*(lead[d] if d in own else 1 for d in range(len(lead))), *w.shape[-4:]).reshape(-1, *w.shape[-4:])
    bs = None
    if b is not None:
        bs = b.expand(*(lead[d] if d in own else 1 for d in range(len(lead))), b.shape[-1]).reshape(-1, b.shape[-1])
    if being_traced() and len(xs) > 1:
        out = each(xs, ws, bs, *_arguments(g), *more)
    else:
        found = [one(xs[i], ws[i], None if bs is None else bs[i], g, *more) for i in range(len(xs))]
        out = found[0][None] if len(found) == 1 else torch.stack(found)
    out = out.reshape(*sizes[0], *sizes[1], x.shape[-4], *out.shape[-3:])
    order = [*own, *folded]
    back = [order.index(d) for d in range(len(lead))]
    return out.permute(*back, *range(len(lead), out.ndim))
