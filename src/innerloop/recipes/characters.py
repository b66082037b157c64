"""`builtin:characters`: the learner of drawn and printed characters that ships with the package."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe

_TASKS = {"ways": 10, "shots": 5, "queries": 5, "train_ways": 30, "train_shots": 3, "train_queries": 2}


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="builtin-characters",
            summary="characters 10-way 5-shot, protonet, half an hour on one core: what builtin:characters is.",
            source="this project; no published number",
            algorithm="protonet",
            tasks="characters",
            task_options=_TASKS,
            model="conv4",
            model_options={"outputs": None, "downsample": "max_pool"},
            training={
                "steps": 2_400,
                "num_tasks": 1,
                "outer_lr": 3e-3,
                "schedule": "cosine",
                "valid_tasks": 50,
                "validate_every": 300,
                "strategy": "looped",
                "threads": 1,
                "device": "cpu",
            },
            evaluations=(Evaluation(num_tasks=300),),
        )
    ]
