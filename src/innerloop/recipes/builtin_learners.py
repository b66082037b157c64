"""Learners that ship with the package: `builtin:curves`, trained on curves that nobody measured."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe

_SOURCE = "this project; no published number"


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="builtin-curves",
            summary="made-up curves of many kinds, gp_mixture: what builtin:curves is.",
            source=_SOURCE,
            algorithm="gp_mixture",
            tasks="synthetic_curves",
            algorithm_options={"processes": 16},
            model="mlp",
            model_options={"hidden": (), "outputs": None},
            training={
                "steps": 500,
                "num_tasks": 16,
                "outer_lr": 2e-2,
                "schedule": "cosine",
                "clip_norm": 1.0,
                "valid_tasks": 300,
                "valid_metric": "log_likelihood",
                "validate_every": 125,
                "strategy": "vmapped",
                "threads": 1,
                "device": "cpu",
            },
            evaluations=(Evaluation(metric="log_likelihood", num_tasks=1_000),),
        ),
    ]
