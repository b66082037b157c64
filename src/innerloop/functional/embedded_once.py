"""Layers whose outputs no inner step changes: run once for a task, and put in their places in every later pass.

Where the adapted parameters are those of a head, the body computes the same in each inner step. A pass over the support set is
taken in which the outputs of such layers are recorded, up to the first operation with an adapted parameter; later passes over
the same inputs are given them. The outer gradient goes through the recorded outputs, so it is the same up to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from innerloop.functional.dropout import Dropout
from innerloop.functional.norms import BatchNorm
from innerloop.records import record, static

_CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # which are not called themselves


@record
class Seen:
    """Inputs of a model, and what layers make of them that no inner step changes.

    Attributes:
        x: the inputs.
        outputs: by the layer's name.
        skipped: layers whose outputs only such a layer sees.
    """

    x: Any
    outputs: dict[str, Any]
    skipped: tuple[str, ...] = static(())


@dataclasses.dataclass(frozen=True)
class _Row:
    """A layer; with ``within``, the last of several at the beginning of this nn.Sequential, where each sees the one before."""

    last: str
    before: tuple[str, ...] = ()
    within: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.before, self.last, *(() if self.within is None else (self.within,)))


def unchanged(module: nn.Module, moving: Collection[str], training: bool) -> list[_Row]:
    """Layers that hold none of the parameters ``moving`` and compute the same at every inner step, as large as they can be.

    Left out are layers with dropout or recorded statistics in training, batch norm by the statistics of each step, and those
    that are in several places of the module.
    """
    places: dict[int, int] = {}
    for _, layer in module.named_modules(remove_duplicate=False):
        places[id(layer)] = places.get(id(layer), 0) + 1

    def fixed(name: str, layer: nn.Module) -> bool:
        if any(key == name or key.startswith(f"{name}.") for key in moving):
            return False
        return not any(_varies(m, training) or places[id(m)] > 1 for m in layer.modules())

    def rows(prefix: str, parent: nn.Module) -> Iterator[_Row]:
        children = [(f"{prefix}{name}", child) for name, child in parent.named_children()]
        if type(parent) is nn.Sequential:
            number = next((i for i, child in enumerate(children) if not fixed(*child)), len(children))
            if number:
                names = [name for name, _ in children[:number]]
                yield _Row(names[-1], tuple(names[:-1]), prefix.removesuffix("."))
            children = children[number : number + 1]  # what comes later sees what has changed
        for name, child in children:
            if fixed(name, child) and not isinstance(child, _CONTAINERS):
                yield _Row(name)
            else:
                yield from rows(f"{name}.", child)

    return list(rows("", module))


def _varies(layer: nn.Module, training: bool) -> bool:
    """Whether a layer computes something else, or leaves something else behind, at each inner step."""
    if isinstance(layer, BatchNorm):
        return layer.policy == "per_step" or (layer.policy == "running" and training)
    return isinstance(layer, Dropout) and bool(layer.p) and training


@contextmanager
def recorded(module: nn.Module, rows: list[_Row], moving: list[Tensor]) -> Iterator[Callable[[Any], Seen | None]]:
    """What runs inside is one pass of ``module``; gives a function of its inputs that makes what was `Seen`, None: nothing.

    Args:
        module: the whole model.
        rows: by `unchanged`.
        moving: the tensors that are adapted; what comes after the first operation with one of them is not recorded.
    """
    calls: dict[str, int] = {}
    outputs: dict[str, Any] = {}
    kept = {row.last for row in rows}

    def watched(name: str) -> Callable[..., Any]:
        forward = module.get_submodule(name).forward

        def run(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            output = forward(*args, **kwargs)
            if name in kept and not until.met and _of_tensors(output):
                outputs[name] = output
                return _copied(output)  # the recorded one stays as it is where the model goes on in place
            return output

        return run

    def seen(x: Any) -> Seen | None:
        good = [row for row in rows if row.last in outputs and all(calls.get(name) == 1 for name in row.names)]
        skipped = tuple(name for row in good for name in row.before)
        return Seen(x, {row.last: outputs[row.last] for row in good}, skipped) if good else None

    with _forwards(module, {name: watched(name) for row in rows for name in row.names}), _UntilMet(moving) as until:
        yield seen


@contextmanager
def put_in(module: nn.Module, seen: Seen) -> Iterator[None]:
    """In what runs inside, layers give what was `Seen` and compute nothing."""
    gives: dict[str, Callable[..., Any]] = {name: lambda x: x for name in seen.skipped}
    for name, output in seen.outputs.items():
        gives[name] = lambda *_, output=output, **__: _copied(output)
    with _forwards(module, gives):
        yield


@contextmanager
def _forwards(module: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Inside, the layers of these names have these forwards."""
    held = [(vars(module.get_submodule(name)), forward) for name, forward in forwards.items()]
    before = [attributes.get("forward") for attributes, _ in held]
    for attributes, forward in held:
        attributes["forward"] = forward
    try:
        yield
    finally:
        for (attributes, _), own in zip(held, before, strict=True):
            del attributes["forward"]
            if own is not None:
                attributes["forward"] = own


class _UntilMet(TorchFunctionMode):
    """``met`` from the first operation on that one of these tensors goes into."""

    def __init__(self, moving: list[Tensor]) -> None:
        super().__init__()
        self.moving = {id(t) for t in moving}
        self.met = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.met:
            self.met = any(id(leaf) in self.moving for leaf in pytree.tree_leaves((args, kwargs)))
        return func(*args, **(kwargs or {}))


def _of_tensors(output: Any) -> bool:
    return all(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(output))


def _copied(output: Any) -> Any:
    return pytree.tree_map(lambda v: v.clone(), output)
