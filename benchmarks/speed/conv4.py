"""The second-order outer step of Conv4, the net of MAML's Omniglot runs (Finn et al. 2017, arXiv:1703.03400)."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed.cases import run_cases
from benchmarks.speed.contenders import GRADIENT
from benchmarks.speed.nets import ConvNet
from benchmarks.speed.problem import Problem, counted, picture_problem
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings

_NET = ConvNet(channels=1, size=28, filters=64, outputs=5)


def problem(num_tasks: int, queries: int, inner_steps: int, net: ConvNet = _NET) -> Problem:
    """5-way 1-shot with ``queries`` examples a class; made-up 28x28 pictures."""
    query = "1 query" if queries == 1 else f"{queries} queries"
    return picture_problem(
        f"{num_tasks} tasks, {query} a class, {counted(inner_steps, 'step')}",
        net,
        num_tasks=num_tasks,
        ways=5,
        shots=1,
        queries=queries,
        inner_steps=inner_steps,
    )


def run(settings: Settings) -> Iterator[list[Row]]:
    """8 tasks with 15 queries a class and 32 tasks with 1, each with 1 and 5 inner steps."""
    if settings.tiny:
        problems = [problem(2, 1, 1, ConvNet(channels=1, size=16, filters=4, outputs=5))]
    else:
        problems = (problem(*sizes) for sizes in ((8, 15, 1), (8, 15, 5), (32, 1, 1), (32, 1, 5)))
    yield from run_cases("conv4", problems, GRADIENT, settings)
