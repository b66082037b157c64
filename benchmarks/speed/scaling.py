"""How ours grows with the number of tasks, of inner steps and of parameters, on sine curves; a plot of cost per task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.speed.cases import run_cases
from benchmarks.speed.problem import Problem, sine_problem
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings

AXES = {
    "tasks": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    "inner steps": (1, 2, 5, 10, 20, 50, 100),
    "parameters": (10**3, 10**4, 10**5, 10**6, 10**7),
}
LONG_LOOPS = "long inner loops, steps"  # for the memory benchmark: a net whose copies are seen beside what Python takes
_CONTENDERS = ("ours", "plain_loop")


def _hidden(parameters: int) -> tuple[int, int]:
    """Widths of a net with two equal hidden layers and about this many parameters: w^2 + 4w + 1."""
    width = round((parameters + 3) ** 0.5 - 2)
    return width, width


def problem(axis: str, value: int) -> Problem:
    """The case at one point of an axis."""
    case = f"{axis} {value}"
    if axis == "tasks":
        return sine_problem(value, 5, case=case)
    if axis == "inner steps":
        return sine_problem(25, value, case=case)
    if axis == LONG_LOOPS:
        return sine_problem(25, value, (100, 100), case=case)
    return sine_problem(4, 1, _hidden(value), case=case)


def run(settings: Settings) -> Iterator[list[Row]]:
    """One axis at a time: 25 tasks and 5 inner steps where they are not the axis; 4 tasks, 1 step along parameters.

    In a process that keeps its memory alone, since what is measured here is how time grows.
    """
    points: list[Problem] = []
    for axis, values in AXES.items():
        for value in values[:2] if settings.tiny else values:
            points.append(problem(axis, value))
    yield from run_cases("scaling", points, _CONTENDERS, dataclasses.replace(settings, both_processes=False))


def cost_per_task(row: Row) -> float | None:
    """Milliseconds a task; None where nothing was measured."""
    axis, _, value = row.case.rpartition(" ")
    tasks = {"tasks": int(value), "inner steps": 25, "parameters": 4}[axis]
    return None if row.median_ms is None else row.median_ms / tasks


def plot(rows: Sequence[Row], path: Path, save: Callable[[Path, bytes], object] = Path.write_bytes) -> None:
    """One panel an axis, both scales logarithmic."""
    from innerloop.report import style

    figure = style.new_figure(12.0, 3.6)
    looks = style.assign(dict.fromkeys(row.contender for row in rows))
    for i, axis in enumerate(AXES):
        axes = figure.add_subplot(1, len(AXES), i + 1)
        for name, look in looks.items():
            points = [
                (int(row.case.rpartition(" ")[2]), cost)
                for row in rows
                if row.contender == name and row.case.startswith(axis + " ") and (cost := cost_per_task(row))
            ]
            axes.plot(
                *zip(*sorted(points), strict=True) if points else ([], []),
                color=look.colour,
                marker=look.marker,
                linestyle=look.dashes,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        style.dress(axes, axis, "ms a task" if i == 0 else "")
    figure.axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, style.png(figure))
