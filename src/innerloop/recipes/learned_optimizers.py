"""Learned schedules and optimizers beside known ones, each swept over 14 rates on validation runs, on the same held-out runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from innerloop.recipes.recipe import Recipe

if TYPE_CHECKING:
    from innerloop.core import TaskDistribution, TaskFamily

_RUNS, _VALID = 200, 64  # held-out runs, and those that rates are chosen on
_SCHEDULE = {"data": "mnist", "size": 8, "batch": 64, "horizon": 30}
_DIGITS = {"data": "mnist", "size": 10, "batch": 128}
_SIGMOID = {"name": "mlp", "hidden": [20], "activation": "sigmoid"}
_DEEPER = {"name": "mlp", "hidden": [20, 20], "activation": "sigmoid"}
_RELU = {"name": "mlp", "hidden": [20], "activation": "relu"}
_LARGE = {"name": "mlp", "hidden": [8], "activation": "sigmoid"}  # of pictures of 28x28
# What the MLP rule is judged on: three of the networks that it is trained on, and two that are wider.
_OTHERS: dict[str, dict[str, Any]] = {
    "20 sigmoid": {"make_model": _SIGMOID},
    "40 sigmoid": {"make_model": {**_SIGMOID, "hidden": [40]}},
    "20-20 sigmoid": {"make_model": _DEEPER},
    "20 ReLU": {"make_model": _RELU},
    "28x28, 20 sigmoid": {"make_model": _SIGMOID, "size": 28},
}


def recipes() -> list[Recipe]:
    """A schedule, the LSTM of the paper's first experiment, and the MLP rule with what it was not trained on."""
    here = "innerloop.recipes.learned_optimizers"
    training = {"schedule": "cosine", "threads": 1}
    schedule = Recipe(
        name="learned-schedule-mnist8",
        summary="Adam's rate and decays learned for each step and tensor: MNIST 8x8, MLP 64-32-10, 30 steps.",
        source="this project's setting; baselines swept in the same run",
        algorithm="learned_schedule",
        tasks="training_jobs",
        algorithm_options={"learn": ("lr", "betas"), "lr": 0.03},
        task_options=_SCHEDULE,
        model="mlp",
        model_options={"hidden": (32,)},
        training={**training, "steps": 120, "num_tasks": 16, "outer_lr": 0.06, "valid_tasks": 32, "validate_every": 60},
        evaluations=(),
        beside=f"{here}:beside_schedule",
    )
    lstm = Recipe(
        name="learned-lstm-quadratics",
        summary="The LSTM optimizer on 10-d quadratics, 100 steps (Andrychowicz 2016, first experiment).",
        source="Andrychowicz et al. 2016, arXiv:1606.04474, figures only; baselines swept in the same run",
        algorithm="learned_optimizer",
        tasks="quadratic_jobs",
        algorithm_options={"kind": "lstm"},
        task_options={"horizon": 100},
        training={**training, "steps": 800, "num_tasks": 128, "valid_tasks": 128, "validate_every": 100},
        evaluations=(),
        beside=f"{here}:beside_quadratics",
    )
    mlp = Recipe(
        name="learned-mlp-mnist10",
        summary="The MLP optimizer, trained on four small networks for MNIST of 10x10 and 28x28; judged on wider ones too.",
        source="after Metz et al. 2020, arXiv:2009.11243; setting of Andrychowicz et al. 2016; baselines swept in the same run",
        algorithm="learned_optimizer",
        tasks="training_jobs",
        algorithm_options={"kind": "mlp", "goal": "log", "truncation": 40, "scale": 0.04, "first_order": False},
        task_options={
            **_DIGITS,
            "size": (10, 10, 10, 28),
            "horizon": (50, 200),
            "make_model": [_SIGMOID, _RELU, _DEEPER, _LARGE],
        },
        training={
            **training,
            "steps": 220,
            "num_tasks": 8,
            "outer_lr": 2.5e-3,
            "strategy": "vmapped",
            "valid_tasks": 16,
            "validate_every": 110,
        },
        evaluations=(),
        beside=f"{here}:beside_mlp",
    )
    return [schedule, lstm, mlp]


def beside_schedule(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """The schedule, and Adam, RMSprop, momentum and SGD at their best rates."""
    del test
    from innerloop.tasks.training_runs.jobs import training_jobs

    family = training_jobs("mlp", model_options={"hidden": (32,)}, **_SCHEDULE)
    return _rows(learner, family, "")


def beside_quadratics(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """The LSTM after 100 steps, as in its training, and after 200."""
    del test
    from innerloop.tasks.training_runs.quadratics import quadratic_jobs

    return [row for steps in (100, 200) for row in _rows(learner, quadratic_jobs(horizon=steps), f", {steps} steps")]


def beside_mlp(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """The MLP rule and Adam on each of the networks, after 100 and 200 steps."""
    del test
    from innerloop.tasks.training_runs.jobs import training_jobs

    found = []
    for name, options in _OTHERS.items():
        for steps in (100, 200):
            family = training_jobs(**{**_DIGITS, **options, "horizon": steps})
            found += _rows(learner, family, f", {name}, {steps} steps", ("adam",), runs=32, valid=16)
    return found


def _rows(
    learner: Any,
    family: TaskFamily,
    named: str,
    optimizers: Sequence[str] = ("adam", "rmsprop", "momentum", "sgd"),
    *,
    runs: int = _RUNS,
    valid: int = _VALID,
) -> list[dict[str, Any]]:
    """End, curve and accuracy of the learned optimizer, and of known ones at their best rates for the end and for the curve."""
    from innerloop.evaluation.evaluate import mean_ci95
    from innerloop.evaluation.optimizer_sweep import best_rate, curves_at, run_jobs

    which = {"num_jobs": runs, "seed": 0, "steps": int(family.test.objective.steps)}
    learner.check(family.test.at(0, 0, 1))
    own = run_jobs(learner.learner, learner.meta(), family.test, **which)[0]
    rows: list[dict[str, Any]] = []

    def add(label: str, curves: Any, metrics: Mapping[str, str]) -> None:
        for metric, said in metrics.items():
            values = getattr(curves, metric)
            if values is not None:
                mean, ci95 = mean_ci95((100 * values if metric == "accuracy" else values).tolist())
                value = {
                    "value": round(mean, 4),
                    "ci95": round(ci95, 4),
                    "num_tasks": len(values),
                    "transductive": False,
                }
                rows.append({"metric": f"{said}{named}, {label}", **value})

    usual = {"end": "loss at the end", "curve": "mean of the curve", "accuracy": "accuracy % at the end"}
    add("learned", own, usual)
    for name in optimizers:
        known: dict[float, Any] = {}
        _, _, for_end = best_rate(name, family.valid, num_jobs=valid, known=known)
        _, _, for_curve = best_rate(name, family.valid, num_jobs=valid, goal="curve", known=known)
        at_end, at_curve = curves_at(name, [for_end, for_curve], family.test, **which)
        add(f"{name} {for_end:.2g}", at_end, usual)
        if for_curve != for_end:
            add(f"{name} {for_curve:.2g}", at_curve, {"curve": usual["curve"]})
    return rows
