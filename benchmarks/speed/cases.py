"""Runs the contest of each case of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.speed import arithmetic, conditions
from benchmarks.speed.contenders import make
from benchmarks.speed.harness import Bound, contest
from benchmarks.speed.problem import Problem
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings


def run_cases(
    benchmark: str, problems: Iterable[Problem], names: Sequence[str], settings: Settings
) -> Iterator[list[Row]]:
    """The rows of one case after the other; each case has fresh contenders."""
    peak = None
    for problem in problems:
        peak = peak or conditions.matrix_peak()
        yield contest(
            benchmark,
            problem,
            make(settings.chosen(names)),
            settings,
            truth=arithmetic.truth(problem),
            bound=Bound(arithmetic.flops(problem), peak),
        )
