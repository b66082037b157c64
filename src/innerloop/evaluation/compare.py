"""Several learners on the very same tasks, with paired intervals: which method fits my tasks?"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from innerloop.core import Report, TaskDistribution
from innerloop.errors import ConfigError
from innerloop.evaluation.costs import Cost, costs
from innerloop.evaluation.evaluate import evaluate, mean_ci95, over_seeds
from innerloop.meta_learner.meta_learner import MetaLearner


@dataclasses.dataclass(frozen=True)
class Difference:
    """``first - second``, task by task; of several seeds, seed by seed.

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

    @property
    def tied(self) -> bool:
        """Both are finite, and the interval holds 0."""
        return self.winner is None and math.isfinite(self.mean)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Reports in order of merit, and all paired differences.

    Attributes:
        metric: its name.
        reports: by label, the best first; a learner that diverged on some task, whose mean is not finite, comes last.
        differences: of all pairs.
        costs: by label, what adapting to one task takes; empty where it was not measured.
        seeds: by label, the report of each seed where there are several; the mean and interval in ``reports`` are then over
            seeds, and ``per_task`` has the means over seeds.
    """

    metric: str
    reports: Mapping[str, Report]
    differences: tuple[Difference, ...]
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)
    seeds: Mapping[str, tuple[Report, ...]] = dataclasses.field(default_factory=dict)

    @property
    def best(self) -> str:
        return next(iter(self.reports))

    @property
    def as_good(self) -> tuple[str, ...]:
        """The best, and those whose difference from it has an interval that holds 0, in order of merit."""
        return tuple(
            label
            for label in self.reports
            if label == self.best or any({d.first, d.second} == {self.best, label} and d.tied for d in self.differences)
        )


def compare(
    learners: Mapping[str, MetaLearner | Sequence[MetaLearner]],
    tasks: TaskDistribution,
    *,
    num_tasks: int | None = None,
    seed: int = 0,
    curve_steps: int | None = None,
    metric: str | None = None,
    allow_diverged: bool = False,
    with_costs: bool = False,
) -> Comparison:
    """Evaluate every learner on the same tasks.

    Args:
        learners: by label; or of each label a list, one learner a training seed, in one order: intervals are then over seeds, and
            differences are taken seed by seed.
        tasks: one split of a problem.
        num_tasks, seed: as for `evaluate`.
        curve_steps: adaptation curves too.
        metric: as for `evaluate`; None: the problem's first.
        allow_diverged: learners that diverge on some tasks are shown with the mean as it is, not finite, and come last.
        with_costs: also measure the time and memory of adapting to one task (`innerloop.evaluation.costs`).

    Raises:
        ConfigError: no learner given, or not the same number for each label.
        DivergedError: as `evaluate`.
    """
    if not isinstance(learners, Mapping):
        raise ConfigError(
            f"compare expected learners by label, {{'maml': learner, ...}}, got {type(learners).__name__}"
        )
    if not learners:
        raise ConfigError("compare expected at least one learner, got none")
    every: dict[str, list[MetaLearner]] = {
        label: [given] if isinstance(given, MetaLearner) else list(given) for label, given in learners.items()
    }
    numbers = {label: len(own) for label, own in every.items()}
    if 0 in numbers.values() or len(set(numbers.values())) > 1:
        raise ConfigError(f"compare expected equally many learners for each label, one a seed, got {numbers}")

    def judged(learner: MetaLearner) -> Report:
        how = {"curve_steps": curve_steps, "metric": metric, "allow_diverged": allow_diverged}
        return evaluate(learner, tasks, num_tasks=num_tasks, seed=seed, **how)

    found = {label: tuple(map(judged, own)) for label, own in every.items()}
    spent = costs({label: own[0] for label, own in every.items()}, tasks, seed=seed) if with_costs else {}
    if max(numbers.values()) > 1:
        means = {label: [report.mean for report in own] for label, own in found.items()}
        together = paired({label: over_seeds(own) for label, own in found.items()}, means)
        return dataclasses.replace(together, costs=spent, seeds=found)
    return dataclasses.replace(paired({label: own[0] for label, own in found.items()}), costs=spent)


def paired(reports: Mapping[str, Report], values: Mapping[str, Sequence[float]] | None = None) -> Comparison:
    """Order reports on the same tasks by merit and take their differences.

    Args:
        reports: by label.
        values: of each label, which are subtracted one by one; None: those of each task.
    """
    values = {label: report.per_task for label, report in reports.items()} if values is None else values
    first = next(iter(reports.values()))
    metric, sign = first.metric, 1.0 if first.higher_is_better else -1.0
    ordered = dict(sorted(reports.items(), key=lambda item: _rank(sign * item[1].mean)))
    differences = []
    for a, b in itertools.combinations(ordered, 2):
        each = [p - q for p, q in zip(values[a], values[b], strict=True)]
        mean, ci95 = mean_ci95(each)
        winner = None if not abs(mean) > ci95 else (a if sign * mean > 0 else b)
        differences.append(Difference(a, b, mean, ci95, winner))
    return Comparison(metric, ordered, tuple(differences))


def _rank(merit: float) -> tuple[bool, float]:
    """Sorts what diverged to the end; nan has no order of its own."""
    return (False, -merit) if math.isfinite(merit) else (True, 0.0)
