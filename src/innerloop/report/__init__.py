"""Reports: one self-contained HTML file, its pictures, and tables for the terminal.

``build(runs, out)`` makes a report from run directories; ``render(title, sections, out)`` from whatever a
program has in memory. Figure functions take plain arrays and records, so they serve outside a report as
well. Importing this package imports neither torch nor matplotlib; the names below load what they need.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.report.adaptation import (
        AdaptationCurve,
        adaptation_figure,
        adaptation_picture,
        adaptation_table,
    )
    from innerloop.report.cards import comparison_table, evaluation_card, settings_table
    from innerloop.report.curves import History, history, read_history, training_figure, training_picture
    from innerloop.report.from_runs import build, run_sections_of
    from innerloop.report.html import render, to_html
    from innerloop.report.image_tasks import ImageTask, image_figure, image_pictures, task_pictures
    from innerloop.report.page import Note, Picture, Section, Table
    from innerloop.report.sine_plots import average_curve, mean_sine, sine_figure, sine_picture, task_picture
    from innerloop.report.text import text_table

_HOME = {
    "adaptation": ("AdaptationCurve", "adaptation_figure", "adaptation_picture", "adaptation_table"),
    "cards": ("comparison_table", "evaluation_card", "settings_table"),
    "curves": ("History", "history", "read_history", "training_figure", "training_picture"),
    "from_runs": ("build", "run_sections_of"),
    "html": ("render", "to_html"),
    "image_tasks": ("ImageTask", "image_figure", "image_pictures", "task_pictures"),
    "page": ("Note", "Picture", "Section", "Table"),
    "sine_plots": ("average_curve", "mean_sine", "sine_figure", "sine_picture", "task_picture"),
    "text": ("text_table",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AdaptationCurve",
    "History",
    "ImageTask",
    "Note",
    "Picture",
    "Section",
    "Table",
    "adaptation_figure",
    "adaptation_picture",
    "adaptation_table",
    "average_curve",
    "build",
    "comparison_table",
    "evaluation_card",
    "history",
    "image_figure",
    "image_pictures",
    "mean_sine",
    "read_history",
    "render",
    "run_sections_of",
    "settings_table",
    "sine_figure",
    "sine_picture",
    "task_picture",
    "task_pictures",
    "text_table",
    "to_html",
    "training_figure",
    "training_picture",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f"innerloop.report.{_MODULE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Callable(types.ModuleType):
    """Makes ``innerloop.report(runs, out)`` mean `build`.

    The package and the function share a name, and Python binds that name to a package once it is imported.
    """

    def __call__(self, runs: Sequence[Path | str] | Path | str, out: Path | str | None = None, **again: Any) -> Path:
        from innerloop.report.from_runs import build

        return build(runs, out, **again)


sys.modules[__name__].__class__ = _Callable
