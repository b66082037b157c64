"""Normalisation layers whose second-order meta-gradient is right under vmap.

torch's batching rule for the double backward of affine BatchNorm, LayerNorm and InstanceNorm is wrong and silent
(pytorch/functorch#534; measured with torch 2.13: 0.6-3 % relative error). Taken apart into normalisation by primitives and
then scale and shift, they are exact. Outside of torch.func's transforms torch's fused kernels are right, and a task that runs
by itself uses them. Parameters keep their names, order and shapes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.functional import context
from innerloop.functional.derivatives import being_traced, transformed
from innerloop.functional.norm_relu_pool import Pool, moments, norm_relu_pool

_LARGE = 2**19  # values of a map; below, calling a function of Python's own costs more than it saves

BatchNormPolicy = Literal["batch", "per_step", "running", "frozen", "none"]


def _full(x: Tensor) -> Tensor:
    """At least float32: statistics in 8 bits of precision are none."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _moments(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """Mean over ``dims`` (kept), what x is above it, the biased variance, and how many values went in; padded examples do
    not count."""
    if mask is None:
        mean = x.mean(dims, keepdim=True)
        centred = x - mean
        return mean, centred, centred.square().mean(dims, keepdim=True), float(math.prod(x.shape[d] for d in dims))
    weight = mask.to(x.dtype).reshape(mask.shape + (1,) * (x.ndim - 1))
    each = 1.0
    for d in dims[1:]:
        each *= x.shape[d]
    count = weight.sum().clamp(min=1.0) * each
    mean = (x * weight).sum(dims, keepdim=True) / count
    centred = x - mean
    return mean, centred, (centred.square() * weight).sum(dims, keepdim=True) / count, count


def _scaled(centred: Tensor, variance: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Divided by the standard deviation, scaled and shifted; few passes over the examples, many over small tensors."""
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    return centred * scale if bias is None else torch.addcmul(bias, centred, scale)


class BatchNorm(nn.Module):
    """Batch normalisation over the examples of ONE task, with an explicit policy for its statistics.

    - "batch": the statistics of the examples at hand, in training and in test (transductive on the query set).
    - "per_step" and "running": the examples' statistics in meta-training, while a running mean is kept (for each inner step,
      or one for all); the running ones in evaluation.
    - "frozen": the running statistics that the module came with, always.
    - "none": no normalisation; scale and shift stay.

    Shapes: (examples, features) or (examples, features, ...).
    """

    def __init__(self, source: nn.modules.batchnorm._BatchNorm, name: str, policy: BatchNormPolicy, rows: int) -> None:
        super().__init__()
        self.name = name
        self.policy = policy
        self.num_features: int = source.num_features
        self.eps: float = source.eps
        self.momentum: float = 0.1 if source.momentum is None else source.momentum
        self.weight: nn.Parameter | None = source.weight
        self.bias: nn.Parameter | None = source.bias
        reference = source.weight if source.weight is not None else source.running_mean
        like = {} if reference is None else {"device": reference.device, "dtype": reference.dtype}
        if policy == "frozen":
            mean = source.running_mean if source.running_mean is not None else torch.zeros(self.num_features, **like)
            var = source.running_var if source.running_var is not None else torch.ones(self.num_features, **like)
            self.register_buffer("running_mean", mean.detach().clone()[None])
            self.register_buffer("running_var", var.detach().clone()[None])
        elif policy in ("per_step", "running"):
            rows = rows if policy == "per_step" else 1
            self.register_buffer("running_mean", torch.zeros(rows, self.num_features, **like))
            self.register_buffer("running_var", torch.ones(rows, self.num_features, **like))

    def forward(self, x: Tensor) -> Tensor:
        x = _full(x)
        shape = (1, self.num_features) + (1,) * (x.ndim - 2)
        weight = None if self.weight is None else self.weight.reshape(shape)
        bias = None if self.bias is None else self.bias.reshape(shape)
        if self.policy == "none":
            x = x if weight is None else x * weight
            return x if bias is None else x + bias
        call = context.current()
        if self.policy == "batch" or (self.policy in ("per_step", "running") and call.training):
            mask = call.mask
            if mask is None and not transformed():
                return self._fused(x, call)
            if mask is not None and mask.shape[0] != x.shape[0]:  # slow and fast examples, see `two_streams`
                mask = mask.repeat(x.shape[0] // mask.shape[0])
            mean, centred, variance, count = _moments(x, mask, (0, *range(2, x.ndim)))
            if self.policy != "batch":
                self._record(call, mean.detach(), variance.detach(), count)
        else:
            running_mean: Tensor = self.running_mean  # type: ignore[assignment]
            running_var: Tensor = self.running_var  # type: ignore[assignment]
            row = min(call.step, running_mean.shape[0] - 1)
            scale = torch.rsqrt(running_var[row].reshape(shape) + self.eps)
            scale = scale if weight is None else scale * weight
            offset = -running_mean[row].reshape(shape) * scale
            return torch.addcmul(offset if bias is None else bias + offset, x, scale)  # one pass over the examples
        return _scaled(centred, variance, self.eps, weight, bias)

    def _fused(self, x: Tensor, call: context.Call) -> Tensor:
        """By torch's kernel, which loses two to three digits on CPUs where x is channels-last (measured with torch 2.13)."""
        arguments = (x if being_traced() else x.contiguous(), self.weight, self.bias, None, None, True, 0.0, self.eps)
        x, mean, inverse = torch.ops.aten.native_batch_norm.default(*arguments)
        if self.policy != "batch":
            self._record(
                call, mean.detach(), inverse.detach().pow(-2) - self.eps, float(x.numel() // self.num_features)
            )
        return x

    def joins_relu_and_pool(self, x: Tensor) -> bool:
        """Whether `with_relu_and_pool` takes such maps, and is faster: by the statistics of examples that all count.

        Under vmap it is right too, and as fast as one operation after the other at best: each is of all tasks there.
        """
        call = context.current()
        by_examples = (
            self.policy == "running" and call.training
        )  # of metric methods, whose one pass has been checked in float32
        plain = x.ndim == 4 and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
        large = x.ndim == 4 and x[:, 0].numel() * self.num_features >= _LARGE
        return by_examples and call.mask is None and plain and large and not transformed()

    def with_relu_and_pool(self, x: Tensor, pool: Pool) -> Tensor:
        """What a ReLU and max-pooling make of what comes out of this layer."""
        mean, variance = moments(x)
        if self.policy != "batch":
            self._record(context.current(), mean, variance, float(x.numel() // self.num_features))
        weight, bias = (None if p is None else p.reshape(mean.shape) for p in (self.weight, self.bias))
        return norm_relu_pool(x, weight, bias, mean, variance, self.eps, pool)

    def _record(self, call: context.Call, mean: Tensor, variance: Tensor, count: Tensor | float) -> None:
        """Exponential running statistics of this step's row, as a new value; torch keeps the unbiased variance, so do we."""
        unbiased = variance * (count / (count - 1.0)) if not isinstance(count, float) or count > 1 else variance
        for kind, value in (("running_mean", mean), ("running_var", unbiased)):
            name = f"{self.name}.{kind}"
            old: Tensor = call.buffers[name] if name in call.buffers else getattr(self, kind)
            rows = torch.arange(old.shape[0], device=old.device) == min(call.step, old.shape[0] - 1)
            call.buffers[name] = torch.where(rows[:, None], old + self.momentum * (value.reshape(1, -1) - old), old)

    def extra_repr(self) -> str:
        return f"{self.num_features}, policy={self.policy!r}, eps={self.eps}"


class LayerNorm(nn.Module):
    """nn.LayerNorm from primitives."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.normalized_shape: tuple[int, ...] = source.normalized_shape
        self.eps: float = source.eps
        self.weight: nn.Parameter | None = source.weight
        self.bias: nn.Parameter | None = source.bias

    def forward(self, x: Tensor) -> Tensor:
        x = _full(x)
        if not transformed():
            arguments = (x, self.normalized_shape, self.weight, self.bias, self.eps)
            return torch.ops.aten.native_layer_norm.default(*arguments)[0]
        _, centred, variance, _ = _moments(x, None, tuple(range(-len(self.normalized_shape), 0)))
        return _scaled(centred, variance, self.eps, self.weight, self.bias)


class InstanceNorm(nn.Module):
    """Affine nn.InstanceNorm1d/2d/3d from primitives: each example and channel by its own statistics."""

    def __init__(self, source: nn.modules.instancenorm._InstanceNorm) -> None:
        super().__init__()
        self.num_features: int = source.num_features
        self.eps: float = source.eps
        self.weight: nn.Parameter | None = source.weight
        self.bias: nn.Parameter | None = source.bias

    def forward(self, x: Tensor) -> Tensor:
        x = _full(x)
        _, centred, variance, _ = _moments(x, None, tuple(range(2, x.ndim)))
        shape = (1, self.num_features) + (1,) * (x.ndim - 2)
        weight = None if self.weight is None else self.weight.reshape(shape)
        bias = None if self.bias is None else self.bias.reshape(shape)
        return _scaled(centred, variance, self.eps, weight, bias)
