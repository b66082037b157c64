"""The second-order outer step on sine curves, optimizer included."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed.cases import run_cases
from benchmarks.speed.contenders import GRADIENT
from benchmarks.speed.problem import sine_problem
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings

# Who takes part where there are many inner steps, which take the others minutes.
_LONG = ("ours", "plain_loop", "higher", "jax")


def run(settings: Settings) -> Iterator[list[Row]]:
    """25 tasks of 10 support and 10 query points, a 1-40-40-1 net, 5 inner steps; then 50 and 100."""
    tasks, steps = (2, 1) if settings.tiny else (25, 5)
    yield from run_cases("sine", [sine_problem(tasks, steps)], GRADIENT, settings)
    if not settings.tiny:
        yield from run_cases("sine", (sine_problem(tasks, many) for many in (50, 100)), _LONG, settings)
