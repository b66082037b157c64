"""Layers whose second derivative torch lacks or gets wrong, rewritten from primitives that have one; numbers and names stay."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm as _WeightNormHook

from innerloop.errors import ConfigError


class EmbeddingBag(nn.EmbeddingBag):
    """nn.EmbeddingBag as rows looked up and summed bag by bag; torch's kernel has no second derivative."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        if (input.ndim == 2) is (offsets is not None):
            raise ValueError("EmbeddingBag takes bags of one length, (bags, length), or a row of indices with offsets")
        if offsets is None:
            offsets = torch.arange(0, input.numel(), input.shape[1], device=input.device)
        elif self.include_last_offset:
            offsets = offsets[:-1]
        rows, number = input.reshape(-1), len(offsets)
        bag = torch.bucketize(torch.arange(len(rows), device=rows.device), offsets, right=True) - 1
        weight = self.weight
        counted = torch.ones_like(rows) if self.padding_idx is None else (rows != self.padding_idx).to(rows.dtype)
        if self.mode == "max":  # where each maximum lies is known without a graph
            with torch.no_grad():
                chosen = torch.embedding_bag(weight, rows, offsets, False, 2, False, None, False, self.padding_idx)[3]
            size = counted.new_zeros(number).index_add(0, bag, counted)
            return weight.gather(0, chosen) * (size > 0).to(weight.dtype)[:, None]
        each = F.embedding(rows, weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
        share = counted.to(weight.dtype)
        if per_sample_weights is not None:
            if self.mode != "sum":
                raise ValueError("EmbeddingBag takes per_sample_weights with mode='sum' alone")
            share = share * per_sample_weights.reshape(-1)
        found = each.new_zeros(number, each.shape[1]).index_add(0, bag, each * share[:, None])
        if self.mode == "sum":
            return found
        return found / share.new_zeros(number).index_add(0, bag, share).clamp(min=1)[:, None]


def _normed(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """``v`` with the length ``g`` along all dimensions but ``dim`` (-1: all); torch's own double backward is wrong."""
    dims = [d for d in range(v.ndim) if d != dim % v.ndim] if dim != -1 else list(range(v.ndim))
    return v * (g / torch.linalg.vector_norm(v, dim=dims, keepdim=True) if dims else g / v.abs())


class WeightNorm(_WeightNorm):
    """The parametrization of `torch.nn.utils.parametrizations.weight_norm`."""

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        return _normed(weight_v, weight_g, self.dim)


class WeightNormHook(_WeightNormHook):
    """The hook of the older `torch.nn.utils.weight_norm`."""

    def compute_weight(self, module: nn.Module) -> Any:
        return _normed(getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g"), self.dim)


def make_differentiable(layer: nn.Module, name: str) -> str:
    """Rewrite a layer in place where torch has no right second derivative of it; what it was, "" for any other layer.

    Raises:
        ConfigError: an embedding with ``max_norm``, whose forward pass writes its own weights.
    """
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if layer.max_norm is not None:
            raise ConfigError(
                f"the layer {name!r} has max_norm={layer.max_norm}, so its forward pass writes its own weights, which tasks "
                "share; leave max_norm out and scale the rows in forward (torch.renorm)"
            )
        sparse, layer.sparse = layer.sparse, False  # the same gradient, with its zeros
        if type(layer) is nn.EmbeddingBag:
            layer.__class__ = EmbeddingBag
            return "EmbeddingBag"
        return "sparse Embedding" if sparse else ""
    if type(layer) is _WeightNorm:
        layer.__class__ = WeightNorm
        return "WeightNorm"
    hooks = [hook for hook in layer._forward_pre_hooks.values() if type(hook) is _WeightNormHook]
    for hook in hooks:
        hook.__class__ = WeightNormHook
    return "WeightNorm" if hooks else ""
