"""Bands in which the short recipes' numbers have to stay: mean ± 3 standard deviations over seeds, and the check."""

from __future__ import annotations

import csv
import dataclasses
import io
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import ConfigError, InputError
from innerloop.provenance import commit
from innerloop.recipes import RECIPES, run
from innerloop.recipes.recipe import recipe_hash
from innerloop.recipes.short import NAMES
from innerloop.storage import write_atomically

FILE = "bands.csv"
STORE = "python -m benchmarks.published --store-bands"  # the command that measures them
WIDTH = 3.0  # standard deviations on either side
FEWEST_SEEDS = 6
_CHECKED_SEED = 0

Run = Callable[[str, int], Sequence[dict[str, Any]]]  # (recipe, seed) -> rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """Where a number of a short recipe lies.

    Attributes:
        recipe, metric: which number.
        mean, sd: over the seeds 0, 1, ...
        low, high: the ends, ``mean`` ± 3 ``sd``.
        seeds: how many.
        commit, recipe_hash: of when they were measured.
        command: that measures them again.
    """

    recipe: str
    metric: str
    mean: float
    sd: float
    low: float
    high: float
    seeds: int
    commit: str
    recipe_hash: str
    command: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A number of today beside its band."""

    band: Band
    value: float

    @property
    def inside(self) -> bool:
        return self.band.low <= self.value <= self.band.high

    def __str__(self) -> str:
        where = f"{self.band.low:.4g} to {self.band.high:.4g}"
        said = "ok" if self.inside else "OUTSIDE"
        return f"{self.band.recipe}, {self.band.metric}: {self.value:.4g}, stored {where}: {said}"


def run_in_passing(name: str, seed: int) -> Sequence[dict[str, Any]]:
    """A recipe's rows; its run directory is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return run(name, seed=seed, out=Path(folder) / "run", quiet=True)["rows"]


def measured(seeds: int, run_one: Run = run_in_passing, say: Callable[[str], object] = print) -> list[Band]:
    """The bands of all short recipes, each run with the seeds 0 to ``seeds`` - 1.

    Raises:
        ConfigError: too few seeds to know a spread.
    """
    if seeds < FEWEST_SEEDS:
        raise ConfigError(f"--seeds expected at least {FEWEST_SEEDS}, got {seeds}; a spread of fewer is a guess")
    found, at_commit = [], commit()
    for name in NAMES:
        values: dict[str, list[float]] = {}
        for seed in range(seeds):
            for row in run_one(name, seed):
                values.setdefault(row["metric"], []).append(float(row["value"]))
                say(f"{name}, seed {seed}, {row['metric']}: {row['value']}")
        for metric, own in values.items():
            mean, sd = statistics.fmean(own), statistics.stdev(own)
            found.append(
                Band(
                    recipe=name,
                    metric=metric,
                    mean=round(mean, 4),
                    sd=round(sd, 4),
                    low=round(mean - WIDTH * sd, 4),
                    high=round(mean + WIDTH * sd, 4),
                    seeds=seeds,
                    commit=at_commit,
                    recipe_hash=recipe_hash(RECIPES[name]),
                    command=f"{STORE} --seeds {seeds}",
                )
            )
    return found


def write(path: Path, bands: Iterable[Band]) -> None:
    """The bands as a CSV file, instead of those that were in it."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in dataclasses.fields(Band)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(band) for band in bands)
    write_atomically(path, buffer.getvalue().encode())


def read(path: Path) -> list[Band]:
    """The stored bands.

    Raises:
        InputError: no file, or none of bands.
    """
    if not path.is_file():
        raise InputError(f"expected stored bands at {str(path)!r}, got none; store them with {STORE}")
    numbers = {"mean": float, "sd": float, "low": float, "high": float, "seeds": int}
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [
                Band(**{f.name: numbers.get(f.name, str)(row[f.name]) for f in dataclasses.fields(Band)})
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} expected the columns of stored bands, got {error}; store them anew") from error


def check(bands: Sequence[Band], run_one: Run = run_in_passing) -> list[Verdict]:
    """Run the short recipes again, with one seed of those that made the bands, and judge each number.

    Raises:
        InputError: a number without a band, or a band of a recipe that has changed since.
    """
    found = []
    for name in NAMES:
        own = {band.metric: band for band in bands if band.recipe == name}
        for band in own.values():
            if band.recipe_hash != recipe_hash(RECIPES[name]):
                raise InputError(
                    f"expected a band of {name} as it is now, got one of an earlier {name}; store it anew with {STORE}"
                )
        rows = run_one(name, _CHECKED_SEED)
        for row in rows:
            if row["metric"] not in own:
                raise InputError(f"expected a stored band of {name}, {row['metric']}, got none; store it with {STORE}")
            found.append(Verdict(own[row["metric"]], float(row["value"])))
    return found
