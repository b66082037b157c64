"""Some methods against each other on one problem: validated accuracy against seconds of training, and against memory."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.marked_text import table
from benchmarks.published.races import DIFFERENCES, RACERS, RACES
from innerloop.errors import InnerloopError, InputError
from innerloop.provenance import commit
from innerloop.recipes.recipe import recipe_hash
from innerloop.storage import write_atomically

FILE = "race_{}.csv"  # of a problem
_THREADS = 1
_NUMBERS = {"step": int, "seconds": float, "train_seconds": float, "value": float, "ci95": float, "seed": int}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A method at one validation.

    Attributes:
        recipe, method: who.
        step: outer steps so far.
        seconds: since training began, validations and the choice of a strategy included.
        train_seconds: without the validations.
        metric, value, ci95: of the validation tasks, the same for all.
        peak_mib: memory of an outer step beyond what stays between steps; None where it could not be read.
        seed, threads, commit, recipe_hash: of the run.
    """

    recipe: str
    method: str
    step: int
    seconds: float
    train_seconds: float
    metric: str
    value: float
    ci95: float
    peak_mib: float | None
    seed: int
    threads: int
    commit: str
    recipe_hash: str


def points(log: str, recipe: str, peak_mib: float | None, seed: int, at_commit: str) -> list[Point]:
    """The validations in a training's metrics.jsonl, whose losses are logged at the same steps.

    A line of the loss stands before the validation of its step, so the seconds between the two are the validation's.
    """
    found: list[Point] = []
    validating = before = 0.0
    for record in map(json.loads, log.splitlines()):
        if record["split"] == "train":
            before = record["seconds"]
            continue
        validating += record["seconds"] - before
        metric = next(key for key in record if key not in ("step", "split", "seconds", "ci95"))
        found.append(
            Point(
                recipe=recipe,
                method=RACERS[recipe].algorithm,
                step=record["step"],
                seconds=round(record["seconds"], 2),
                train_seconds=round(record["seconds"] - validating, 2),
                metric=metric,
                value=round(record[metric], 5),
                ci95=round(record["ci95"], 5),
                peak_mib=None if peak_mib is None else round(peak_mib, 1),
                seed=seed,
                threads=_THREADS,
                commit=at_commit,
                recipe_hash=recipe_hash(RACERS[recipe]),
            )
        )
    return found


def run_race(problem: str, seed: int = 0, say: Callable[[str], object] = print) -> list[Point]:
    """Train the recipes of a race one after the other, each in a process of its own.

    Raises:
        InnerloopError: one of them ended with an error, which the message has.
    """
    found: list[Point] = []
    for name in RACES[problem]:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            words = [sys.executable, "-m", "benchmarks.published.race_run", name, str(seed), str(run)]
            done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
            if done.returncode != 0:
                told = done.stderr.strip().splitlines()
                raise InnerloopError(f"{name} ended with: {told[-1] if told else f'exit code {done.returncode}'}")
            peak = json.loads(done.stdout.splitlines()[-1])["peak_mib"]
            log = (run / "metrics.jsonl").read_text(encoding="utf-8")
        own = points(log, name, peak, seed, commit())
        say(f"{name}: {own[-1].metric} {max(p.value for p in own):.4g}, {own[-1].train_seconds:.0f} s, {peak} MiB")
        found += own
    return found


def write(path: Path, found: Iterable[Point]) -> None:
    """A race's CSV file, instead of an older race's of the same problem."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in dataclasses.fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**dataclasses.asdict(p), "peak_mib": "" if p.peak_mib is None else p.peak_mib} for p in found)
    write_atomically(path, buffer.getvalue().encode())


def read(path: Path) -> list[Point]:
    """The points of a race's CSV file; none where there is no file.

    Raises:
        InputError: a file of another kind.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [_point(row) for row in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} expected the columns of a race, got {error}; run the race again") from error


def _point(row: Mapping[str, str]) -> Point:
    kinds: dict[str, Callable[[str], Any]] = {
        **_NUMBERS,
        "threads": int,
        "peak_mib": lambda text: float(text) if text else None,
    }
    return Point(**{f.name: kinds.get(f.name, str)(row[f.name]) for f in dataclasses.fields(Point)})


def plot(found: Sequence[Point], path: Path) -> None:
    """Accuracy against seconds of training on the left, the best of each method against its memory on the right."""
    from innerloop.report import style
    from innerloop.report.numbers import axis_label, is_fraction

    figure = style.new_figure(9.6, 3.9)
    time, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    looks = style.assign(p.method for p in found)
    handles = []
    for method, look in looks.items():
        own = [p for p in found if p.method == method]
        values, half = [p.value for p in own], [p.ci95 for p in own]
        seconds = [p.train_seconds for p in own]
        low, high = ([v + sign * h for v, h in zip(values, half, strict=True)] for sign in (-1, 1))
        time.fill_between(seconds, low, high, color=look.colour, alpha=0.15, linewidth=0)
        (line,) = time.plot(
            seconds, values, color=look.colour, linestyle=look.dashes, marker=look.marker, markersize=5, linewidth=2
        )
        handles.append(line)
        best = max(own, key=lambda p: p.value)
        if best.peak_mib is not None:
            memory.errorbar(
                best.peak_mib, best.value, best.ci95, color=look.colour, marker=look.marker, markersize=8, capsize=4
            )
    style.dress(time, "seconds of training, one core", f"validation {axis_label(found[0].metric)}")
    style.dress(memory, "peak MiB of an outer step", "")
    memory.set_xlim(0, 1.15 * max((p.peak_mib or 0.0 for p in found), default=0.0) or 1.0)
    time.set_xlim(left=0)
    if is_fraction(found[0].metric):
        style.percent_axis(time)
    style.legend_below(figure, handles, list(looks))
    write_atomically(path, style.png(figure))


def draw(folder: Path, pages: Path) -> list[Path]:
    """The picture of each race whose CSV file is in ``folder``, beside the page that shows it; their paths."""
    pictures = []
    for problem in RACES:
        path = folder / FILE.format(problem)
        if found := read(path):
            pictures.append(pages / f"{path.stem}.png")
            plot(found, pictures[-1])
    return pictures


def described(folder: Path) -> list[str]:
    """The page's lines about the races whose CSV files are in ``folder``: the picture and a table of the ends."""
    lines: list[str] = []
    for problem in RACES:
        path = folder / FILE.format(problem)
        found = read(path)
        if found:
            lines += _section(problem, found, f"{path.stem}.png")
    return lines


def _section(problem: str, found: Sequence[Point], picture: str) -> list[str]:
    methods = list(dict.fromkeys(p.method for p in found))
    ends = [max((p for p in found if p.method == method), key=lambda p: p.value) for method in methods]
    last = {p.method: p for p in found}
    return [
        f"## {', '.join(f'`{m}`' for m in methods)} against each other: {problem}",
        "",
        f"{DIFFERENCES} `python -m benchmarks.published --race {problem}`.",
        "",
        f"![accuracy against seconds and memory]({picture})",
        "",
        *table(
            (
                ("method", lambda p: p.method),
                ("best validation", lambda p: f"{100 * p.value:.4g} ± {100 * p.ci95:.2g} %"),
                ("at step", lambda p: f"{p.step} of {last[p.method].step}"),
                ("seconds of training, all", lambda p: f"{last[p.method].train_seconds:.0f}"),
                ("peak MiB of a step", lambda p: "-" if p.peak_mib is None else f"{p.peak_mib:.0f}"),
                ("commit", lambda p: p.commit),
                ("remarks", _stale),
            ),
            ends,
        ),
        "",
    ]


def _stale(point: Point) -> str:
    recipe = RACERS.get(point.recipe)
    same = recipe is not None and recipe_hash(recipe) == point.recipe_hash
    return "" if same else "**stale: the recipe has changed since.**"
