"""The tasks of an evaluation, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from innerloop import keys
from innerloop.core import Task, TaskDistribution, examples_of

# Both bound memory; results do not depend on them.
_TASKS, _EXAMPLES = 50, 2_000


def in_batches(
    tasks: TaskDistribution, num_tasks: int, *, seed: int = 0, first: int = 0, draws: int | None = None
) -> Iterator[Task]:
    """Tasks ``first`` to ``first + num_tasks`` of a seed, in order: at most 50 and about 2,000 examples at a time.

    Args:
        tasks: one split.
        num_tasks: how many.
        seed, first: which.
        draws: go through the problem's distinct tasks, each so many times in a row; None: draw them.
    """

    def drawn(number: int, start: int) -> Task:
        if draws is None:
            return tasks.at(seed, 0, number, start)
        numbers = torch.arange(start, start + number) // draws
        return tasks.each(keys.task_keys(seed, tasks.split, 0, start, number), numbers)

    start, end = first, first + num_tasks
    while start < end:
        one = drawn(1, start)
        number = min(end - start, _TASKS, max(1, _EXAMPLES // max(1, examples_of(one))))
        yield one if number == 1 else drawn(number, start)
        start += number
