"""Which part of what a model returns is its output, where that is no tensor: a dictionary's, a dataclass's or a tuple's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from innerloop.errors import ConfigError, nearest

Output = str | int | Callable[[Any], Tensor] | None
_chosen: list[Output] = [None]


@contextmanager
def choosing(output: Output) -> Iterator[None]:
    """Models that are taken in inside have this ``output``.

    Raises:
        ConfigError: what is no name, index or function.
    """
    if isinstance(output, bool) or not (output is None or isinstance(output, str | int) or callable(output)):
        raise ConfigError(f"output expected a name, an index or a function, got {type(output).__name__}")
    _chosen.append(output)
    try:
        yield
    finally:
        _chosen.pop()


def chosen() -> Output:
    return _chosen[-1]


def picked(returned: Any, output: Output) -> Any:
    """The part of what a model has returned; a tensor, as it may return outside training, has none and is the output.

    Raises:
        ConfigError: there is no such part, or it is no tensor.
    """
    if output is None or (isinstance(returned, Tensor) and not callable(output)):
        return returned
    if isinstance(output, str):
        if isinstance(returned, Mapping) and output in returned:
            found = returned[output]
        elif output in _fields(returned):
            found = getattr(returned, output)
        else:
            raise ConfigError(
                f"output={output!r} is no part of {_said(returned)}: {nearest(output, _fields(returned))}"
            )
    elif isinstance(output, int):
        named = (
            [getattr(returned, name) for name in _fields(returned)] if not isinstance(returned, Mapping | tuple) else ()
        )
        parts = list(returned.values()) if isinstance(returned, Mapping) else named or returned
        if not isinstance(parts, tuple | list) or not -len(parts) <= output < len(parts):
            raise ConfigError(f"output={output} is no part of {_said(returned)}")
        found = parts[output]
    else:
        found = output(returned)
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"output={output!r} expected to pick a tensor of {_said(returned)}, got {type(found).__name__}"
        )
    return found


def expect_tensor(returned: Any) -> Tensor:
    """What a model has returned; ConfigError with its parts where that is no tensor, or one of other than real numbers."""
    if isinstance(returned, Tensor):
        if not returned.is_floating_point():
            raise ConfigError(
                f"the model expected to return real numbers, got {returned.dtype}; return scores and no labels, and of complex "
                "numbers .abs() or torch.view_as_real"
            )
        return returned
    fields = _fields(returned)
    example = "function" if not fields and not isinstance(returned, tuple | list) else "0"
    if fields:
        example = repr("logits" if "logits" in fields else fields[0])
    raise ConfigError(f"the model returns {_said(returned)}; choose its output, one tensor: output={example}")


def _fields(returned: Any) -> list[str]:
    if isinstance(returned, Mapping):
        return [str(key) for key in returned]
    if dataclasses.is_dataclass(returned):
        return [field.name for field in dataclasses.fields(returned)]
    if hasattr(returned, "_fields"):
        return list(returned._fields)
    return [name for name, value in getattr(returned, "__dict__", {}).items() if isinstance(value, Tensor)]


def _said(returned: Any) -> str:
    kind, fields = type(returned).__name__, _fields(returned)
    if fields:
        return f"a {kind} of {', '.join(fields)}"
    return f"a {kind} of {len(returned)} parts" if isinstance(returned, tuple | list) else f"a {kind}"
