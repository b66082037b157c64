"""Thresholds for unknown inputs of the tasks that visitors make: measured once, while the first of them look around.

A threshold depends on how many classes a task has and how many examples of each, so a few sizes are measured and a task takes
the one nearest to its own.
"""

from __future__ import annotations

import dataclasses
import math

from innerloop.core import TaskDistribution
from innerloop.evaluation.calibration import expectation
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.unknown_inputs import Threshold

_WAYS, _SHOTS = (2, 5), (1, 5)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What was measured.

    Attributes:
        found: one a size of task.
        lacking: why there is none, as words after "as".
    """

    found: tuple[Threshold, ...] = ()
    lacking: str = "nobody measured one"

    def nearest(self, ways: int, shots: int) -> Threshold | None:
        """That of the size nearest to ``ways`` classes with ``shots`` examples of each, classes first; None: there is none."""

        def away(one: Threshold) -> tuple[float, float]:
            return abs(math.log(one.ways / ways)), abs(math.log(one.shots / shots))

        return min(self.found, key=away, default=None)

    def told(self) -> str:
        """One sentence about them."""
        if not self.found:
            return f"unknown inputs: no threshold is known, as {self.lacking}"
        sizes = ", ".join(
            f"{t.ways} classes and {t.shots} example{'s' * (t.shots != 1)} of each ({t.kept:.0%} of the known kept, "
            f"{t.false_accept:.0%} of others taken for known)"
            for t in self.found
        )
        return f"unknown inputs: thresholds measured for {sizes}"


def measured(learner: MetaLearner, tasks: TaskDistribution, num_tasks: int, keep: float = 0.95) -> Thresholds:
    """Thresholds on validation tasks of up to four sizes: 2 and 5 classes, 1 and 5 examples of each, as far as there are such.

    Args:
        learner: of classes.
        tasks: the validation split of its problem.
        num_tasks: of each size; half of them calibrate, half measure.
        keep: the share of inputs of a task's classes that is to keep its class.

    Raises:
        InnerloopError: what `expectation` raises.
    """
    most = max(learner.output_size or max(_WAYS), 2)
    found: dict[tuple[int, int], Threshold] = {}
    lacking = "the validation tasks have no further classes"
    for ways in sorted({min(ways, most) for ways in _WAYS}):
        for shots in _SHOTS:
            one = expectation(learner, tasks, ways, shots, num_tasks=num_tasks, keep=keep)
            if one.threshold is None:
                lacking = one.lacking or lacking
            else:
                found[one.threshold.ways, one.threshold.shots] = one.threshold
    return Thresholds(tuple(found.values()), lacking)
