"""Omniglot N-way K-shot by methods that take gradient steps on each task; MAML for one CPU core too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))


def _tasks(ways: int, shots: int, **more: Any) -> dict[str, Any]:
    """1,200 characters with rotations, a hundred of them for validation; K queries a class, as Finn et al. 2017."""
    return {"split": "random", "ways": ways, "shots": shots, "queries": shots, "rotations": True, **more}


def _recipe(
    algorithm: str,
    label: str,
    ways: int,
    shots: int,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    published: str,
    source: str,
    *,
    tasks: Mapping[str, Any] | None = None,
    model: str = "conv4",
    model_options: Mapping[str, Any] | None = None,
    num_tasks: int = 600,
) -> Recipe:
    return Recipe(
        name=f"omniglot-{ways}w{shots}s-{label}",
        summary=f"Omniglot {ways}-way {shots}-shot, {label}.",
        source=source,
        algorithm=algorithm,
        tasks="omniglot",
        algorithm_options=options,
        task_options=_tasks(ways, shots) if tasks is None else tasks,
        model=model,
        model_options=model_options or {},
        training=training,
        evaluations=(Evaluation(num_tasks=num_tasks, published=(published,) if published else ()),),
    )


def _finn(ways: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inner loop and outer loop of Finn et al. 2017 for this number of ways."""
    inner = {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3} if ways == 5 else {"inner_lr": 0.1, "inner_steps": 5}
    return inner, {"steps": 60_000, "num_tasks": 32 if ways == 5 else 16, "outer_lr": 1e-3, "valid_tasks": 300}


_FINN = "Finn et al. 2017, arXiv:1703.03400, table 1 (published)"
_ANTONIOU = {
    "steps": 50_000, "num_tasks": 8, "outer_lr": 1e-3, "schedule": "cosine", "min_lr": 1e-5, "valid_tasks": 600,
}  # fmt: skip
_AN_HOUR = {1: 20_000, 5: 8_000}  # 5-way outer steps, by shots: 61 and 42 minutes on one core were measured
_MAML = {(5, 1): "98.7±0.4", (5, 5): "99.9±0.1", (20, 1): "95.8±0.3", (20, 5): "98.9±0.2"}
_FOMAML = {(5, 1): "98.3±0.5", (5, 5): "99.2±0.2", (20, 1): "89.4±0.5", (20, 5): "97.9±0.1"}
_MAMLPP = {(5, 1): "99.47", (5, 5): "99.93", (20, 1): "97.65±0.05", (20, 5): "99.33±0.03"}
_META_SGD = {(5, 1): "99.53±0.26", (5, 5): "99.93±0.09", (20, 1): "95.93±0.38", (20, 5): "98.97±0.19"}
_ANIL = {(5, 1): "", (20, 1): "96.2±0.5", (20, 5): "98.0±0.3"}
_NO_CONV = {(5, 1): "89.7±1.1", (5, 5): "97.5±0.6"}
_REPTILE = {(5, 1): "95.39±0.09", (5, 5): "98.90±0.10", (20, 1): "88.14±0.15", (20, 5): "96.65±0.33"}
_REPTILE_TRANSDUCTIVE = {(5, 1): "97.68±0.04", (5, 5): "99.48±0.06", (20, 1): "89.43±0.14", (20, 5): "97.12±0.32"}
# train shots, inner batch, inner steps, outer rate, tasks a step, outer steps, batch and steps on a new task, inner rate
_REPTILE_COMMANDS = {
    (5, 1): (12, 5, 12, 1.0, 3, 200_000, 5, 86, 4.4e-4),
    (5, 5): (10, 10, 5, 0.7, 5, 100_000, 6, 100, 1.5e-3),
    (20, 1): (9, 15, 12, 1.0, 3, 200_000, 10, 97, 4.6e-4),
    (20, 5): (12, 20, 12, 1.0, 3, 200_000, 10, 97, 4.6e-4),
}
_REPTILE_ONE_SHOT_TRANSDUCTIVE = (15, 25, 3, 1.0, 10, 100_000, 25, 5, 1e-3)


def _reptile(ways: int, shots: int, transductive: bool) -> Recipe:
    command = _REPTILE_COMMANDS[ways, shots]
    if transductive and (ways, shots) == (5, 1):
        command = _REPTILE_ONE_SHOT_TRANSDUCTIVE
    train_shots, batch, steps, outer_lr, num_tasks, outer_steps, eval_batch, eval_steps, lr = command
    return _recipe(
        "reptile",
        "reptile-transductive" if transductive else "reptile",
        ways,
        shots,
        {
            "inner_lr": lr,
            "inner_steps": steps,
            "inner_batch": batch,
            "eval_batch": eval_batch,
            "eval_steps": eval_steps,
            "inductive": not transductive,
        },
        {
            "steps": outer_steps,
            "num_tasks": num_tasks,
            "outer_optimizer": "sgd",
            "outer_lr": outer_lr,
            "schedule": "linear",
            "valid_tasks": 300,
        },
        (_REPTILE_TRANSDUCTIVE if transductive else _REPTILE)[ways, shots],
        "Nichol et al. 2018, arXiv:1803.02999, tables 1 and 2, commands of the authors' code (published)",
        tasks=_tasks(ways, shots, queries=1, train_shots=train_shots, train_queries=1),
        model_options={"spatial": "flatten"},
        num_tasks=10_000,
    )


def _in_one_setting(ways: int, shots: int) -> list[Recipe]:
    setting = ways, shots
    inner, outer = _finn(ways)
    maml = _recipe("maml", "maml", ways, shots, inner, outer, _MAML[setting], _FINN)
    found = [
        *(_with_an_hour(maml, _AN_HOUR[shots]) if ways == 5 else [maml]),
        _recipe(
            "fomaml",
            "fomaml",
            ways,
            shots,
            inner,
            outer,
            _FOMAML[setting],
            "Nichol et al. 2018, arXiv:1803.02999, for FOMAML with transduction (published*); both loops of Finn et al. 2017",
        ),
        _recipe(
            "meta_sgd",
            "meta-sgd",
            ways,
            shots,
            {"inner_steps": 1},
            outer,
            _META_SGD[setting],
            "Li et al. 2017, arXiv:1707.09835 (mean of 5w1s published*, others recalled, check); outer loop of Finn et al.",
        ),
        _recipe(
            "mamlpp",
            "mamlpp",
            ways,
            shots,
            {"inner_lr": 0.1, "inner_steps": 5},
            _ANTONIOU,
            _MAMLPP[setting],
            "Antoniou et al. 2019, arXiv:1810.09502, the authors' settings for 20-way 1-shot (numbers recalled, check)",
            tasks=_tasks(ways, shots, queries=1, valid_characters=50),
            model_options={"downsample": "max_pool"},
        ),
    ]
    if setting in _ANIL:
        found.append(
            _recipe(
                "anil",
                "anil",
                ways,
                shots,
                {"inner_lr": 0.1, "inner_steps": 5},
                outer,
                _ANIL[setting],
                "Raghu et al. 2020, arXiv:1909.09157 (published*), their 20-way inner loop, outer loop of Finn et al. 2017",
            )
        )
    if setting == (5, 1):
        boil = "Oh et al. 2021, arXiv:2008.08882, who do not report this setting; both loops of Finn et al. 2017"
        found.append(_recipe("boil", "boil", ways, shots, inner, outer, "", boil))
    if setting in _NO_CONV:
        found.append(
            _recipe(
                "maml",
                "maml-no-conv",
                ways,
                shots,
                inner,
                outer,
                _NO_CONV[setting],
                _FINN,
                model="mlp",
                model_options={"hidden": (256, 128, 64, 64), "batch_norm": True},
            )
        )
    return [*found, _reptile(ways, shots, transductive=False), _reptile(ways, shots, transductive=True)]


def _with_an_hour(recipe: Recipe, steps: int) -> list[Recipe]:
    """The full recipe, and the best that at most an hour on one core gives: half the filters, and more queries to learn from."""
    full, cheap = with_cpu(
        recipe, steps=steps, num_tasks=8, outer_lr=3e-3, schedule="cosine", valid_tasks=100, validate_every=2_000
    )
    return [
        full,
        dataclasses.replace(
            cheap, task_options={**cheap.task_options, "train_queries": 5}, model_options={"filters": 32}
        ),
    ]


def recipes() -> list[Recipe]:
    found = [recipe for setting in SETTINGS for recipe in _in_one_setting(*setting)]
    inner, _ = _finn(5)
    found.append(
        Recipe(
            name="omniglot-5w1s-maml-5min",
            summary="Omniglot 5-way 1-shot, MAML, about five minutes on one core: the whole way on real drawings.",
            source="Finn et al. 2017, arXiv:1703.03400, table 1 (published, 60,000 steps)",
            algorithm="maml",
            tasks="omniglot",
            algorithm_options=inner,
            task_options=_tasks(5, 1),
            model="conv4",
            training={
                "steps": 1_500,
                "num_tasks": 8,
                "outer_lr": 2e-3,
                "schedule": "cosine",
                "valid_tasks": 100,
                "validate_every": 250,
                "threads": 1,
            },
            evaluations=(Evaluation(num_tasks=600, published=("98.7±0.4",)),),
        )
    )
    return found
