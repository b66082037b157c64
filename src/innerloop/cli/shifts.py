"""The `--shift` of evaluate and compare: tasks further and further from training's, a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli import output
from innerloop.report.text import text_table

if TYPE_CHECKING:
    from innerloop.core import TaskDistribution
    from innerloop.evaluation.shift import ShiftCurves


def check(tasks: TaskDistribution, text: str) -> None:
    """Raise what ``--shift TEXT`` would raise on these tasks."""
    from innerloop.tasks.shift import parse_shift, shifted

    kind, amounts = parse_shift(text)
    for amount in amounts:
        shifted(tasks, kind, amount)


def measure(
    learners: Mapping[str, Any],
    tasks: TaskDistribution,
    text: str,
    num_tasks: int | None,
    seed: int,
    steps: int | None = None,
) -> ShiftCurves:
    """The learners at each of the amounts of ``KIND=AMOUNT,AMOUNT,...``; no ``num_tasks``: as many as in the papers."""
    from innerloop.evaluation.shift import shift_curves
    from innerloop.tasks.shift import parse_shift

    kind, amounts = parse_shift(text)
    number = {} if num_tasks is None else {"num_tasks": num_tasks}
    return shift_curves(learners, tasks, kind, amounts, **number, seed=seed, steps=steps)


def write(curves: ShiftCurves, folder: Path, name: str) -> dict[str, Any]:
    """Write NAME.json and NAME.png; what was written, as plain values, and where."""
    from innerloop.report import style
    from innerloop.report.comparison import shift_figure

    folder.mkdir(parents=True, exist_ok=True)
    found = output.plain(curves.as_dict())
    output.write_json(folder / f"{name}.json", found)
    plot = folder / f"{name}.png"
    plot.write_bytes(style.png(shift_figure(curves)))
    return {**found, "card": str(folder / f"{name}.json"), "plot": str(plot)}


def say(curves: ShiftCurves, found: Mapping[str, Any], as_json: bool) -> None:
    """Print a row for each distance and a column for each learner, or one JSON object."""
    if as_json:
        output.print_json(dict(found))
        return
    labels = list(curves.comparisons[0].reports)
    rows = []
    for amount, comparison in zip(curves.amounts, curves.comparisons, strict=True):
        cells = [f"{comparison.reports[label].mean:.4f} ± {comparison.reports[label].ci95:.4f}" for label in labels]
        rows.append([amount if isinstance(amount, str) else f"{amount:g}", *cells])
    unit = f" ({curves.unit})" if curves.unit else ""
    print(f"{curves.metric} on {found['num_tasks']} {found['split']} tasks, seed {found['seed']}, 95 % interval")
    print(text_table(rows, [f"shift: {curves.kind}{unit}", *labels], ruled=False))
    print(f"\nfiles: {found['card']}, {found['plot']}")
