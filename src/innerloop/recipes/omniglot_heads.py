"""Omniglot 5-way 1-shot with heads made for each task: a ridge regression, and gradient steps from class means."""

from __future__ import annotations

import dataclasses

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

_TASKS = {
    "split": "random",
    "ways": 5,
    "shots": 1,
    "queries": 15,
    "train_ways": 60,
    "train_queries": 5,
    "rotations": True,
}
_EMBEDDING = {"outputs": None, "downsample": "max_pool"}


def recipes() -> list[Recipe]:
    ridge = Recipe(
        name="omniglot-5w1s-r2d2",
        summary="Omniglot 5-way 1-shot, r2d2.",
        source="Bertinetto et al. 2019, arXiv:1805.08136; 60 training ways as the authors' command, net of Snell et al. 2017",
        algorithm="r2d2",
        tasks="omniglot",
        task_options=_TASKS,
        model="conv4",
        model_options=_EMBEDDING,
        training={"steps": 30_000, "num_tasks": 1, "outer_lr": 5e-3, "schedule": "halving", "valid_tasks": 300},
        evaluations=(Evaluation(num_tasks=600),),
    )
    steps = Recipe(
        name="omniglot-5w1s-proto-maml",
        summary="Omniglot 5-way 1-shot, proto_maml.",
        source="Triantafillou et al. 2020, arXiv:1903.03096, who do not report this setting; budget of Finn et al. 2017",
        algorithm="proto_maml",
        tasks="omniglot",
        algorithm_options={"inner_lr": 0.1, "inner_steps": 2},
        task_options={**_TASKS, "queries": 5, "train_ways": 5},
        model="conv4",
        model_options=_EMBEDDING,
        training={"steps": 60_000, "num_tasks": 16, "outer_lr": 1e-3, "valid_tasks": 300},
        evaluations=(Evaluation(num_tasks=600),),
    )
    # About four minutes on one core: smaller nets and tasks, and a rate that falls to zero.
    found = []
    for recipe, cheap, tasks in (
        (ridge, {"steps": 900, "outer_lr": 1e-2}, {"train_ways": 20}),
        (steps, {"steps": 700, "outer_lr": 5e-3, "num_tasks": 4}, {"train_queries": 3}),
    ):
        full, small = with_cpu(recipe, schedule="cosine", valid_tasks=50, validate_every=300, **cheap)
        small = dataclasses.replace(
            small,
            task_options={**small.task_options, **tasks},
            model_options={**small.model_options, "filters": 32},
        )
        found += [full, small]
    return found
