"""All few-shot methods in one picture: accuracy on new classes against seconds, from the rows of the budgets of minutes."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.published.summary import Line, lines, rows_in
from innerloop.provenance import past_commits
from innerloop.recipes import RECIPES
from innerloop.recipes.result_rows import number
from innerloop.storage import write_atomically

PICTURE = "every_method.png"
_PROBLEMS = {
    "Omniglot": r"omniglot-5w1s-.+-(5min|20min|cpu)",
    "printed characters (glyphs)": r"glyphs-5w1s-.+",
}
_LONGEST = 2_400.0  # seconds: the hours of some methods would say nothing of the others
_BASELINES = ("pretrained", "multitask_average", "scratch")
_GAP = 0.03  # between names, of the height
_SECONDS, _WRONG = (50, 100, 200, 500, 1000, 2000), (1, 2, 5, 10, 20, 50)


Lines = Mapping[str, Sequence[Line]]  # by recipe


class Point(NamedTuple):
    """What a method reached in a recipe.

    Attributes:
        method: its name.
        seconds: of training and evaluation, the least of the seeds.
        accuracy: in %, the mean over seeds.
        transductive: whether a query's answer may depend on the others.
    """

    method: str
    seconds: float
    accuracy: float
    transductive: bool


def points(found: Lines, problem: str) -> list[Point]:
    """One point a recipe of minutes that was run and is not stale, in order of seconds."""
    made = []
    for name, own in found.items():
        recipe = RECIPES.get(name)
        if recipe is None or not recipe.algorithm or not re.fullmatch(_PROBLEMS[problem], name):
            continue
        line = next((line for line in own if line.metric.startswith("accuracy %")), None)
        if line is None or line.state.startswith("stale"):
            continue
        seconds = min(number(row["wall_seconds"]) for row in line.rows)
        if seconds <= _LONGEST:
            made.append(Point(recipe.algorithm, seconds, line.mean, "True" in line.told("transductive")))
    return sorted(made, key=lambda point: point.seconds)


def plot(found: Lines, path: Path) -> None:
    """A panel a problem; the budgets of one method are joined, what sees the other queries is hollow.

    Wrong answers stand on a logarithmic axis: from 98 to 99 % is as far as from 50 to 75 %.
    """
    from innerloop.report import style

    figure = style.new_figure(11.0, 6.0)
    for axes, problem in zip(figure.subplots(1, len(_PROBLEMS)), _PROBLEMS, strict=True):
        shown = points(found, problem)
        ends = {point.method: point for point in shown}  # the longest of each
        order = sorted(ends.values(), key=lambda point: 100 - point.accuracy)
        if not order:
            continue
        wrong = [math.log10(100 - point.accuracy) for point in order]
        low, high = wrong[0] - 0.05, max(math.log10(100 - point.accuracy) for point in shown) + 0.05
        heights = spread(wrong, _GAP * (high - low))
        for end, height in zip(order, heights, strict=True):
            own = [point for point in shown if point.method == end.method]
            colour = "#D55E00" if end.method in _BASELINES else "#0072B2"
            axes.plot([p.seconds for p in own], [100 - p.accuracy for p in own], color=colour, linewidth=0.7, alpha=0.5)
            for p in own:
                axes.plot(
                    p.seconds, 100 - p.accuracy, "o", color=colour, markersize=5,
                    fillstyle="none" if p.transductive else "full",
                )  # fmt: skip
            axes.annotate(
                end.method, (end.seconds, 100 - end.accuracy), (1.02, 10**height), textcoords=("axes fraction", "data"),
                fontsize=7.5, color=colour, verticalalignment="center",
                arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.5, "relpos": (0, 0.5)},
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(_SECONDS, [str(n) for n in _SECONDS])
        axes.set_yticks(_WRONG, [str(n) for n in _WRONG])
        axes.minorticks_off()
        axes.set_ylim(10**high, 10**low)
        style.dress(axes, "seconds, one core", "wrong answers, %" if problem == "Omniglot" else "")
        axes.set_title(f"{problem}: five new classes, one example each", fontsize=9)
    write_atomically(path, style.png(figure))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places in rising order moved as little as possible (least squares) until each is at least ``gap`` above the last."""
    # Places less i gaps have to rise; neighbours that fall are moved to their mean together.
    blocks: list[list[float]] = []
    for i, place in enumerate(places):
        blocks.append([place - i * gap])
        while len(blocks) > 1 and statistics.fmean(blocks[-2]) > statistics.fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    level = [statistics.fmean(block) for block in blocks for _ in block]
    return [value + i * gap for i, value in enumerate(level)]


def draw(folder: Path, pages: Path) -> list[Path]:
    """The picture beside the page that shows it; its path."""
    plot(lines(rows_in(folder), RECIPES, past_commits()), pages / PICTURE)
    return [pages / PICTURE]


def described(found: Lines) -> list[str]:
    """The page's lines: the picture and how to read it; none where no method has a row."""
    if not any(points(found, problem) for problem in _PROBLEMS):
        return []
    return [
        "## Which method reaches what, in how long?",
        "",
        f"![accuracy against seconds, all methods]({PICTURE})",
        "",
        "One point a recipe of minutes on one core, seconds of training and evaluation; the budgets of one method are joined.",
        "Wrong answers stand on a logarithmic axis, few are up. Orange: without meta-learning. Hollow: a query's answer may",
        "depend on the other queries of its task (transductive), which helps; do not compare those with the others. Machines",
        "were shared, so seconds are upper bounds.",
        "",
    ]
