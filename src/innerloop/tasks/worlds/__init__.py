"""Worlds to act in: ``il.worlds.NAME(**options)`` is ``il.tasks.NAME(**options)``, a family of tasks.

One family is one file here, and one line in `innerloop.tasks.WORLDS`. ``from_gymnasium`` makes one of anybody's environment.
"""

from __future__ import annotations

from typing import Any

from innerloop import tasks
from innerloop.registry import load

# Here alone: `il.tasks.pendulum` is another problem.
_ALSO = {"pendulum": "pendulum_swing_up"}


def __getattr__(name: str) -> Any:
    if name == "from_gymnasium":
        from innerloop.tasks.worlds.gymnasium_worlds import from_gymnasium

        return from_gymnasium
    known = _ALSO.get(name, name)
    if known in tasks.WORLDS:
        return load("problem", tasks.WORLDS, known)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *tasks.WORLDS, *_ALSO, "from_gymnasium"])
