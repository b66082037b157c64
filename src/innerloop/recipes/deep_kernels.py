"""Deep kernel transfer: on curves of its own kernel, on sine curves beside MAML, on Omniglot beside R2-D2."""

from __future__ import annotations

import dataclasses
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

_BESIDE = "innerloop.recipes.beside_deep_kernels"
_RAW = {"hidden": (), "outputs": None}  # the inputs as they are
# As the recipe of the prior-fitted network: 1 to 48 points in [0, 1], then 50 queries.
_ONE_PROCESS = {
    "length": (0.6, 0.6),
    "scale": (1.0, 1.0),
    "input_range": (0.0, 1.0),
    "fewest": 1,
    "queries": 50,
    "noise": 0.1,
}


def _process(name: str, summary: str, kernel: str, task_options: dict[str, Any]) -> Recipe:
    return Recipe(
        name=name,
        summary=summary,
        source="this project; no published number",
        algorithm="dkt",
        tasks="gaussian_process",
        algorithm_options={"kernel": kernel},
        task_options={"kernel": kernel, **task_options},
        model="mlp",
        model_options=_RAW,
        training={
            "steps": 300,
            "num_tasks": 16,
            "outer_lr": 0.03,
            "schedule": "cosine",
            "valid_tasks": 100,
            "valid_metric": "log_likelihood",
            "validate_every": 150,
            "strategy": "vmapped",
            "threads": 1,
        },
        evaluations=(Evaluation(metric="log_likelihood", num_tasks=2_000),),
        beside=f"{_BESIDE}:beside_one_process",
    )


def _sine(kernel: str) -> list[Recipe]:
    label = "" if kernel == "rbf" else f"-{kernel}"
    made = Recipe(
        name=f"sine-10shot-dkt{label}",
        summary=f"Sine, trained and tested on 10 points, dkt with the {kernel} kernel: error and calibration beside MAML.",
        source="this project; the paper's sine curves are tested on 5 noisy points",
        algorithm="dkt",
        tasks="sinusoid",
        algorithm_options={"kernel": kernel},
        task_options={"preset": "finn", "shots": 10, "queries": 100, "train_shots": 10, "train_queries": 10},
        model="mlp",
        model_options={"hidden": (40, 40), "init": "finn", "outputs": None},
        training={
            "steps": 50_000,
            "num_tasks": 16,
            "outer_lr": 3e-3,
            "schedule": "cosine",
            "valid_tasks": 100,
            "strategy": "compiled",
        },
        evaluations=(  # of other test tasks than 0: 3,000 steps became more after a number on these was seen
            Evaluation(seed=1),
            Evaluation(metric="log_likelihood", seed=1),
            Evaluation(tasks={"shots": 5}, seed=1),
        ),
        beside=f"{_BESIDE}:beside_sine",
    )
    return with_cpu(made, training={"steps": 20_000, "validate_every": 5_000})


def _omniglot() -> list[Recipe]:
    made = Recipe(
        name="omniglot-5w1s-dkt",
        summary="Omniglot 5-way 1-shot, dkt: accuracy and calibration.",
        source="Patacchiola et al. 2020, arXiv:1910.05199, who do not report this setting; net of Snell et al. 2017",
        algorithm="dkt",
        tasks="omniglot",
        task_options={
            "split": "random",
            "ways": 5,
            "shots": 1,
            "queries": 15,
            "rotations": True,
            "train_ways": 60,
            "train_queries": 5,
        },
        model="conv4",
        model_options={"outputs": None, "downsample": "max_pool"},
        training={"steps": 30_000, "num_tasks": 1, "outer_lr": 1e-3, "schedule": "halving", "valid_tasks": 300},
        beside=f"{_BESIDE}:beside_pictures",
    )
    short = dataclasses.replace(
        made,
        name=f"{made.name}-cpu",
        summary=f"{made.summary} Cut for one CPU core.",
        task_options={**made.task_options, "train_ways": 20},
        model_options={**made.model_options, "filters": 32},
        training={
            "steps": 600,
            "num_tasks": 1,
            "outer_lr": 1e-2,
            "schedule": "cosine",
            "valid_tasks": 50,
            "validate_every": 200,
            "threads": 1,
        },
    )
    return [made, short]


def recipes() -> list[Recipe]:
    return [
        _process(
            "gp-one-rbf-dkt-cpu",
            "Curves of one process, rbf kernel, dkt without a network: how far below the exact posterior?",
            "rbf",
            _ONE_PROCESS,
        ),
        _process(
            "gp-one-matern-dkt-cpu",
            "Curves of one process, matern52 kernel, dkt without a network: how far below the exact posterior?",
            "matern52",
            _ONE_PROCESS,
        ),
        _process(
            "gp-rbf-dkt-cpu",
            "Curves from a Gaussian process, rbf kernel of lengths and scales that vary, dkt with one kernel for all.",
            "rbf",
            {},
        ),
        *_sine("rbf"),
        *_sine("linear"),
        *_omniglot(),
    ]
