"""Accuracy against examples a class, from the rows of the recipes `shots-...`: the picture, and a table for the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.marked_text import table
from benchmarks.published import curves
from benchmarks.published.curves import Point, of, origin
from innerloop.provenance import past_commits
from innerloop.recipes.shots import LOGISTIC, META, SCRATCH
from innerloop.storage import write_atomically

FILE, PICTURE = "shots.csv", "shots.png"
_METRIC = re.compile(r"accuracy %, (\d+) a class: (.*)")
_TITLES = {"shots-tables": "letters, as rows of 16 numbers", "shots-glyphs": "printed characters, as pictures"}
_LESS = "{}, less {}, task by task"


def read(folder: Path, known: Collection[str] | None = None) -> list[Point]:
    """The points in results/; see `curves.read`."""
    return curves.read(folder / FILE, _METRIC, known)


def plot(found: Sequence[Point], path: Path) -> None:
    """A panel a problem: accuracy against examples a class, with 95 % intervals over tasks."""
    from innerloop.report import style

    figure = style.new_figure(10.0, 4.0)
    looks = style.assign((META, SCRATCH, LOGISTIC))
    recipes = [recipe for recipe in _TITLES if of(found, recipe, META)]
    handles = []
    for axes, recipe in zip(figure.subplots(1, len(recipes), squeeze=False, sharey=True)[0], recipes, strict=True):
        handles = []
        for method, look in looks.items():
            own = of(found, recipe, method)
            shots, values = [p.at for p in own], [p.value / 100 for p in own]
            low, high = ([(p.value + sign * p.ci95) / 100 for p in own] for sign in (-1, 1))
            axes.fill_between(shots, low, high, color=look.colour, alpha=0.15, linewidth=0)
            (line,) = axes.plot(
                shots, values, color=look.colour, linestyle=look.dashes, marker=look.marker, markersize=5, linewidth=2
            )
            handles.append(line)
        axes.set_xscale("log")
        asked = [p.at for p in of(found, recipe, META)]
        axes.set_xticks(asked, [str(k) for k in asked])
        axes.minorticks_off()
        style.dress(axes, "examples of each of five new classes", "accuracy, %" if recipe == recipes[0] else "")
        axes.set_title(_TITLES[recipe], fontsize=10)
        style.percent_axis(axes)
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
    """The page's lines: the picture, and a table a problem with the differences task by task."""
    found = read(folder, past_commits())
    if not found:
        return []
    lines = ["## Accuracy against examples a class", "", f"![accuracy against examples a class]({PICTURE})", ""]
    for recipe, title in _TITLES.items():
        each = {
            method: {p.at: p for p in of(found, recipe, method)}
            for method in (
                META, SCRATCH, LOGISTIC, *(_LESS.format(META, other) for other in (SCRATCH, LOGISTIC))
            )
        }  # fmt: skip
        shots = sorted(each[META])
        if not shots:
            continue
        first = each[META][shots[0]]
        points = [first, *(p for own in each.values() for p in own.values())]
        lines += [
            f"{title.capitalize()}: `innerloop run {recipe}`, {first.tasks} test tasks, {origin(points)}",
            "",
            *table(
                (
                    ("examples a class", str),
                    *((_short(method), _cell(own)) for method, own in each.items()),
                ),
                shots,
            ),
            "",
        ]
    return lines


def _short(method: str) -> str:
    return f"ahead of {method.partition('less ')[2].partition(',')[0]}" if "less " in method else method


def _cell(curve: dict[int, Point]) -> Callable[[int], str]:
    def cell(shots: int) -> str:
        point = curve.get(shots)
        return "-" if point is None else f"{point.value:.1f} ± {point.ci95:.1f}"

    return cell
