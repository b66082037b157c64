"""nn.Sequential in which batch norm, the ReLU after it and the max-pooling after that are one function."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules

from innerloop.functional.convolutions import Conv2d
from innerloop.functional.derivatives import being_traced
from innerloop.functional.norm_relu import Pool
from innerloop.functional.norms import BatchNorm


class Sequential(nn.Sequential):
    """nn.Sequential. Its layers stay as they are: for whoever calls one by itself or listens to it by a hook, and for compilers,
    which join them in their own way."""

    def forward(self, input: Any) -> Any:
        x, layers = input, list(self)
        while layers:
            # (convolution,) batch norm, ReLU (, max-pooling)
            first = int(type(layers[0]) is Conv2d and _unheard(layers[0]))
            norm = layers[first] if len(layers) > first + 1 else None
            if not (isinstance(norm, BatchNorm) and _are_norm_and_relu(norm, layers[first + 1]) and _joins(norm, x)):
                x = layers.pop(0)(x)
                continue
            if first:
                x = layers[0].forward(x, before_norm=True)
            pool = _pooling(layers[first + 2]) if len(layers) > first + 2 else None
            x = norm.with_relu(x, pool, alone=bool(first))
            del layers[: first + 2 + (pool is not None)]
        return x


def speed_up(layer: nn.Module) -> None:
    """Turn an nn.Sequential into one of these, in place: its layers, attributes and hooks stay."""
    if type(layer) is nn.Sequential:
        layer.__class__ = Sequential


def _joins(norm: BatchNorm, x: Any) -> bool:
    if being_traced() or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return isinstance(x, torch.Tensor) and not torch.is_autocast_enabled(x.device.type) and norm.joins_relu(x)


def _are_norm_and_relu(norm: nn.Module, relu: nn.Module) -> bool:
    return type(norm) is BatchNorm and type(relu) is nn.ReLU and _unheard(norm) and _unheard(relu)


def _pooling(layer: nn.Module) -> Pool | None:
    """How a layer pools, where it does; None: it is another one."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or not _unheard(layer):
        return None
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return Pool(*([s, s] if isinstance(s, int) else list(s) for s in sizes), layer.ceil_mode)


def _unheard(layer: nn.Module) -> bool:
    """Whether nobody listens to this layer, or has given it a forward of its own."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(layer) and not modules._has_any_global_hook()
