"""Regret of hyperparameter searches, from the rows of the recipes `hpo-...`: the picture, and tables for the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.marked_text import table
from benchmarks.published.states import state
from innerloop.provenance import past_commits
from innerloop.recipes import RECIPES
from innerloop.recipes.result_rows import number, read_rows
from innerloop.storage import write_atomically

FILE, PICTURE = "hpo.csv", "hpo.png"
_METRIC = re.compile(r"regret after (\d+) trials: (.*)")
_TITLES = {"hpo-xgboost": "XGBoost, 10 data sets", "hpo-deepar": "DeepAR, 11 data sets"}
OURS = "what the past chose"
_DRAWN = (OURS, "random search", "cold GP-EI", "optuna TPE", "optuna GP")


class Point(NamedTuple):
    """One number: of a recipe, so many trials, and a way to search or a difference of two."""

    recipe: str
    trials: int
    way: str
    value: float
    ci95: float
    data_sets: int
    commit: str
    doubt: str


def read(folder: Path, known: Collection[str] | None = None) -> list[Point]:
    """The points in results/; none where there is no file. Of several rows of one number the last counts.

    Args:
        folder: results/.
        known: commits that today's state is built on; None: not known.
    """
    path = folder / FILE
    found: dict[tuple[str, str], Point] = {}
    for row in read_rows(path) if path.is_file() else []:
        if match := _METRIC.fullmatch(row["metric"]):
            doubt = state(row, RECIPES.get(row["recipe"]), known)
            values = (number(row["value"]), number(row["ci95"]), int(row["num_tasks"]), row["commit"], doubt)
            found[row["recipe"], row["metric"]] = Point(row["recipe"], int(match[1]), match[2], *values)
    return list(found.values())


def of(found: Sequence[Point], recipe: str, way: str) -> list[Point]:
    """A curve, by the number of trials."""
    return sorted((p for p in found if (p.recipe, p.way) == (recipe, way)), key=lambda p: p.trials)


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
            trials, values = [p.trials for p in own], [p.value for p in own]
            low, high = ([max(p.value + sign * p.ci95, 1e-4) for p in own] for sign in (-1, 1))
            axes.fill_between(trials, low, high, color=look.colour, alpha=0.12, linewidth=0)
            (line,) = axes.plot(
                trials, values, color=look.colour, linestyle=look.dashes, marker=look.marker, markersize=5, linewidth=2
            )
            handles.append(line)
        asked = [p.trials for p in of(found, recipe, OURS)]
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
        ways = list(dict.fromkeys(p.way for p in own))
        trials = sorted({p.trials for p in own})
        doubts = sorted({p.doubt for p in own} - {""})
        lines += [
            f"{title}: `innerloop run {recipe}`, commit {own[0].commit}."
            + "".join(f" **{doubt}.**" for doubt in doubts),
            "",
            *table([("way to search", str), *((f"{k} trials", _cell(own, k)) for k in trials)], ways),
            "",
        ]
    return lines


def _cell(points: Sequence[Point], trials: int) -> Callable[[str], str]:
    def show(way: str) -> str:
        own = [p for p in points if (p.way, p.trials) == (way, trials)]
        return f"{own[0].value:.3f} ± {own[0].ci95:.3f}" if own else ""

    return show
