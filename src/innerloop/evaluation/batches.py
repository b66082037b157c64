"""The tasks of an evaluation, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.core import Task, TaskDistribution, examples_of

# Both bound memory; results do not depend on them.
_TASKS, _EXAMPLES = 50, 2_000


def in_batches(tasks: TaskDistribution, num_tasks: int, *, seed: int = 0, first: int = 0) -> Iterator[Task]:
    """Tasks ``first`` to ``first + num_tasks`` of a seed, in order: at most 50 and about 2,000 examples at a time."""
    start, end = first, first + num_tasks
    while start < end:
        one = tasks.at(seed, 0, 1, start)
        examples = max(1, examples_of(one))
        number = min(end - start, _TASKS, max(1, _EXAMPLES // examples))
        yield one if number == 1 else tasks.at(seed, 0, number, start)
        start += number
