"""What to expect of a learner's new tasks, measured when it was made and kept with it: for where its problem's data are not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.core import TaskDistribution
from innerloop.errors import CheckpointError
from innerloop.evaluation.calibration import Expectation, expectation
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.unknown_inputs import Threshold

KEY = "expected"  # in a run's configuration
SIZES = ((2, 1), (2, 5), (5, 1), (5, 5), (10, 1), (10, 5))  # classes, and examples of each
REGRESSION_SIZES = ((0, 5), (0, 10), (0, 20))


def measured(
    learner: MetaLearner, tasks: TaskDistribution, classes: bool, num_tasks: int = 100
) -> list[dict[str, Any]]:
    """Expectations of a few sizes of task, in JSON values.

    Args:
        learner: nothing in it changes.
        tasks: the validation split of its problem.
        classes: whether tasks are of classes.
        num_tasks: of each size.
    """
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for ways, shots in SIZES if classes else REGRESSION_SIZES:
        one = expectation(learner, tasks, ways, shots, num_tasks=num_tasks)
        threshold = None if one.threshold is None else one.threshold.to_dict()
        found[one.ways, one.shots] = {**dataclasses.asdict(one), "threshold": threshold}
    return list(found.values())


def all_of(record: Mapping[str, Any]) -> list[Expectation]:
    """The expectations in a run's configuration; none where it has none.

    Raises:
        CheckpointError: entries that cannot be right.
    """
    try:
        found = []
        for entry in record.get(KEY) or ():
            values = dict(entry)
            limit = values.pop("threshold")
            one = Expectation(**values, threshold=None if limit is None else Threshold.from_dict(limit))
            if not (math.isfinite(one.mean) and math.isfinite(one.ci95) and one.ways >= 0 and one.shots >= 1):
                raise ValueError(f"{one.ways} classes, {one.shots} examples, {one.mean}")
            found.append(one)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the expectations in the learner's configuration are damaged ({error})") from None
    return found


def nearest(found: Sequence[Expectation], ways: int, shots: int) -> Expectation | None:
    """The one whose tasks are nearest in size: classes first, then examples of each."""

    def away(one: Expectation) -> tuple[float, float]:
        return abs(math.log(max(one.ways, 1) / max(ways, 1))), abs(math.log(one.shots / max(shots, 1)))

    return min((one for one in found if bool(one.ways) == bool(ways)), key=away, default=None)
