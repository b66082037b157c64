"""One forward pass that finds out what a model needs: which strategies are right for it, and whether it mixes examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

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
_RANDOM = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "rrelu",
    "gumbel_softmax", "rand", "randn", "rand_like", "randn_like", "randint", "randperm", "bernoulli", "multinomial", "normal",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one forward pass showed.

    Attributes:
        output_shape: of one task's prediction, with the examples axis.
        needs_loop: functions met that vmap gets wrong or refuses; empty when vmap is right.
        attention: fused attention was met, which has no second derivative on CPU unless its plain kernel is used.
        random: random functions met that are not drawn from the task's key.
        mixes_examples: one example's output depends on the others in the batch.
    """

    output_shape: tuple[int, ...]
    needs_loop: tuple[str, ...] = ()
    attention: bool = False
    random: tuple[str, ...] = ()
    mixes_examples: bool = False


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.wrong: set[str] = set()
        self.random: set[str] = set()
        self.attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func in _WRONG_UNDER_VMAP:
            self.wrong.add(_WRONG_UNDER_VMAP[func])
        elif name in _FAILS_UNDER_VMAP:
            self.wrong.add(_FAILS_UNDER_VMAP[name])
        elif name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
            self.attention = True
        elif name in _RANDOM:
            dropout = "dropout" in name
            probability = (kwargs or {}).get("p", args[1] if len(args) > 1 else 0.5)
            training = (kwargs or {}).get("training", args[2] if len(args) > 2 else True)
            if not dropout or (probability and training):
                self.random.add(name)
        return func(*args, **(kwargs or {}))


def observed(function: Callable[[], Any]) -> tuple[Any, Probe]:
    """What a function gives, without a graph, and what it called on the way."""
    with torch.no_grad(), _Recorder() as seen:
        found = function()
    return found, Probe((), tuple(sorted(seen.wrong)), seen.attention, tuple(sorted(seen.random)))


def probe(forward: Callable[[Any], Tensor], x: Any) -> Probe:
    """Run ``forward`` on the examples ``x`` of one task and on a part of them.

    A part of the examples must give the same outputs unless the model mixes examples (batch statistics, attention across
    the batch); equality is to rounding, since kernels differ with the batch size.
    """
    whole, seen = observed(lambda: forward(x))
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
