"""Worlds to act in: ``il.worlds.NAME(**options)`` is ``il.tasks.NAME(**options)``, a family of tasks.

``from_gymnasium`` makes a family of anybody's environment.

One family is one file in `innerloop.tasks.worlds`, and one line in `innerloop.tasks.WORLDS`. (That folder cannot bear the names
itself: each is a file in it.)
"""

from __future__ import annotations

from typing import Any

from innerloop.registry import load
from innerloop.tasks import WORLDS

# Here alone: `il.tasks.pendulum` is another problem.
_ALSO = {"pendulum": "pendulum_swing_up"}


def __getattr__(name: str) -> Any:
    if name == "from_gymnasium":
        from innerloop.tasks.worlds.gymnasium_worlds import from_gymnasium

        return from_gymnasium
    known = _ALSO.get(name, name)
    if known in WORLDS:
        return load("problem", WORLDS, known)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *WORLDS, *_ALSO, "from_gymnasium"])
