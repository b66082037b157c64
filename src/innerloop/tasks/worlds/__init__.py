"""Worlds to act in: ``il.worlds.NAME(**options)`` is ``il.tasks.NAME(**options)``, a family of tasks.

One family is one file here, and one line in `innerloop.tasks.WORLDS`. ``from_gymnasium`` makes one of anybody's environment.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from innerloop import tasks
from innerloop.registry import load

# Here alone: `il.tasks.pendulum` is another problem.
_ALSO = {"pendulum": "pendulum_swing_up"}


class _Worlds(types.ModuleType):
    """This module, whose factories have the names of the files that they stand in: a file that is loaded does not hide them."""

    def __getattribute__(self, name: str) -> Any:
        if name == "from_gymnasium":
            from innerloop.tasks.worlds.gymnasium_worlds import from_gymnasium

            return from_gymnasium
        known = _ALSO.get(name, name)
        return load("problem", tasks.WORLDS, known) if known in tasks.WORLDS else super().__getattribute__(name)

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *tasks.WORLDS, *_ALSO, "from_gymnasium"])


sys.modules[__name__].__class__ = _Worlds
