"""Estimators of the outer gradient. META_GRADIENTS are those that a learner may be given instead of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from innerloop.registry import Entry

_HERE = "innerloop.meta_gradients"

META_GRADIENTS: dict[str, Entry] = {
    "backprop": Entry(f"{_HERE}.backprop:Backprop", "Backpropagation through the whole inner loop (Finn 2017)."),
    "first_order": Entry(
        f"{_HERE}.backprop:first_order", "Backpropagation that stops at the inner gradients (Finn 2017)."
    ),
    "truncated": Entry(
        f"{_HERE}.truncated:Truncated", "Backpropagation through the last inner steps only (Shaban 2019)."
    ),
    "implicit": Entry(
        f"{_HERE}.implicit:Implicit", "From the solution of a proximal inner problem alone (Rajeswaran 2019)."
    ),
    "es": Entry(f"{_HERE}.es:ES", "Evolution strategies: from values of the outer loss alone (Salimans 2017)."),
    "pes": Entry(f"{_HERE}.pes:PES", "Persistent evolution strategies: ES on parts of long inner loops (Vicol 2021)."),
}

_NAMES = {
    "Backprop": "backprop",
    "ES": "es",
    "Implicit": "implicit",
    "PES": "pes",
    "Truncated": "truncated",
}

if TYPE_CHECKING:
    from innerloop.meta_gradients.backprop import Backprop as Backprop
    from innerloop.meta_gradients.es import ES as ES
    from innerloop.meta_gradients.implicit import Implicit as Implicit
    from innerloop.meta_gradients.pes import PES as PES
    from innerloop.meta_gradients.truncated import Truncated as Truncated


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{_HERE}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {_HERE!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
