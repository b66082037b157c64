"""nn.Sequential in which batch norm, the ReLU after it and the max-pooling after that are one function.

Where no graph is kept, max-pooling of 2x2 is the largest of four slices: torch's kernel also writes down where each was found,
and on maps that are not channels-last it takes nine times as long on CPUs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules import module as modules

from innerloop.functional.convolutions import Conv2d
from innerloop.functional.derivatives import being_traced
from innerloop.functional.norm_relu_pool import Pool
from innerloop.functional.norms import BatchNorm


class Sequential(nn.Sequential):
    """nn.Sequential. Its layers stay as they are: for whoever calls one by itself or listens to it by a hook, and for compilers,
    which join them in their own way."""

    def forward(self, input: Any) -> Any:
        x, layers = input, list(self)
        while layers:
            block = layers[: 3 + (type(layers[0]) is Conv2d)]  # (convolution,) batch norm, ReLU, max-pooling
            if len(block) < 3 or not _joined(block[-3], block[-2], block[-1], x) or not all(map(_unheard, block)):
                x = _of_slices(layers, x) if _in_four(layers, x) else layers.pop(0)(x)
                continue
            if len(block) > 3:
                x = cast(Conv2d, block[0]).forward(x, before_norm=True)
            x = cast(BatchNorm, block[-3]).with_relu_and_pool(x, _pool(cast(nn.MaxPool2d, block[-1])))
            del layers[: len(block)]
        return x


def speed_up(layer: nn.Module) -> None:
    """Turn an nn.Sequential into one of these, in place: its layers, attributes and hooks stay."""
    if type(layer) is nn.Sequential:
        layer.__class__ = Sequential


def _joined(norm: nn.Module, relu: nn.Module, pooling: nn.Module, x: Any) -> bool:
    if type(norm) is not BatchNorm or type(relu) is not nn.ReLU or type(pooling) is not nn.MaxPool2d:
        return False
    if being_traced() or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    if not isinstance(x, torch.Tensor) or torch.is_autocast_enabled(x.device.type) or pooling.return_indices:
        return False
    return norm.joins_relu_and_pool(x)


def _in_four(layers: list[nn.Module], x: Any) -> bool:
    """Whether max-pooling of 2x2 comes next, after a ReLU or not, of which no graph is kept."""
    some = layers[: 1 + (type(layers[0]) is nn.ReLU)]
    pooling = some[-1]
    if type(pooling) is not nn.MaxPool2d or pooling.return_indices or pooling.ceil_mode or not all(map(_unheard, some)):
        return False
    if _pool(pooling) != Pool([2, 2], [2, 2], [0, 0], [1, 1], False) or torch.is_grad_enabled():
        return False
    if being_traced() or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return isinstance(x, torch.Tensor) and x.device.type == "cpu" and x.ndim == 4 and min(x.shape[2:]) > 1


def _of_slices(layers: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """What these layers make of ``x``; they are taken off. The ReLU comes last: it never falls, and less is left by then."""
    after = layers.pop(0) if type(layers[0]) is nn.ReLU else None
    layers.pop(0)
    height, width = (size // 2 * 2 for size in x.shape[2:])
    x = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    x = torch.maximum(x[..., 0:width:2], x[..., 1:width:2])
    return x if after is None else torch.relu(x)


def _pool(layer: nn.MaxPool2d) -> Pool:
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    kernel, stride, padding, dilation = ([s, s] if isinstance(s, int) else list(s) for s in sizes)
    return Pool(kernel, stride, padding, dilation, layer.ceil_mode)


def _unheard(layer: nn.Module) -> bool:
    """Whether nobody listens to this layer, or has given it a forward of its own."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(layer) and not modules._has_any_global_hook()
