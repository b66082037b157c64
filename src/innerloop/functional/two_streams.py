"""Layers with two weights: slow ones that all tasks share and fast ones of a task, each with a nonlinearity of its own.

Between two such layers, what came through the slow and what came through the fast weights travel one behind the other along the
examples axis, so that whatever stands there (norms, activations, pooling) treats them alike; the next such layer takes their
sum. That is ``relu(W x) + relu(W* x)`` for any activation and any model that goes from layer to layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

# "streams": as above. "sum": the two are added at once, before the nonlinearity, which any model allows.
Meeting = Literal["streams", "sum"]
AUGMENTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclasses.dataclass
class _Pass:
    fast: Mapping[str, Tensor]
    examples: int
    meeting: Meeting
    inside: bool = False  # a layer is computing with its fast weight


_passes: list[_Pass] = []


@contextmanager
def fast_weights(fast: Mapping[str, Tensor], examples: int, meeting: Meeting) -> Iterator[Callable[[Tensor], Tensor]]:
    """Layers named in ``fast`` have these weights beside their own in what runs inside.

    Gives a function that adds up what comes out of the model. There is no fast bias.

    Args:
        fast: weights by the name that the layer was prepared under.
        examples: how many the model is given.
        meeting: where slow and fast are added.
    """
    _passes.append(_Pass(fast, examples, meeting))
    try:
        yield lambda output: _joined(output, examples)
    finally:
        _passes.pop()


def prepare(module: nn.Module, weights: Sequence[str]) -> None:
    """Make the layers that own these weights (names in ``module``) look for fast ones."""
    for name in weights:
        layer = module.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_pre_hook(_take)
        layer.register_forward_hook(functools.partial(_give, name))


def augmentable(module: nn.Module) -> list[str]:
    """Names of the weights of linear and convolution layers."""
    return [f"{name}.weight".lstrip(".") for name, m in module.named_modules() if isinstance(m, AUGMENTABLE)]


def _joined(x: Tensor, examples: int) -> Tensor:
    return x[:examples] + x[examples:] if x.shape[0] == 2 * examples else x


def _take(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if not _passes or _passes[-1].inside:
        return None
    return (_joined(args[0], _passes[-1].examples), *args[1:])


def _give(name: str, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
    if not _passes or _passes[-1].inside or name not in _passes[-1].fast:
        return None
    now = _passes[-1]
    own: dict[str, Tensor] = {"weight": now.fast[name]}
    bias = getattr(layer, "bias", None)
    if bias is not None:
        own["bias"] = torch.zeros_like(bias)
    now.inside = True
    try:
        fast = torch.func.functional_call(layer, own, args)
    finally:
        now.inside = False
    return output + fast if now.meeting == "sum" else torch.cat([output, fast])
