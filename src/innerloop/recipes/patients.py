"""Parkinson's telemonitoring: each patient a task; what an unseen patient's few visits are worth, by method.

42 patients, 30 to train on, 6 to validate, 6 to test (Tsanas, Little, McSharry and Ramig 2010, IEEE Transactions on Biomedical
Engineering 57(4); UCI, CC BY 4.0). A visit is a row: age, sex, time since recruitment and 16 measures of the voice; the target
is motor UPDRS. total_UPDRS is another score by the same clinician and no input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop import keys, models
from innerloop.core import Task
from innerloop.data.locations import data_folder
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import mean_ci95, means_by_task
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.maml import meta_sgd
from innerloop.recipes.baselines import sklearn_module
from innerloop.tasks.tables.own import table_family
from innerloop.training.fit import fit

_FILE = "multitask_tabular/parkinsons_updrs.data.gz"
_QUERIES, _TEST_TASKS, _VALID_TASKS = 30, 600, 200
_STRENGTHS = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_STEPS = 1000
_OURS = "meta_sgd, a linear model with a learned rate for each column"


def run_5_visits() -> list[dict[str, Any]]:
    """Rows of the recipe for 5 visits."""
    return run(5)


def run_10_visits() -> list[dict[str, Any]]:
    """Rows of the recipe for 10 visits."""
    return run(10)


def run(visits: int, steps: int = _STEPS, test_tasks: int = _TEST_TASKS) -> list[dict[str, Any]]:
    """Mean squared errors in UPDRS points squared, over the same draws of visits of the six test patients."""
    path = data_folder() / _FILE
    if not path.is_file():
        raise InputError(
            f"expected Parkinson's telemonitoring data at {path}, got nothing; put UCI's file there, gzipped"
        )
    family, plain = (
        table_family(
            path,
            target="motor_UPDRS",
            task_column="subject#",
            ignore=["total_UPDRS", "age", "sex"] if ours else ["total_UPDRS"],
            center_target=ours,
            shots=visits,
            queries=_QUERIES,
        )
        for ours in (True, False)
    )
    assert family.train.preprocessing is not None
    points = float(family.train.preprocessing["target_std"][0]) ** 2
    # The same keys: the same visits of the same patients. Ours has targets less the mean of the visits, and not the columns
    # that are constant within a patient, which can tell nothing about such differences; the baselines have all.
    asked, tuned = plain.test.at(0, 0, test_tasks), plain.valid.at(0, 0, _VALID_TASKS)
    torch.manual_seed(0)
    learner = meta_sgd(
        models.mlp(family.train.input_shape[0], 1, hidden=()), rate_low=0.01, rate_high=0.05, inner_steps=5
    )
    done = fit(
        learner,
        family,
        steps=steps,
        num_tasks=8,
        outer_lr=3e-3,
        schedule="cosine",
        validate_every=max(1, steps // 8),
        valid_tasks=_VALID_TASKS,
        clip_norm=5.0,
        strategy="vmapped",
        quiet=True,
    )
    strength = min(_STRENGTHS, key=lambda s: float(ridge_errors(tuned, s).mean()))
    found = {
        _OURS: meta_errors(learner, family.test.at(0, 0, test_tasks)),
        f"ridge per patient, strength {strength:g} chosen on the validation patients": ridge_errors(asked, strength),
        "the mean of the patient's visits": mean_errors(asked),
        **pooled_errors(plain.train.at(1, 0, 150), asked),
    }
    # Many draws of a few patients are a few patients: the interval is over them.
    which = plain.test.which(keys.task_keys(0, "test", 0, 0, test_tasks))
    assert which is not None
    of = which.tolist()
    # Beside each baseline the difference, visit by visit of the same patients: below 0, ours is better.
    others = [name for name in found if name != _OURS]
    found |= {"ours less " + name.partition(", strength")[0]: found[_OURS] - found[name] for name in others}
    rows = []
    for name, errors in found.items():
        values = (errors.double() * points).tolist()
        mean, ci95 = mean_ci95(values)[0], mean_ci95(means_by_task(values, of))[1]
        rows.append(
            {
                "metric": f"mse of motor UPDRS, {visits} visits: {name}",
                "value": round(mean, 3),
                "ci95": round(ci95, 3),
                "num_tasks": len(set(of)),
                "transductive": False,
                "steps": done.steps if name == _OURS else 0,
            }
        )
    return rows


def meta_errors(learner: MetaLearner, tasks: Task) -> Tensor:
    """Each task's mean squared error after adapting, in scaled units."""
    return (learner.predict_queries(tasks) - tasks.query.y).square().mean((1, 2))


def mean_errors(tasks: Task) -> Tensor:
    """Each task's error of the mean of its support set."""
    return (tasks.support.y.mean(1, keepdim=True) - tasks.query.y).square().mean((1, 2))


def ridge_errors(tasks: Task, strength: float) -> Tensor:
    """Each task's error of ridge regression fitted to its support set alone (the same scaled rows)."""
    ridge = sklearn_module("linear_model").Ridge
    found = []
    for sx, sy, qx, qy in zip(tasks.support.x, tasks.support.y, tasks.query.x, tasks.query.y, strict=True):
        fitted = ridge(alpha=strength).fit(sx.numpy(), sy.numpy())
        found.append(float(np.square(fitted.predict(qx.numpy()).reshape(-1, 1) - qy.numpy()).mean()))
    return torch.tensor(found)


def pooled_errors(train: Task, tasks: Task) -> dict[str, Tensor]:
    """Errors of one random forest for all patients, and of one for the differences from the mean of a patient's visits.

    A plain pooled model knows nothing of the new patient; the second is given the mean of their visits.
    """
    x = torch.cat([train.support.x, train.query.x], 1)
    y = torch.cat([train.support.y, train.query.y], 1)
    forest = sklearn_module("ensemble").RandomForestRegressor
    found = {}
    for name, of_train, of_new in (
        ("one forest for all patients", torch.zeros(1), torch.zeros(1)),
        ("one forest for all patients, on differences from the mean of a patient's visits",
         train.support.y.mean(1, keepdim=True), tasks.support.y.mean(1, keepdim=True)),
    ):  # fmt: skip
        fitted = forest(100, min_samples_leaf=5, random_state=0)
        fitted.fit(x.flatten(0, 1).numpy(), (y - of_train).flatten().numpy())
        predicted = torch.as_tensor(fitted.predict(tasks.query.x.flatten(0, 1).numpy()))
        error = predicted.reshape(tasks.query.y.shape) + of_new - tasks.query.y
        found[name] = error.square().mean((1, 2))
    return found
