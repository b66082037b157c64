"""What the factories share: writing down a call's arguments, and checking shapes where data comes in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop import registry
from innerloop.errors import ConfigError, ShapeError, expect_whole, nearest
from innerloop.models import parameter_shapes

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


def described(factory: Callable[P, M]) -> Callable[P, M]:
    """Make a factory give what it returns a ``spec``: its own name and every argument, defaults too.

    Defaults are written down because a later version may have others, and old files must still mean what
    they meant.
    """
    return described_with(())(factory)


def described_with(newer: Collection[str]) -> Callable[[Callable[P, M]], Callable[P, M]]:
    """As `described`; the arguments ``newer``, which older files do not have, are not written down at their defaults either."""

    def decorate(factory: Callable[P, M]) -> Callable[P, M]:
        return _described(factory, newer)

    return decorate


def _described(factory: Callable[P, M], newer: Collection[str]) -> Callable[P, M]:
    usual = {name: p.default for name, p in inspect.signature(factory).parameters.items() if name in newer}

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> M:
        usage = f"models.{factory.__name__}(inputs, outputs, option=value, ...)"
        found = registry.arguments(factory, usage, args, kwargs)
        _check_choices(get_type_hints(factory), found)
        module = factory(*args, **kwargs)
        arguments = {n: registry.plain(v) for n, v in found.items() if n not in usual or v != usual[n]}
        object.__setattr__(module, "spec", {"name": factory.__name__, "arguments": arguments})
        object.__setattr__(module, "spec_shapes", parameter_shapes(module))
        return module

    make.newer = frozenset(newer)  # type: ignore[attr-defined]
    return make


def positive(**sizes: Any) -> None:
    """Raise ConfigError for the first size that is not an integer of at least 1."""
    for name, size in sizes.items():
        expect_whole(name, size)


def _check_choices(hints: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError when an argument whose annotation is a `Literal` is none of its values."""
    for name, value in arguments.items():
        parts = get_args(hints[name]) if get_origin(hints[name]) in (Union, UnionType) else (hints[name],)
        known = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
        if known and value not in known and not (value is None and type(None) in parts):
            listed = ", ".join(map(repr, known))
            raise ConfigError(f"{name} expected one of {listed}, got {value!r}: {nearest(str(value), known)}")


def input_shape(inputs: int | Sequence[int], axes: Sequence[str]) -> tuple[int, ...]:
    """``inputs`` as a tuple with one positive integer for each of ``axes``.

    Raises:
        ConfigError: it has another number of axes, or a size below 1.
    """
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    if len(shape) != len(axes):
        raise ConfigError(f"inputs expected ({', '.join(axes)}), the shape of one example, got {inputs!r}")
    positive(**{f"inputs ({axis})": size for axis, size in zip(axes, shape, strict=True)})
    return shape


def check_input(model: str, x: Shaped[Tensor, "*shape"], expected: Sequence[int]) -> None:
    """Raise ShapeError unless ``x`` is floating point with shape (examples, *expected).

    Looks at shapes and dtypes only, so it costs nothing and works under vmap.
    """
    got = tuple(x.shape)
    want = ", ".join(["examples", *map(str, expected)])
    if got[1:] != tuple(expected) or not got:
        raise ShapeError(
            f"{model} expected inputs of shape ({want}), got {got}: reshape the inputs, "
            f"or build the model with inputs={got[1:]}"
        )
    if not x.is_floating_point():
        raise ShapeError(f"{model} expected floating-point inputs, got {x.dtype}: convert them with x.float()")


def flat_rows(model: str, x: Shaped[Tensor, "*shape"], width: int) -> Float[Tensor, "examples width"]:
    """The inputs as rows of ``width`` numbers; ShapeError for any other number, or where the axis of examples is missing."""
    if x.ndim < 2:
        raise ShapeError(
            f"{model} expected inputs of shape (examples, {width}), got {tuple(x.shape)}: "
            "give one-dimensional inputs a last axis (x[:, None])"
        )
    flat = x.flatten(1)
    check_input(model, flat, (width,))
    return flat
