"""Sine curves whose phase, amplitude or inputs lie outside of training's range."""

from __future__ import annotations

import copy
import math
from typing import Literal

from innerloop.core import TaskDistribution
from innerloop.errors import InputError
from innerloop.tasks.sine import SineTasks


def moved(
    tasks: TaskDistribution, what: Literal["phase", "amplitude", "input_range"], distance: float
) -> TaskDistribution:
    """Sine tasks in which ``what`` is larger by ``distance`` in every task, all else being as it is for the same keys.

    Raises:
        InputError: phases that cover the whole circle, which no shift leaves.
    """
    assert isinstance(tasks, SineTasks)
    low, high = getattr(tasks, what)
    if what == "phase" and high - low >= 2 * math.pi - 1e-9 and distance:
        raise InputError(
            f"sinusoid: phases from {low:g} to {high:g} cover the whole circle, so no shift of phase leaves it; "
            "shift the amplitude or the range"
        )
    made = copy.copy(tasks)
    setattr(made, what, (low + distance, high + distance))
    return made
