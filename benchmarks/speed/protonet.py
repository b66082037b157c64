"""A training step of prototypical networks on Omniglot's sizes (Snell et al. 2017, arXiv:1703.05175)."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed.cases import run_cases
from benchmarks.speed.nets import ConvNet
from benchmarks.speed.problem import Problem, picture_problem
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings


def problem(ways: int = 60, shots: int = 1, queries: int = 5, filters: int = 64, size: int = 28) -> Problem:
    """One task a step, as in the paper."""
    return picture_problem(
        f"{ways}-way {shots}-shot, {queries} queries a class",
        ConvNet(channels=1, size=size, filters=filters, outputs=None, pool=True),
        num_tasks=1,
        ways=ways,
        shots=shots,
        queries=queries,
        kind="prototypes",
    )


def run(settings: Settings) -> Iterator[list[Row]]:
    """60-way 1-shot with 5 queries a class, Conv4 with max-pooling."""
    chosen = problem(ways=3, queries=2, filters=4, size=16) if settings.tiny else problem()
    yield from run_cases("protonet", [chosen], ("ours", "easyfsl_style"), settings)
