"""Rows of several seeds as one line: the mean, its interval, each seed's value, and what they cost."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from benchmarks.published import bands, race
from benchmarks.published.states import rank, state
from innerloop.recipes.recipe import Recipe
from innerloop.recipes.result_rows import number, protocol, read_rows

# 97.5 % of Student's t with 1, 2, ... degrees of freedom: few seeds say little of their spread.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Row = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Line:
    """One number of one recipe.

    Attributes:
        recipe: its name.
        metric: what of.
        rows: one a seed, in the order of the seeds; empty: not run.
        state: of the rows, see `states.state`.
    """

    recipe: str
    metric: str
    rows: tuple[Row, ...]
    state: str

    @property
    def values(self) -> list[float]:
        return [number(row["value"]) for row in self.rows]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval: over tasks for one seed, over seeds (Student's t) for several; NaN where none is."""
        values = self.values
        if len(values) == 1:
            return number(self.rows[0]["ci95"])
        if not all(map(math.isfinite, values)):
            return math.nan
        width = _STUDENT[min(len(values) - 2, len(_STUDENT) - 1)]
        return width * statistics.stdev(values) / math.sqrt(len(values))

    def told(self, field: str) -> list[str]:
        """The different values of a field, "" left out, in the order of the seeds."""
        return list(dict.fromkeys(row[field] for row in self.rows if row[field]))


def rows_in(folder: Path) -> list[dict[str, str]]:
    """All rows of the results files in a folder, the files by name, each in its own order."""
    skipped = {bands.FILE, *(path.name for path in folder.glob(race.FILE.format("*")))}
    return [row for path in sorted(folder.glob("*.csv")) if path.name not in skipped for row in read_rows(path)]


def lines(
    rows: Iterable[Row], recipes: Mapping[str, Recipe], past_commits: Collection[str] | None
) -> dict[str, list[Line]]:
    """The lines of each recipe that has rows.

    Of several rows of one seed the last counts; and where some rows hold, those that do not are not averaged with them.
    """
    latest: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        seeds = latest.setdefault((row["recipe"], row["metric"]), {})
        seeds.pop(row["seed"], None)
        seeds[row["seed"]] = _completed(row, recipes.get(row["recipe"]))
    found: dict[str, list[Line]] = {}
    for (name, metric), seeds in latest.items():
        states = {seed: state(row, recipes.get(name), past_commits) for seed, row in seeds.items()}
        best = min(map(rank, states.values()))
        kept = sorted((seed for seed in seeds if rank(states[seed]) == best), key=lambda seed: (len(seed), seed))
        said = list(dict.fromkeys(states[seed] for seed in kept))
        line = Line(name, metric, tuple(seeds[seed] for seed in kept), "; ".join(text for text in said if text))
        found.setdefault(name, []).append(line)
    return found


def _completed(row: Row, recipe: Recipe | None) -> Row:
    """An older row does not say what follows from the recipe's options."""
    return {**row, **{key: row[key] or value for key, value in (protocol(recipe) if recipe else {}).items()}}
