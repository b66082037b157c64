"""What a forward pass does beside giving an output: what it writes on its module, and parameters it reaches by other ways.

A user's module is run as a function of its parameters and buffers. That is right where it computes with what is put in their
places, and where what it leaves behind is given back; both are looked into once, on copies, before the module is used.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from innerloop.errors import ConfigError
from innerloop.functional.randomness import UNSEEDED, seeded

_OURS = ("torch", "innerloop")  # whose layers write nothing but buffers and reach nothing but their parameters
_PLAIN = (
    nn.Module,
    Tensor,
    type,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    torch.Generator,
    np.random.Generator,
)
_DEPTH = 3  # of containers in containers
_TOLERANCE = 1e-3  # relative, of float32 gradients of the same computation
_REGISTER = "register it, and reach it as its module's attribute: nn.Parameter, nn.ParameterList, nn.ModuleList"


@dataclasses.dataclass(frozen=True)
class Traces:
    """What a forward pass leaves behind.

    Attributes:
        buffers: written ones that keep their shape and dtype.
        in_place: which of these are written in place.
        statistics: which of these hold numbers that meta-training alone writes.
        attributes: anything else that has changed, such as "rnn.last".
        inputs: whether the inputs are written.
    """

    buffers: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    inputs: bool = False


class Callee(Protocol):
    """What is asked of a `PureModel`."""

    module: nn.Module
    names: dict[str, str]

    def call(self, given: dict[str, Tensor], *x: Any, training: bool) -> Any: ...
    def itself(self, *x: Any, training: bool) -> Any: ...


def layers_of_others(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers with a forward that neither torch nor innerloop wrote, or with hooks."""
    return [
        (name, layer)
        for name, layer in module.named_modules()
        if type(layer).__module__.partition(".")[0] not in _OURS
        or "forward" in vars(layer)
        or layer._forward_hooks
        or layer._forward_pre_hooks
    ]


@contextmanager
def put_back(layers: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """What runs inside leaves these layers' attributes as they were, and what is in their lists and dictionaries."""
    undo = [_undo(vars(layer), 0) for _, layer in layers]
    try:
        yield
    finally:
        for back in undo:
            back()


def _parts(value: Any, depth: int) -> Any:
    """What may hold other values, as what can be written to; None: nothing that can."""
    if depth > _DEPTH or isinstance(value, _PLAIN):
        return None
    if isinstance(value, (list, dict, set, deque)):
        return value
    return vars(value) if hasattr(value, "__dict__") else None


def _undo(held: Any, depth: int) -> Callable[[], None]:
    before = dict(held) if isinstance(held, dict) else list(held)
    inside = [_undo(p, depth + 1) for v in _values(before) if (p := _parts(v, depth + 1)) is not None]

    def back() -> None:
        if isinstance(held, dict):
            if held.keys() != before.keys() or any(held[k] is not v for k, v in before.items()):  # type: ignore[union-attr]
                held.clear()
                held.update(before)
        elif len(held) != len(before) or any(a is not b for a, b in zip(held, before, strict=True)):
            held.clear()
            held.update(before) if isinstance(held, set) else held.extend(before)
        for one in inside:
            one()

    return back


def _values(held: Any) -> Any:
    return held.values() if isinstance(held, dict) else held


def _marks(held: Any, depth: int = 0) -> list[Any]:
    """All that is held, and of tensors how often they were written to."""
    found = []
    for key, value in held.items() if isinstance(held, dict) else enumerate(held):
        inner = _parts(value, depth + 1)
        found.append(
            (key, value, value._version if isinstance(value, Tensor) else _marks(inner, depth + 1) if inner else 0)
        )
    return found


def _differ(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return True
        pairs = zip(a, b, strict=True)
        return any(k != j or v is not w or _differ(m, n) for (k, v, m), (j, w, n) in pairs)
    return isinstance(a, list) != isinstance(b, list) or (not isinstance(a, list) and a != b)


class _Reached(TorchFunctionMode):
    """Trainable tensors that a pass computes with, other than those that were put in."""

    def __init__(self, given: Mapping[str, Tensor], own: Mapping[int, str]) -> None:
        super().__init__()
        self.given, self.own = {id(t) for t in given.values()}, own
        self.registered: set[str] = set()
        self.others: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
        for t in pytree.tree_leaves((args, kwargs)) if leaves else ():
            if not isinstance(t, Tensor) or id(t) in self.given or not t.is_leaf:
                continue
            if id(t) in self.own:
                self.registered.add(self.own[id(t)])
            elif t.requires_grad and any(r.requires_grad for r in leaves) and func is not Tensor.requires_grad_:
                self.others.append(t)
        return result


def look_into(fresh: Callable[[], Callee], x: tuple[Any, ...]) -> Traces:
    """Run a module on these inputs in evaluation and in training, as a function and as it is.

    Args:
        fresh: makes a copy of the module that may be used up.
        x: what its ``forward`` takes.

    Raises:
        ConfigError: it computes with parameters that are not registered, or not reached as attributes of their modules, writes
            its parameters, or goes on from something that it kept from an earlier call and that is no buffer.
    """
    pure = fresh()
    watched = layers_of_others(pure.module)
    in_torch = any(True for _ in pure.module.buffers()) or any(
        getattr(m, "inplace", False) for m in pure.module.modules()
    )
    if not watched and not in_torch:
        return Traces()
    own = {id(p): name for name, p in pure.module.named_parameters()}
    params, as_given = _moved(pure.module), _moved(pure.module)
    buffers = dict(pure.module.named_buffers())
    written: dict[str, set[bool]] = {}
    in_place, attributes, outputs, inputs = set(), [], {}, False
    for turn in range(4):
        training = turn % 2 == 1
        given = {name: b.detach().clone() for name, b in buffers.items()}
        if attributes and turn > 1:  # what goes on from other inputs shows
            others = pytree.tree_map(lambda v: v[:1].expand_as(v).clone() if isinstance(v, Tensor) and v.ndim else v, x)
            with suppress(Exception), seeded(pure.module, 0):
                pure.call({**params, **fresh_inputs(given)}, *others, training=training)
        clones, reached = dict(given), _Reached({**params, **given}, own)
        before = {name: _marks(vars(layer)) for name, layer in watched}
        shown = fresh_inputs(x)
        try:
            with seeded(pure.module, 0), reached:
                found = pure.call(given := {**params, **given}, *shown, training=training)
        except Exception:
            if not training:
                raise
            continue  # what fails in training alone is said there
        _expect_registered(reached, pure.module)
        inputs = inputs or _written(x, shown)
        wrote = [name for name, p in params.items() if p._version or not torch.equal(p, as_given[name])]
        if wrote:
            raise ConfigError(
                f"the model's forward pass writes its parameter {wrote[0]}, which tasks share; compute another tensor from it "
                "(torch.clamp, torch.renorm), or keep what is not learned in a buffer: self.register_buffer(name, tensor)"
            )
        for name, old in clones.items():
            new = given[name]
            wrote = bool(old._version) or not torch.equal(old, buffers[name])  # torch's own kernels do not count
            if new is old and not wrote:
                continue
            if new.shape != old.shape or new.dtype != old.dtype:
                attributes.append(name)
                continue
            written.setdefault(name, set()).add(training)
            if wrote:
                in_place.add(name)
        changed = [
            f"{name}.{key}".lstrip(".")
            for name, layer in watched
            for key in _changed(before[name], _marks(vars(layer)))
            if key != "training"
        ]
        attributes += changed
        kept = [t.detach() for t in tensors_of(found)] + [given[name].detach() for name in buffers]
        if training in outputs and attributes and not _alike(outputs[training], kept):
            raise ConfigError(
                f"the model goes on from what an earlier call left in {', '.join(dict.fromkeys(attributes))}, which would leak "
                "from task to task; keep it in a buffer with a first value, self.register_buffer(name, tensor), which is "
                "given back task by task, or hand it on within one forward"
            )
        outputs[training] = kept
    for training in (False, True):
        _expect_same_gradient(fresh, x, training)
    floating = {name for name in written if buffers[name].is_floating_point()}
    return Traces(
        tuple(sorted(written)),
        tuple(sorted(in_place)),
        tuple(sorted(name for name in floating if written[name] == {True})),
        tuple(dict.fromkeys(attributes)),
        inputs,
    )


def fresh_inputs(x: Any) -> Any:
    """Copies that may be written."""
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, x)


def _written(x: tuple[Any, ...], shown: tuple[Any, ...]) -> bool:
    """Whether a pass has changed the copies that it was shown."""
    (old, kind), (new, now) = pytree.tree_flatten(x), pytree.tree_flatten(shown)
    return kind != now or any(
        isinstance(v, Tensor) and (bool(v._version) or not torch.equal(u, v)) for u, v in zip(old, new, strict=True)
    )


def _changed(before: list[Any], after: list[Any]) -> list[str]:
    """Names of attributes that are others, and of a module's buffers that it had not."""
    old, new = {k: (v, m) for k, v, m in before}, {k: (v, m) for k, v, m in after}
    found: list[str] = []
    for k in {**old, **new}:
        if k not in old or k not in new or old[k][0] is not new[k][0]:
            found.append(str(k))
        elif _differ(old[k][1], new[k][1]):
            found += (
                _changed(old[k][1] or [], new[k][1] or []) if k in ("_buffers", "_parameters", "_modules") else [str(k)]
            )
    return found


def _moved(module: nn.Module) -> dict[str, Tensor]:
    """Other values for the parameters: a tenth away, so that a value that is not put in shows."""
    generator = np.random.default_rng(0)  # not torch's, which a probe around this would see
    found = {}
    for name, p in module.named_parameters():
        value = p.detach().clone()
        if value.is_floating_point() or value.is_complex():
            noise = torch.as_tensor(generator.standard_normal(tuple(p.shape))).to(p.device)
            value = (value * (1 + 0.1 * noise) + 0.01 * noise).to(p.dtype).requires_grad_()
        found[name] = value
    return found


def _expect_registered(reached: _Reached, module: nn.Module) -> None:
    if reached.registered:
        names = ", ".join(sorted(reached.registered))
        raise ConfigError(
            f"the model computes with {names} by another way than the attribute of its module (a list, a dictionary, a closure), "
            f"where adapted values cannot be put; {_REGISTER}"
        )
    if reached.others:
        t = reached.others[0]
        alike = [n for n, p in module.named_parameters() if p.shape == t.shape and torch.equal(p.detach(), t.detach())]
        path = _path_to(t, module) or (f"a tensor with the values of {alike[0]}" if alike else "a tensor")
        raise ConfigError(
            f"the model computes with {path}, shape {tuple(t.shape)}, which is trainable and no registered parameter of it, so "
            f"that it would neither be adapted nor learned; {_REGISTER}; or freeze it: requires_grad_(False)"
        )


def _path_to(wanted: Tensor, module: nn.Module) -> str:
    """The attribute that holds a tensor; empty: not found."""

    def inside(value: Any, path: str, depth: int) -> str:
        if value is wanted:
            return path
        if isinstance(value, nn.Module):
            return next((f"{path}.{name}" for name, p in value.named_parameters() if p is wanted), "")
        if isinstance(value, functools.partial):
            value = {**dict(enumerate(value.args)), **value.keywords}
        held = _parts(value, depth)
        items = held.items() if isinstance(held, dict) else enumerate(value if isinstance(value, tuple) else held or ())
        return next((p for key, v in items if (p := inside(v, f"{path}[{key!r}]", depth + 1))), "")

    for name, layer in module.named_modules():
        for key, value in vars(layer).items():
            if not key.startswith("_") and (found := inside(value, f"{name}.{key}".lstrip("."), 1)):
                return found
    return ""


def _expect_same_gradient(fresh: Callable[[], Callee], x: tuple[Any, ...], training: bool) -> None:
    """ConfigError where the gradient by what is put in is not the one by the module's own parameters at these values."""
    pure, plain = fresh(), fresh()
    values = _moved(pure.module)
    with torch.no_grad():
        for name, p in plain.module.named_parameters():
            p.copy_(values[name])
            p.requires_grad_(values[name].requires_grad)
    try:
        slopes = _slopes(plain, x, training)
    except Exception:  # it has no gradient, or does not run in this mode
        return
    if sparse := [name for name, slope in slopes.items() if slope.is_sparse]:
        raise ConfigError(
            f"the model gives {sparse[0]} a sparse gradient, which no update rule takes; leave sparse=True out of F.embedding"
        )
    wrong = list(values)
    with suppress(Exception):  # what fails now alone is wrong too
        found = _slopes(pure, x, training, values)
        wrong = [name for name in values if not _alike([slopes[name]], [found[name]])]
    if wrong:
        again = _slopes(plain, x, training)
        if not all(_alike([slopes[name]], [again[name]]) for name in wrong):
            raise ConfigError(UNSEEDED)
        raise ConfigError(
            f"the gradient by {', '.join(wrong[:3])} is not the one that the module itself gives: a part of forward runs again "
            "later, when the adapted values are gone (torch.utils.checkpoint), or computes with a copy made earlier; switch that "
            "off in the model (learner.recompute = True saves memory instead)"
        )


@torch.enable_grad()
def _slopes(
    pure: Callee, x: tuple[Any, ...], training: bool, values: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The gradient of the squared outputs by these values, or by the module's own."""
    held = dict(pure.module.named_parameters()) if values is None else values
    for p in held.values():
        p.grad = None
    x = fresh_inputs(x)
    with seeded(pure.module, 0):
        found = pure.itself(*x, training=training) if values is None else pure.call(dict(values), *x, training=training)
        outputs = [t for t in tensors_of(found) if t.requires_grad and not t.is_complex()]
        if outputs:
            torch.stack([t.double().square().sum() for t in outputs]).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in held.items()}


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors of an output of any kind."""
    found = []
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, _PLAIN):
            found += [v for v in vars(leaf).values() if isinstance(v, Tensor)]
    return found


def _alike(a: list[Tensor], b: list[Tensor]) -> bool:
    if [t.shape for t in a] != [t.shape for t in b]:
        return False
    for left, right in zip(a, b, strict=True):
        if not (left.is_floating_point() or left.is_complex()):
            same = torch.equal(left, right)
        else:
            scale = float(left.detach().abs().nan_to_num().max()) if left.numel() else 0.0
            same = torch.allclose(
                left.detach(), right.detach(), rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
            )
        if not same:
            return False
    return True
