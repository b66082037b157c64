"""Learners that ship with the package, trained on what nobody measured: `builtin:tables` and `builtin:curves`."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe

_SOURCE = "this project; no published number"


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="builtin-tables",
            summary="made-up tables of 2 to 5 classes, column_evidence: what builtin:tables is.",
            source=_SOURCE,
            algorithm="column_evidence",
            tasks="synthetic_tables",
            task_options={
                "ways": 5,
                "shots": 8,
                "queries": 8,
                "columns": 64,
                "fewest_ways": 2,
                "fewest_shots": 2,
            },
            model="mlp",
            model_options={"hidden": (), "outputs": None},
            training={
                "steps": 250,
                "num_tasks": 8,
                "outer_lr": 1e-2,
                "schedule": "cosine",
                "clip_norm": 1.0,
                "valid_tasks": 64,
                "validate_every": 50,
                "strategy": "vmapped",
                "chunk_size": 4,
                "threads": 1,
                "device": "cpu",
            },
            evaluations=(Evaluation(num_tasks=300),),
            beside="innerloop.recipes.any_table:beside",
        ),
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
            beside="innerloop.recipes.any_curve:beside",
        ),
    ]
