"""Settings as text (flags) and as plain data (files): which types they may have, and their conversion.

cyclopts alone takes ``nan`` for a number and rounds ``1.5`` to an integer, so conversion is done here, for
flags and files alike.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from innerloop.errors import ConfigError

_SCALARS = (bool, int, float, str, Path)


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a type alone is its own one alternative."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def settable(annotation: Any) -> Any:
    """The part of a parameter's type that can be written as text, or None when there is none (functions,
    tables).
    """
    kept: list[Any] = []
    for member in members(annotation):
        origin = get_origin(member)
        if member in _SCALARS or member is type(None) or origin is Literal:
            kept.append(member)
        elif origin is tuple and get_args(member)[-1:] != (Ellipsis,):
            if all(a in _SCALARS for a in get_args(member)):
                kept.append(member)
        elif _is_sequence(origin) and get_args(member)[:1] and get_args(member)[0] in _SCALARS:
            kept.append(tuple[get_args(member)[0], ...])
    if not [k for k in kept if k is not type(None)]:
        return None
    result = kept[0]
    for other in kept[1:]:
        result = result | other
    return result


def _is_sequence(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Sequence)


def is_flag(annotation: Any) -> bool:
    """Whether this is a plain yes or no, written ``--flag`` / ``--no-flag``."""
    return [m for m in members(annotation) if m is not type(None)] == [bool]


def words(annotation: Any) -> int | None:
    """How many words of text a value takes; None: one or more."""
    counts: list[int | None] = []
    for member in members(annotation):
        if get_origin(member) is tuple:
            counts.append(None if get_args(member)[-1] is Ellipsis else len(get_args(member)))
    if is_flag(annotation):
        return 0
    if not counts:
        return 1
    scalar = any(get_origin(m) is not tuple and m is not type(None) for m in members(annotation))
    return None if scalar or None in counts or len(set(counts)) > 1 else counts[0]


def expected(annotation: Any) -> str:
    """What a value has to be, in words: "an integer", "2 numbers", "one of 'adam', 'sgd'"."""
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a finite number",
        str: "a text",
        Path: "a path",
    }
    plural = {
        bool: "values true or false",
        int: "integers",
        float: "finite numbers",
        str: "texts",
        Path: "paths",
    }
    said: list[str] = []
    for member in members(annotation):
        if member is type(None):
            said.append("none")
        elif get_origin(member) is Literal:
            said.append("one of " + ", ".join(map(repr, get_args(member))))
        elif get_origin(member) is tuple:
            inner = get_args(member)
            said.append(plural[inner[0]] if inner[-1] is Ellipsis else f"{len(inner)} {plural[inner[0]]}")
        else:
            said.append(names[member])
    return " or ".join(sorted(said, key=lambda s: s == "none"))


def _number(kind: type, text: str) -> Any:
    value = kind(text.replace("_", "x")) if kind is int else float(text.replace("_", "x"))
    if kind is float and not math.isfinite(value):
        raise ValueError
    return value


def _scalar(kind: Any, text: str) -> Any:
    """One word as ``kind``; ValueError when it is not one."""
    if kind is type(None):
        if text.lower() in ("none", "null"):
            return None
        raise ValueError
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == text:
                return choice
        raise ValueError
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise ValueError
    if kind in (int, float):
        return _number(kind, text)
    return kind(text)


def _refuse(annotation: Any, got: str, texts: Sequence[str] = ()) -> ConfigError:
    choices = [str(c) for m in members(annotation) if get_origin(m) is Literal for c in get_args(m)]
    near = difflib.get_close_matches(texts[0], choices, n=1, cutoff=0.6) if texts else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"expected {expected(annotation)}, got {got}{hint}")


def parse(annotation: Any, texts: Sequence[str]) -> Any:
    """The value that these words stand for; ConfigError "expected ..., got ..." when they stand for none.

    A number wins over a text where a setting may be either, and one word alone is not made a sequence where
    it may be a plain value.
    """
    order = sorted(members(annotation), key=lambda m: (m is not type(None), m is str))
    for member in order:
        try:
            if get_origin(member) is not tuple:
                if len(texts) == 1:
                    return _scalar(member, texts[0])
                continue
            inner = get_args(member)
            if inner[-1] is Ellipsis:
                if texts and not (len(texts) == 1 and inner[0] in order):
                    return tuple(_scalar(inner[0], t) for t in texts)
            elif len(inner) == len(texts):
                return tuple(_scalar(kind, t) for kind, t in zip(inner, texts, strict=True))
        except ValueError:
            continue
    raise _refuse(annotation, " ".join(map(repr, texts)) or "nothing", texts)


def _plain(kind: Any, value: Any) -> Any:
    """A value of a file as ``kind``; ValueError when it is not one."""
    if kind is type(None):
        if value is not None:
            raise ValueError
        return None
    if isinstance(value, str) and kind is not str and kind is not Path and get_origin(kind) is not Literal:
        if kind is float:
            return _number(float, value)  # YAML reads 1e-3, without a dot, as a text
        raise ValueError
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ValueError
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind and kind is not float:
        return value
    raise ValueError


def check(annotation: Any, value: Any) -> Any:
    """A value read from a file, as the setting's type; ConfigError "expected ..., got ..." when it has
    another.
    """
    for member in sorted(members(annotation), key=lambda m: m is str):
        try:
            if get_origin(member) is not tuple:
                return _plain(member, value)
            if isinstance(value, list | tuple):
                inner = get_args(member)
                if inner[-1] is Ellipsis:
                    return tuple(_plain(inner[0], v) for v in value)
                if len(inner) == len(value):
                    return tuple(_plain(kind, v) for kind, v in zip(inner, value, strict=True))
        except ValueError:
            continue
    raise _refuse(annotation, repr(value), [value] if isinstance(value, str) else ())


def converter(annotation: Any) -> Callable[[Any, Sequence[Any]], Any]:
    """`parse` in the shape that cyclopts calls."""

    def convert(_: Any, tokens: Sequence[Any]) -> Any:
        return parse(annotation, [token.value for token in tokens])

    return convert
