"""Reports: one self-contained HTML file, its pictures, and tables for the terminal.

``il.report(runs, out)`` is `build`, which makes a report from run directories; ``html.render(title, sections, out)`` makes one
from whatever a program has in memory. Importing this package imports neither torch nor matplotlib.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.report.from_runs import build as build


class _Callable(types.ModuleType):
    """Makes ``innerloop.report(runs, out)`` mean `build`.

    The package and the function share a name, and Python binds that name to a package once it is imported.
    """

    def __call__(self, runs: Sequence[Path | str] | Path | str, out: Path | str | None = None, **again: Any) -> Path:
        from innerloop.report.from_runs import build

        return build(runs, out, **again)

    build = __call__


sys.modules[__name__].__class__ = _Callable
