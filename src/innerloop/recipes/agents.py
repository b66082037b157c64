"""Policies in worlds: RL^2 on bandits and on decision processes, beside players who know what such worlds are like."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from innerloop.recipes.recipe import Recipe, Stage

if TYPE_CHECKING:
    from innerloop.core import TaskDistribution

_WORLDS = 4_000  # judged
_PAPER = "Duan et al. 2016, arXiv:1611.02779, as Mishra et al. 2018, arXiv:1707.03141, print it"
# A random policy earns 1 a step here, whose published share is .482: so the paper divided by 1 / .482 a step, which is less than
# the best action of each state earns by itself (2.16), and than the value-iteration bound.
_PUBLISHED_BOUND = 1 / 0.482


def recipes() -> list[Recipe]:
    """Bandits of 10 and of 100 pulls, decision processes of 10 and of 25 episodes."""
    here = "innerloop.recipes.agents"
    training = {"schedule": "linear", "threads": 1, "strategy": "vmapped", "clip_norm": 1.0, "valid_tasks": 1_000}
    short = Recipe(
        name="bandits-10-5-rl2",
        summary="RL^2 on Bernoulli bandits, 5 arms, 10 pulls.",
        source=_PAPER,
        algorithm="rl2",
        tasks="bandits",
        algorithm_options={"entropy": 0.03},
        task_options={"arms": 5, "pulls": 10},
        model="gru_policy",
        model_options={"hidden": 32},
        training={
            **training,
            "steps": 480,
            "num_tasks": 1024,
            "outer_lr": 0.01,
            "outer_passes": 8,
            "validate_every": 120,
        },
        evaluations=(),
        beside=f"{here}:beside_bandits",
        published="6.7",
    )
    # The paper's trace, 0.3, tells an action little of what it is worth 90 pulls later: training stood still at 64.
    long = Recipe(
        name="bandits-100-5-rl2",
        summary="RL^2 on Bernoulli bandits, 5 arms, 100 pulls, after 10 and 30.",
        source=_PAPER,
        algorithm="rl2",
        tasks="bandits",
        algorithm_options={"entropy": 0.02, "trace": 0.95, "value": 20.0},
        task_options={"arms": 5, "pulls": 100},
        model="gru_policy",
        model_options={"hidden": 48},
        stages=(
            Stage(task_options={"pulls": 10}, training={"steps": 250, "outer_lr": 0.01, "schedule": "constant"}),
            Stage(task_options={"pulls": 30}, training={"steps": 150, "outer_lr": 7e-3, "schedule": "constant"}),
        ),
        training={
            **training,
            "steps": 1_000,
            "num_tasks": 512,
            "outer_lr": 4e-3,
            "outer_passes": 4,
            "valid_tasks": 500,
            "validate_every": 100,
        },
        evaluations=(),
        beside=f"{here}:beside_bandits",
        published="78.7",
    )
    processes = [
        Recipe(
            name=f"mdp-{episodes}-rl2",
            summary=f"RL^2 on decision processes of 10 states and 5 actions, {episodes} episodes of 10 steps.",
            source=_PAPER,
            algorithm="rl2",
            tasks="tabular_mdp",
            algorithm_options={"entropy": 0.02},
            task_options={"episodes": episodes},
            model="gru_policy",
            model_options={"hidden": 64},
            training={
                **training,
                "steps": steps,
                "num_tasks": 256,
                "outer_lr": 5e-3,
                "outer_passes": 4,
                "validate_every": 50,
            },
            evaluations=(),
            beside=f"{here}:beside_processes",
            published=published,
        )
        for episodes, steps, published in ((10, 800, ".752"), (25, 500, ".859"))
    ]
    return [short, long, *processes]


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
