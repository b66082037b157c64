"""Names to things, without importing the things: what makes `innerloop list` answer before torch is loaded.

A word stands for what our registries list, for what an installed package offers through an entry point, or, written
``package.module:name``, for anything that can be imported. The last is for words that a user has typed (``typed``): a word
that was read from a file is imported only where an installed package offers the very same.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from innerloop.errors import ConfigError, InnerloopError, first_line, nearest

GROUPS = {"algorithm": "innerloop.methods", "problem": "innerloop.tasks", "model": "innerloop.models"}
_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_JSON = (bool, int, float, str, type(None))


class Entry(NamedTuple):
    """One line of a registry."""

    target: str  # "package.module:attribute"
    summary: str  # one sentence, shown by `innerloop list` and in the help


class Typed(str):
    """A word among a problem's options that the user has typed; a file that holds it gives back a plain one."""


def is_place(word: str) -> bool:
    """Whether a word says where something is: ``package.module:name``."""
    return _PLACE.fullmatch(word) is not None


def installed(kind: str) -> dict[str, Entry]:
    """What installed packages offer of this kind, by the names of their entry points; nothing of them is imported."""
    if kind not in GROUPS:
        return {}
    from importlib.metadata import entry_points

    found: dict[str, Entry] = {}
    for point in sorted(entry_points(group=GROUPS[kind]), key=lambda p: (p.name, p.value)):
        package = getattr(point.dist, "name", None) or point.module.partition(".")[0]
        found.setdefault(point.name, Entry(point.value.partition("[")[0].strip(), f"from the package {package}"))
    return found


def find(kind: str, registry: Mapping[str, Entry], word: str, *, typed: bool = False) -> Entry | None:
    """The entry that a word stands for; None where there is none.

    Args:
        kind: "algorithm", "problem", "model" or another.
        registry: ours; its names go first.
        word: a name, or ``package.module:name``.
        typed: the word comes from the user, not from a file.
    """
    if word in registry:
        return registry[word]
    others = installed(kind)
    if word in others:
        return others[word]
    if is_place(word) and (typed or any(entry.target == word for entry in others.values())):
        return Entry(word, "")
    return None


def load(kind: str, registry: Mapping[str, Entry], word: str, *, typed: bool = False) -> Any:
    """Import and return what `word` stands for; see `find`.

    Raises:
        ConfigError: an unknown name (the message shows the nearest), or something that cannot be imported.
    """
    entry = find(kind, registry, word, typed=typed)
    if entry is None and is_place(word):
        raise ConfigError(f"the {kind} {word!r} is offered by no installed package, and only what you type is imported")
    if entry is None:
        raise ConfigError(f"unknown {kind} {word!r}: {nearest(word, [*registry, *installed(kind)])}")
    module, attribute = entry.target.split(":")
    if word in registry:
        return getattr(importlib.import_module(module), attribute)
    if typed and is_place(word) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as for a script of the user's own
    try:
        found = importlib.import_module(module)
    except Exception as error:  # somebody else's module may fail in any way
        absent = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
        remedy = "check the spelling, and be in its folder or install its package" if absent else f"mend {module}"
        raise ConfigError(
            f"the {kind} {word!r} cannot be imported: {first_line(error, kind=True)}; {remedy}"
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"the {kind} {word!r} expected {name!r} in {module}: {nearest(name, _own_names(found))}")
        found = getattr(found, name)
    return found


def _own_names(place: Any) -> list[str]:
    """What a module or a class offers by itself: not what it imported from elsewhere, nor what begins with an underscore."""
    package = str(getattr(place, "__module__", None) or getattr(place, "__name__", "")).partition(".")[0]

    def own(value: Any) -> bool:
        where = getattr(value, "__module__", None)
        return not inspect.ismodule(value) and (where is None or str(where).partition(".")[0] == package)

    return [name for name in dir(place) if not name.startswith("_") and own(getattr(place, name, None))]


def call(kind: str, word: str, factory: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What somebody else's factory makes; a failure in it is told in one line."""
    if not callable(factory):
        raise ConfigError(f"the {kind} {word!r} expected a function, got {type(factory).__name__}")
    try:
        return factory(*args, **options)
    except InnerloopError:
        raise
    except Exception as error:
        raise ConfigError(f"the {kind} {word!r} cannot be made: {first_line(error, kind=True)}") from error


def arguments(
    factory: Callable[..., Any], usage: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by their names, defaults too.

    Raises:
        ConfigError: an unknown name (the message shows the nearest), or a call that does not fit (it shows ``usage``).
    """
    name, signature = factory.__name__, inspect.signature(factory)
    for given in kwargs:
        if given not in signature.parameters:
            raise ConfigError(f"{name} has no argument {given!r}: {nearest(given, signature.parameters)}")
    try:
        found = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}; expected il.{usage}") from None
    found.apply_defaults()
    return found.arguments


def bound(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, defaults too, as far as a file can hold them: what makes the same again."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if name in options or (
            parameter.default is not parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ):
            found[name] = options.get(name, parameter.default)
    found |= {name: value for name, value in options.items() if name not in found}
    return {name: plain(value) for name, value in found.items() if writable(value)}


def plain(value: Any) -> Any:
    """JSON has lists and no tuples; both must give the same record."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def writable(value: Any) -> bool:
    """Whether a file can hold it: plain values, and lists and tables of them."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and writable(item) for key, item in value.items())
    return all(map(writable, value)) if isinstance(value, list | tuple) else isinstance(value, _JSON)
