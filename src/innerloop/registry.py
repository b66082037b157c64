"""Names to things, without importing the things: what makes `innerloop list` answer before torch is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from innerloop.errors import ConfigError, nearest


class Entry(NamedTuple):
    """One line of a registry."""

    target: str  # "package.module:attribute"
    summary: str  # one sentence, shown by `innerloop list` and in the help


def load(kind: str, registry: Mapping[str, Entry], name: str) -> Any:
    """Import and return what `name` stands for; an unknown name is a ConfigError that shows the nearest."""
    if name not in registry:
        raise ConfigError(f"unknown {kind} {name!r}: {nearest(name, registry)}")
    module, attribute = registry[name].target.split(":")
    return getattr(importlib.import_module(module), attribute)
