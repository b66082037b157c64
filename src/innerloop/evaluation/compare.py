"""Several learners on the very same tasks, with paired intervals: which method fits my tasks?"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

from innerloop import losses
from innerloop.core import Report, TaskDistribution
from innerloop.errors import ConfigError
from innerloop.evaluation.evaluate import evaluate
from innerloop.evaluation.intervals import mean_ci95
from innerloop.meta_learner import MetaLearner


@dataclasses.dataclass(frozen=True)
class Difference:
    """``first - second``, task by task.

    Attributes:
        mean: of the differences; positive means that ``first``'s metric is larger.
        ci95: half-width of its 95 % interval.
        winner: the better one where the interval leaves out 0, else None.
    """

    first: str
    second: str
    mean: float
    ci95: float
    winner: str | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Reports in order of merit, and all paired differences."""

    metric: str
    reports: Mapping[str, Report]
    differences: tuple[Difference, ...]

    @property
    def best(self) -> str:
        return next(iter(self.reports))


def compare(
    learners: Mapping[str, MetaLearner],
    tasks: TaskDistribution,
    *,
    num_tasks: int = 600,
    seed: int = 0,
    curve_steps: int | None = None,
    metric: str | None = None,
) -> Comparison:
    """Evaluate every learner on the same tasks.

    Args:
        learners: by label.
        tasks: one split of a problem.
        num_tasks, seed: as for `evaluate`.
        curve_steps: adaptation curves too.
        metric: as for `evaluate`; None: the problem's first.

    Raises:
        ConfigError: no learner given.
    """
    if not isinstance(learners, Mapping):
        raise ConfigError(
            f"compare expected learners by label, {{'maml': learner, ...}}, got {type(learners).__name__}"
        )
    if not learners:
        raise ConfigError("compare expected at least one learner, got none")
    found = {
        label: evaluate(learner, tasks, num_tasks=num_tasks, seed=seed, curve_steps=curve_steps, metric=metric)
        for label, learner in learners.items()
    }
    return paired(found)


def paired(reports: Mapping[str, Report]) -> Comparison:
    """Order reports on the same tasks by merit and take their differences task by task."""
    metric = next(iter(reports.values())).metric
    sign = 1.0 if losses.HIGHER_IS_BETTER[metric] else -1.0
    ordered = dict(sorted(reports.items(), key=lambda item: -sign * item[1].mean))
    differences = []
    for a, b in itertools.combinations(ordered, 2):
        each = [p - q for p, q in zip(ordered[a].per_task, ordered[b].per_task, strict=True)]
        mean, ci95 = mean_ci95(each)
        winner = None if abs(mean) <= ci95 else (a if sign * mean > 0 else b)
        differences.append(Difference(a, b, mean, ci95, winner))
    return Comparison(metric, ordered, tuple(differences))
