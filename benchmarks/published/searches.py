"""Regret of hyperparameter searches, from the rows of the recipes `hpo-...`: the picture, and tables for the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.marked_text import table
from benchmarks.published import curves
from benchmarks.published.curves import Point, of, origin
from innerloop.provenance import past_commits
from innerloop.storage import write_atomically

FILE, PICTURE = "hpo.csv", "hpo.png"
_METRIC = re.compile(r"regret after (\d+) trials: (.*)")
_TITLES = {"hpo-xgboost": "XGBoost, 10 data sets", "hpo-deepar": "DeepAR, 11 data sets"}
OURS = "what the past chose"
_DRAWN = (OURS, "random search", "cold GP-EI", "optuna TPE", "optuna GP")


def read(folder: Path, known: Collection[str] | None = None) -> list[Point]:
    """The points in results/; see `curves.read`."""
    return curves.read(folder / FILE, _METRIC, known)


def plot(found: Sequence[Point], path: Path) -> None:
    """A panel a recipe: regret against trials, with 95 % intervals over data sets."""
    from innerloop.report import style

    figure = style.new_figure(10.0, 4.2)
    looks = style.assign(_DRAWN)
    recipes = [recipe for recipe in _TITLES if of(found, recipe, OURS)]
    handles = []
    for axes, recipe in zip(figure.subplots(1, len(recipes), squeeze=False)[0], recipes, strict=True):
        handles = []
        for way, look in looks.items():
            own = of(found, recipe, way)
            trials, values, widths = ([getattr(p, of_it) for p in own] for of_it in ("at", "value", "ci95"))
            line = style.line_with_band(axes, trials, values, widths, look, positive=True, markersize=5)
            handles.append(line)
        asked = [p.at for p in of(found, recipe, OURS)]
        axes.set_xscale("log")
        axes.set_xticks(asked, [str(k) for k in asked])
        axes.minorticks_off()
        axes.set_yscale("log")
        lowest = min(p.value for way in _DRAWN for p in of(found, recipe, way))
        axes.set_ylim(bottom=0.5 * max(lowest, 1e-4))
        style.dress(axes, "trials", "regret" if recipe == recipes[0] else "")
        axes.set_title(_TITLES[recipe], fontsize=10)
    style.legend_below(figure, handles, list(looks))
    write_atomically(path, style.png(figure))


def draw(folder: Path, pages: Path) -> list[Path]:
    """The picture beside the page that shows it; its path, where there are rows."""
    found = read(folder)
    if not found:
        return []
    plot(found, pages / PICTURE)
    return [pages / PICTURE]


def described(folder: Path) -> list[str]:
    """The page's lines: the picture, and a table a recipe with the leads data set by data set."""
    found = read(folder, past_commits())
    if not found:
        return []
    lines = ["## Hyperparameter search from past searches", "", f"![regret against trials]({PICTURE})", ""]
    lines += [
        "Regret: (best so far - best of the table) / (median of the table - best of the table), mean ± 95 % interval over data "
        "sets; each data set is searched with the others as the past.",
        "",
    ]
    for recipe, title in _TITLES.items():
        own = [p for p in found if p.recipe == recipe]
        if not own:
            continue
        ways = list(dict.fromkeys(p.name for p in own))
        trials = sorted({p.at for p in own})
        lines += [
            f"{title}: `innerloop run {recipe}`, {origin(own)}",
            "",
            *table([("way to search", str), *((f"{k} trials", _cell(own, k)) for k in trials)], ways),
            "",
        ]
    return lines


def _cell(points: Sequence[Point], trials: int) -> Callable[[str], str]:
    def show(way: str) -> str:
        own = [p for p in points if (p.name, p.at) == (way, trials)]
        return f"{own[0].value:.3f} ± {own[0].ci95:.3f}" if own else ""

    return show
