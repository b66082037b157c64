"""One forward pass that finds out what a model needs: which strategies are right for it, and whether it mixes examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from innerloop.functional.randomness import drawn, kept

# Called as functions, these cannot be replaced in the module tree; under vmap their double backward is wrong or missing.
_WRONG_UNDER_VMAP = {
    F.batch_norm: "F.batch_norm",
    F.layer_norm: "F.layer_norm",
    F.instance_norm: "F.instance_norm",
    torch.batch_norm: "torch.batch_norm",
    torch.layer_norm: "torch.layer_norm",
    torch.instance_norm: "torch.instance_norm",
    torch.native_layer_norm: "torch.native_layer_norm",
}
_FAILS_UNDER_VMAP = {
    "lstm": "nn.LSTM",
    "gru": "nn.GRU",
    "rnn_tanh": "nn.RNN",
    "rnn_relu": "nn.RNN",
    "lstm_cell": "nn.LSTMCell",
    "gru_cell": "nn.GRUCell",
    "rnn_tanh_cell": "nn.RNNCell",
    "rnn_relu_cell": "nn.RNNCell",
}


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one forward pass showed.

    Attributes:
        output_shape: of one task's prediction, with the examples axis.
        needs_loop: functions met that vmap gets wrong or refuses; empty when vmap is right.
        attention: fused attention was met, which has no second derivative on CPU unless its plain kernel is used.
        random: it drew random numbers by itself, from whatever source.
        mixes_examples: one example's output depends on the others in the batch.
    """

    output_shape: tuple[int, ...]
    needs_loop: tuple[str, ...] = ()
    attention: bool = False
    random: bool = False
    mixes_examples: bool = False


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.wrong: set[str] = set()
        self.attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func in _WRONG_UNDER_VMAP:
            self.wrong.add(_WRONG_UNDER_VMAP[func])
        elif name in _FAILS_UNDER_VMAP:
            self.wrong.add(_FAILS_UNDER_VMAP[name])
        elif name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
            self.attention = True
        return func(*args, **(kwargs or {}))


def observed(function: Callable[[], Any], module: nn.Module) -> tuple[Any, Probe]:
    """What a function that runs a module gives, without a graph, and what it called and drew on the way."""
    with kept(module), torch.no_grad():
        before = drawn(module)
        with _Recorder() as seen:
            found = function()
        random = drawn(module) != before
    return found, Probe((), tuple(sorted(seen.wrong)), seen.attention, random)


def probe(forward: Callable[[Any], Tensor], x: Any, module: nn.Module) -> Probe:
    """Run ``forward`` on the examples ``x`` of one task and on a part of them.

    A part of the examples must give the same outputs unless the model mixes examples (batch statistics, attention across
    the batch); equality is to rounding, since kernels differ with the batch size.
    """
    whole, seen = observed(lambda: forward(x), module)
    number = pytree.tree_leaves(x)[0].shape[0]
    with torch.no_grad():
        mixes = False
        if not seen.random and number > 1 and whole.shape[:1] == (number,):
            try:
                part = forward(pytree.tree_map(lambda v: v[:1], x))
            except Exception:  # a model that cannot take one example alone needs the others
                mixes = True
            else:
                scale = whole.abs().max().clamp(min=1e-12)
                mixes = part.shape[1:] != whole.shape[1:] or bool((part[0] - whole[0]).abs().max() > 1e-3 * scale)
    return dataclasses.replace(seen, output_shape=tuple(whole.shape), mixes_examples=mixes)
