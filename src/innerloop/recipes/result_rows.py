"""The rows of results/*.csv: one a number, with what it takes to judge and to repeat it. Imports nothing heavy."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.recipes.recipe import Evaluation, Recipe
from innerloop.storage import write_atomically

# One header for all results files; a file with fewer columns is older, and its rows lack what they do not say.
HEADER: tuple[str, ...] = (
    "recipe", "metric", "value", "ci95", "published", "num_tasks", "transductive", "split", "rotated_test",
    "seed", "steps", "wall_seconds", "device", "threads", "pillow", "commit", "recipe_hash", "command",
)  # fmt: skip
_LEAST = {"recipe", "metric", "value", "seed", "commit", "command"}


def protocol(recipe: Recipe, evaluation: Evaluation | None = None) -> dict[str, str]:
    """The protocol's traps that a recipe's options decide: the split, and whether turned characters are test classes too.

    "" where the problem has no such choice.
    """
    options = {**recipe.task_options, **(evaluation.tasks if evaluation else {})}
    turns = "rotations" in options or "rotate_test" in options
    return {
        "split": str(options.get("split", "")),
        "rotated_test": "" if not turns else str(bool(options.get("rotate_test", False))),
    }


def rows_of(text: str, name: str = "the file") -> list[dict[str, str]]:
    """The rows in a results file's text, with "" for what an older file does not say.

    Raises:
        InputError: no results file, or a value that is no number.
    """
    reader = csv.DictReader(io.StringIO(text))
    lacking = sorted(_LEAST - set(reader.fieldnames or ()))
    if lacking:
        raise InputError(f"{name} expected the columns of a results file, got none named {lacking[0]}; choose another")
    found = []
    for row in reader:
        made = {key: row.get(key) or "" for key in HEADER}
        for key in ("value", "ci95", "wall_seconds"):
            try:
                float(made[key] or "nan")
            except ValueError:
                raise InputError(
                    f"{name}, line {reader.line_num}: {key} expected a number, got {made[key]!r}; mend it"
                ) from None
        found.append(made)
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results file, in its order; see `rows_of`."""
    return rows_of(path.read_text(encoding="utf-8"), str(path))


def number(text: str) -> float:
    """A cell's number; NaN where there is none."""
    return float(text) if text else math.nan


def measured(metric: str, values: Sequence[float]) -> dict[str, Any]:
    """The row of a metric of one's own: its mean over tasks and the 95 % interval; of one number, the number."""
    from innerloop.evaluation.evaluate import mean_ci95

    mean, ci95 = mean_ci95(values) if len(values) > 1 else (values[0], None)
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": "" if ci95 is None else round(ci95, 4),
        "num_tasks": len(values),
        "transductive": False,
    }


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a results file; a file with the columns of an older version is written anew with all of them.

    Raises:
        InputError: a file of another kind.
    """
    old: Iterable[Mapping[str, Any]] = []
    if path.exists() and path.stat().st_size:
        old = read_rows(path)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*old, *rows])
    write_atomically(path, buffer.getvalue().encode())
