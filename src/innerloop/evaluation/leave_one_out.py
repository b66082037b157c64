"""Accuracy on a task's own few examples: each is recognised by the learner that was adapted to the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

MOST = 50  # examples that are left out, evenly chosen, where there are more


class LeftOut(NamedTuple):
    """How many of the examples that were left out were recognised."""

    right: int
    judged: int


def leave_one_out(y: Sequence[Any], recognises: Callable[[list[int], int], bool], most: int = MOST) -> LeftOut | None:
    """Adapt to all examples but one, for one after another.

    Args:
        y: class names.
        recognises: whether, adapted to the examples at these positions, the one at that position gets its class.
        most: how many examples to leave out at most.

    Returns:
        None where a class has one example only: without it the class is not known, so nothing can be estimated.
    """
    if min(Counter(y).values()) < 2:
        return None
    chosen = [i * len(y) // min(most, len(y)) for i in range(min(most, len(y)))]
    return LeftOut(sum(recognises([j for j in range(len(y)) if j != i], i) for i in chosen), len(chosen))
