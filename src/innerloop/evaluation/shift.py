"""Several learners on tasks further and further from those of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.core import TaskDistribution
from innerloop.errors import ConfigError
from innerloop.evaluation.compare import Comparison, paired
from innerloop.evaluation.evaluate import evaluate
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.tasks.shift import SHIFTS, shifted


@dataclasses.dataclass(frozen=True)
class ShiftCurves:
    """What each learner reaches at each distance.

    Attributes:
        kind: of the shift.
        unit: of its amounts; "" where they are names.
        amounts: how far, in the order asked for.
        comparisons: one for each amount: reports by label, and paired differences.
    """

    kind: str
    unit: str
    amounts: tuple[float | str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def metric(self) -> str:
        return self.comparisons[0].metric

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: for each label a row an amount."""
        first = next(iter(self.comparisons[0].reports.values()))
        rows = [
            {"label": label, "amount": amount, "mean": r.mean, "ci95": r.ci95, "transductive": r.transductive}
            for amount, comparison in zip(self.amounts, self.comparisons, strict=True)
            for label, r in comparison.reports.items()
        ]
        differences = [
            {"amount": amount, "first": d.first, "second": d.second, "mean": d.mean, "ci95": d.ci95}
            for amount, comparison in zip(self.amounts, self.comparisons, strict=True)
            for d in comparison.differences
        ]
        return {
            "metric": self.metric,
            "num_tasks": first.num_tasks,
            "seed": first.seed,
            "split": first.split,
            "shift": {"kind": self.kind, "unit": self.unit, "amounts": list(self.amounts)},
            "results": rows,
            "differences": differences,
        }


def shift_curves(
    learners: Mapping[str, MetaLearner],
    tasks: TaskDistribution,
    kind: str,
    amounts: Sequence[float | str],
    *,
    num_tasks: int = 600,
    seed: int = 0,
    steps: int | None = None,
) -> ShiftCurves:
    """Evaluate every learner on the same tasks at each distance.

    Tasks that a learner diverges on are not left out: the mean is then infinite or not a number, as it is.

    Args:
        learners: by label.
        tasks: one split of a problem, as it is; the distance is added here.
        kind, amounts: see `innerloop.tasks.shifted`.
        num_tasks, seed, steps: as for `evaluate`.

    Raises:
        ConfigError: no learner or no amount, or a kind that these tasks do not have.
        InputError: an amount that cannot be.
    """
    if not learners or not amounts:
        raise ConfigError(f"expected at least one learner and one amount, got {len(learners)} and {len(amounts)}")
    splits = [shifted(tasks, kind, amount) for amount in amounts]  # all errors before the first evaluation
    found = [
        paired(
            {
                label: evaluate(
                    learner, split, num_tasks=num_tasks, seed=seed, steps=steps, allow_diverged=True, baselines=False
                )
                for label, learner in learners.items()
            }
        )
        for split in splits
    ]
    return ShiftCurves(kind, SHIFTS[kind].unit, tuple(amounts), tuple(found))
