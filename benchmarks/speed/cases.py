"""Runs the contest of each case of a benchmark, each in processes of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

from benchmarks.speed import arithmetic, conditions
from benchmarks.speed.harness import OURS, Bound, contest
from benchmarks.speed.own_process import OwnProcess
from benchmarks.speed.problem import Problem
from benchmarks.speed.rows import KEPT, Row
from benchmarks.speed.settings import Settings


def run_cases(
    benchmark: str, problems: Iterable[Problem], names: Sequence[str], settings: Settings
) -> Iterator[list[Row]]:
    """The rows of one case after the other: all contenders in one process that keeps the memory it frees and, but for the
    strategies of ours, in a default process as well."""
    peak = None
    for problem in problems:
        peak = peak or conditions.matrix_peak()
        truth, bound = arithmetic.truth(problem), Bound(arithmetic.flops(problem), peak)
        chosen = settings.chosen(names)
        with ExitStack() as stack:
            processes = [stack.enter_context(OwnProcess(chosen, keep=True, threads=settings.threads))]
            if settings.both_processes and processes[0].kind == KEPT:
                others = [name for name in chosen if name == OURS or not name.startswith(f"{OURS}_")]
                processes.append(stack.enter_context(OwnProcess(others, keep=False, threads=settings.threads)))
            contenders = [contender for process in processes for contender in process.contenders]
            yield contest(benchmark, problem, contenders, settings, truth=truth, bound=bound)
