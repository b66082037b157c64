"""Contenders side by side: the same problem, rounds in which each runs in its turn, medians, and the meta-gradient checked."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from benchmarks.speed import conditions
from benchmarks.speed.contenders.contender import Contender, Turn, failed
from benchmarks.speed.rows import DEFAULT, Row
from benchmarks.speed.settings import Settings
from innerloop import provenance

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem

OURS = "ours"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds for one step: of each round the mean, of the rounds these three; minor faults: the median."""

    rounds: int
    median_ms: float
    min_ms: float
    max_ms: float
    minor_faults: float | None = None


@dataclasses.dataclass(frozen=True)
class Truth:
    """The right meta-gradient of each batch, and the relative error that rounding in float32 explains."""

    at: Callable[[int], Mapping[str, np.ndarray]]
    batches: int = 1
    tolerance: float = 1e-4

    def least_error(self, contender: Contender) -> float:
        """The relative error of a contender's meta-gradient on the first batch where it is within the tolerance, else the
        least of all batches.

        What rounding does (`arithmetic.rounding`) it does to some batches more than to others; a wrong gradient is wrong on all.
        """
        least = math.inf
        for batch in range(self.batches):
            error = relative_error(contender.meta_gradient(batch), self.at(batch))
            least = min(least, error)
            if least <= self.tolerance:
                break
        return least


@dataclasses.dataclass(frozen=True)
class Bound:
    """The arithmetic of one step, and the least time that it takes at the machine's matrix peak."""

    flops: int
    peak: float  # operations a second

    @property
    def ms(self) -> float:
        return self.flops / self.peak * 1e3


K = TypeVar("K")


def alternate(turns: Mapping[K, Callable[[int], Turn]], rounds: int, seconds: float) -> dict[K, Timing | str]:
    """Time ``turns[name](k)``, k steps, in ``rounds`` rounds of one turn each; k is such that a turn takes ``seconds``.

    What slows the machine down for a while then slows all of them down. One that fails is left out of later rounds, and
    its result is what it said.
    """
    found: dict[K, Timing | str] = {}
    steps: dict[K, int] = {}
    taken: dict[K, list[Turn]] = {name: [] for name in turns}

    def attempt(name: K, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            found[name] = failed(error)

    def calibrate(name: K) -> None:
        k, took = 1, turns[name](1).seconds
        while took < seconds / 2:
            k *= min(10, max(2, math.ceil(seconds / max(took, 1e-9))))
            took = turns[name](k).seconds
        steps[name] = max(1, math.ceil(k * seconds / max(took, 1e-9)))

    for name in turns:
        attempt(name, lambda name=name: calibrate(name))
    for _ in range(rounds):
        for name in turns:
            if name not in found:
                attempt(name, lambda name=name: taken[name].append(turns[name](steps[name])))
    for name, all_taken in taken.items():
        if name not in found:
            times = [turn.seconds / steps[name] * 1e3 for turn in all_taken]
            faults = [turn.minor_faults / steps[name] for turn in all_taken if turn.minor_faults is not None]
            counted = statistics.median(faults) if faults else None
            found[name] = Timing(rounds, statistics.median(times), min(times), max(times), counted)
    return found


def relative_error(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> float:
    """|found - reference| / |reference|, Euclidean norms over all parameters together; inf where one is missing."""
    if set(found) != set(reference):
        return math.inf
    off = sum(float(np.sum((np.asarray(found[name], np.float64) - reference[name]) ** 2)) for name in reference)
    size = sum(float(np.sum(np.asarray(reference[name], np.float64) ** 2)) for name in reference)
    return math.sqrt(off) / max(math.sqrt(size), 1e-300)


def blank(benchmark: str, case: str, contender: str, threads: int, process: str = "") -> Row:
    """A row that says where it comes from, and no numbers yet."""
    import torch

    return Row(
        benchmark=benchmark,
        case=case,
        contender=contender,
        process=process,
        threads=threads,
        machine=conditions.machine(),
        torch=torch.__version__,
        commit=provenance.commit(),
    )


def with_ratios(rows: Sequence[Row], quantity: str = "median_ms") -> list[Row]:
    """The rows with ``ratio_to_ours`` filled in, where ours was measured; of two rows of ours, the first one counts."""
    ours = next((getattr(row, quantity) for row in rows if row.contender == OURS), None)

    def ratio(row: Row) -> float | None:
        value = getattr(row, quantity)
        return value / ours if ours and value is not None else None

    return [dataclasses.replace(row, ratio_to_ours=ratio(row)) for row in rows]


def contest(
    benchmark: str,
    problem: Problem,
    contenders: Sequence[Contender],
    settings: Settings,
    *,
    truth: Truth,
    bound: Bound | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """One row for each contender: its time in alternating rounds and the error of its meta-gradient.

    A contender that is not installed, cannot do the problem or fails has a row with the reason and no numbers; one whose
    meta-gradient is off keeps its numbers and is said to be wrong.
    """
    rows: dict[tuple[str, str], Row] = {}
    turns: dict[tuple[str, str], Callable[[int], Turn]] = {}
    for contender in contenders:
        key = contender.name, contender.process
        row = blank(benchmark, problem.case, contender.name, settings.threads, contender.process)
        try:
            reason = contender.available() or contender.refuses(problem)
            if reason:
                rows[key] = dataclasses.replace(row, note=reason)
                continue
            settings.say(f"{benchmark}, {problem.case}: preparing {_named(key)}")
            row = dataclasses.replace(row, version=contender.version())
            contender.prepare(problem)
            error = truth.least_error(contender)
            contender.run(contender.warmup)
        except Exception as error:
            rows[key] = dataclasses.replace(row, note=failed(error))
            continue
        note = "; ".join(filter(None, [verdict(error, truth.tolerance), contender.remark()]))
        rows[key] = dataclasses.replace(row, max_rel_error=error, note=note)
        turns[key] = functools.partial(contender.turn, clock=clock)
    names = ", ".join(map(_named, turns)) or "nobody"
    settings.say(f"{benchmark}, {problem.case}: {settings.rounds} rounds of {names}")
    for key, timing in alternate(turns, settings.rounds, settings.seconds).items():
        if isinstance(timing, str):
            rows[key] = dataclasses.replace(rows[key], note=timing)
        else:
            rows[key] = dataclasses.replace(
                rows[key],
                **dataclasses.asdict(timing),
                flops=bound.flops if bound else None,
                bound_ms=bound.ms if bound else None,
                times_bound=timing.median_ms / bound.ms if bound else None,
            )
    return with_ratios(list(rows.values()))


def _named(key: tuple[str, str]) -> str:
    name, process = key
    return f"{name} (default process)" if process == DEFAULT else name


def verdict(error: float, tolerance: float) -> str:
    """What a row says of a meta-gradient; nothing when it is right."""
    return "" if error <= tolerance else f"wrong meta-gradient: relative error {error:.2g}"
