"""Random numbers that a model draws by itself, from whatever source: found out by what a pass changes, drawn anew from a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

UNSEEDED = (
    "the model gives other outputs for the same inputs: it draws random numbers from a source of its own, or counts its calls; "
    "draw from torch's, numpy's or Python's global generator, or keep the generator in the module"
)
_OWN = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def _sources(module: nn.Module) -> list[Any]:
    """Generators that modules hold."""
    held = (leaf for part in module.modules() for leaf in pytree.tree_leaves(vars(part)))
    return [source for source in held if isinstance(source, _OWN)]


def _state(source: Any) -> Any:
    if isinstance(source, np.random.Generator):
        return source.bit_generator.state
    if isinstance(source, torch.Generator):
        return source.get_state()
    return source.get_state() if isinstance(source, np.random.RandomState) else source.getstate()


def _restore(source: Any, state: Any) -> None:
    if isinstance(source, np.random.Generator):
        source.bit_generator.state = state
    elif isinstance(source, torch.Generator | np.random.RandomState):
        source.set_state(state)
    else:
        source.setstate(state)


def _seed(source: Any, seed: int) -> None:
    if isinstance(source, np.random.Generator):
        source.bit_generator.state = type(source.bit_generator)(seed).state
    elif isinstance(source, torch.Generator):
        source.manual_seed(seed)
    else:
        source.seed(seed)


@contextmanager
def kept(module: nn.Module) -> Iterator[None]:
    """All sources of random numbers are afterwards as they were."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    numbers, python, own = np.random.get_state(), random.getstate(), [(s, _state(s)) for s in _sources(module)]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numbers)
            random.setstate(python)
            for source, state in own:
                _restore(source, state)


@contextmanager
def seeded(module: nn.Module, key: Tensor | int) -> Iterator[None]:
    """What runs inside draws from this key alone, and leaves no trace in any source of random numbers."""
    with kept(module):
        seed = int(key) & 0xFFFFFFFF
        torch.default_generator.manual_seed(int(key))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(int(key))
        np.random.seed(seed)
        random.seed(seed)
        for source in _sources(module):
            _seed(source, seed)
        yield


def drawn(module: nn.Module) -> tuple[Any, ...]:
    """Where all sources are: what has changed after a pass was drawn from."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    torchs = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    tensors = [*torchs, *(_state(s) for s in _sources(module) if isinstance(s, torch.Generator))]
    others = [_state(s) for s in _sources(module) if not isinstance(s, torch.Generator)]
    return (*(t.numpy().tobytes() for t in tensors), repr((np.random.get_state(), random.getstate(), others)))
