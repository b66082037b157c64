"""What stands beside RL^2's return: players who know what such worlds are like, shares of bounds, and what training took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.core import TaskDistribution

_WORLDS = 4_000  # judged
# A random policy earns 1 a step here, whose published share is .482: so the paper divided by 1 / .482 a step, which is less than
# the best action of each state earns by itself (2.16), and than the value-iteration bound.
_PUBLISHED_BOUND = 1 / 0.482


def beside_bandits(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """The return of the policy and of those who know that chances are uniform, in the same bandits with the same luck."""
    return [*_returns(learner, test), *_spent(learner)]


def beside_processes(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """Returns, and shares: of the value-iteration bound, and of what the published shares were divided by."""
    rows = _returns(learner, test)
    of: Any = test.objective
    steps = of.horizon * of.episodes
    bound = next(row["value"] for row in rows if row["metric"].endswith("bound_value_iteration"))
    shares = []
    for row in rows:
        who = row["metric"].rpartition(", ")[2]
        for said, whole in (("share of the bound", bound), ("share as published", _PUBLISHED_BOUND * steps)):
            share = {"value": round(row["value"] / whole, 4), "ci95": round(row["ci95"] / whole, 4)}
            shares.append({**row, **share, "metric": f"{said}, {who}"})
    rows = [{**row, "published": ""} for row in rows]
    shares = [row if row["metric"] == "share as published, learned" else {**row, "published": ""} for row in shares]
    return [*rows, *shares, *_spent(learner)]


def _returns(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """The mean return of the learner and of all that stands beside it."""
    from innerloop.evaluation.evaluate import evaluate

    report = evaluate(learner, test, num_tasks=_WORLDS)
    of: Sequence[tuple[str, Any]] = [("learned", report), *report.baselines.items()]
    return [
        {
            "metric": f"return, {name}",
            "value": round(found.mean, 4),
            "ci95": round(found.ci95, 4),
            "num_tasks": report.num_tasks,
            "transductive": False,
            **({} if name == "learned" else {"published": ""}),
        }
        for name, found in of
    ]


def _spent(learner: Any) -> list[dict[str, Any]]:
    """Environment steps of training, all stages of it, and CPU seconds of the whole process."""
    from innerloop.objectives.rollouts import PLAYED

    found = (("environment steps, millions", float(learner.carry[PLAYED]) / 1e6), ("CPU seconds", time.process_time()))
    return [{"metric": name, "value": round(value, 2), "ci95": "", "published": ""} for name, value in found]
