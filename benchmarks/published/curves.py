"""Rows that make curves: a number along an axis, for each of several names; read from a file of results/."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.published.states import state
from innerloop.recipes import RECIPES
from innerloop.recipes.result_rows import number, read_rows


class Point(NamedTuple):
    """One number.

    Attributes:
        recipe: whose row it is.
        at: where along the axis: examples a class, trials.
        name: of the curve: a method, a way to search, or a difference of two.
        value, ci95: see `innerloop run`.
        tasks: on how many.
        commit, doubt: of the row; see `states.state`.
    """

    recipe: str
    at: int
    name: str
    value: float
    ci95: float
    tasks: int
    commit: str
    doubt: str


def read(path: Path, metric: re.Pattern[str], known: Collection[str] | None = None) -> list[Point]:
    """The points in a file; none where there is no file. Of several rows of one number the last counts.

    Args:
        path: the file.
        metric: of the rows that are points; its groups are ``at`` and ``name``.
        known: commits that today's state is built on; None: not known.
    """
    found: dict[tuple[str, str], Point] = {}
    for row in read_rows(path) if path.is_file() else []:
        if match := metric.fullmatch(row["metric"]):
            doubt = state(row, RECIPES.get(row["recipe"]), known)
            values = (number(row["value"]), number(row["ci95"]), int(row["num_tasks"]), row["commit"], doubt)
            found[row["recipe"], row["metric"]] = Point(row["recipe"], int(match[1]), match[2], *values)
    return list(found.values())


def of(found: Sequence[Point], recipe: str, name: str) -> list[Point]:
    """One curve, along its axis."""
    return sorted((p for p in found if (p.recipe, p.name) == (recipe, name)), key=lambda p: p.at)


def origin(points: Sequence[Point]) -> str:
    """The commit that points were made with, and what is to be doubted of them."""
    doubts = sorted({p.doubt for p in points} - {""})
    return f"commit {points[0].commit}." + "".join(f" **{doubt}.**" for doubt in doubts)
