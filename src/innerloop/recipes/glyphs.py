"""glyphs 5-way 1-shot: all methods on the built-in pictures, a few minutes each on one core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe

_TASKS = {"ways": 5, "shots": 1, "queries": 5, "train_queries": 3}
_ADAM = {"outer_lr": 2e-3, "schedule": "cosine", "num_tasks": 8}


def _glyphs(
    algorithm: str, options: Mapping[str, Any], training: Mapping[str, Any], tasks: Mapping[str, Any] | None = None
) -> Recipe:
    return Recipe(
        name=f"glyphs-5w1s-{algorithm.replace('_', '-')}",
        summary=f"glyphs 5-way 1-shot, {algorithm}.",
        source="this project; no published number",
        algorithm=algorithm,
        tasks="glyphs",
        algorithm_options=options,
        task_options={**_TASKS, **(tasks or {})},
        model="conv4",
        training={"valid_tasks": 100, "threads": 1, **training},
        evaluations=(Evaluation(num_tasks=600),),
    )


def recipes() -> list[Recipe]:
    return [
        _glyphs("maml", {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}, {**_ADAM, "steps": 1_000}),
        _glyphs("fomaml", {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}, {**_ADAM, "steps": 1_400}),
        _glyphs("anil", {"inner_lr": 0.4, "inner_steps": 3}, {**_ADAM, "steps": 1_400}),
        _glyphs("boil", {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 1}, {**_ADAM, "steps": 1_000}),
        _glyphs("meta_sgd", {"rate_low": 0.1, "rate_high": 0.5}, {**_ADAM, "steps": 1_000}),
        _glyphs("mamlpp", {"inner_lr": 0.2, "inner_steps": 3, "phase_steps": 30}, {**_ADAM, "steps": 400}),
        _glyphs(
            "reptile",
            {"inner_lr": 1e-3, "inner_steps": 8, "inner_batch": 10, "eval_batch": 5, "eval_steps": 50},
            {"steps": 500, "num_tasks": 5, "strategy": "vmapped"},
            {"train_shots": 10, "train_queries": 1},
        ),
        _glyphs(
            "pretrained",
            {"inner_lr": 1.0, "inner_steps": 10, "adapt": "head"},
            {"outer_lr": 2e-3, "schedule": "cosine", "num_tasks": 8, "steps": 1_500},
        ),
        _glyphs(
            "multitask_average",
            {"inner_lr": 1e-3, "inner_steps": 30, "eval_steps": 50},
            {"steps": 40, "num_tasks": 5, "strategy": "vmapped"},
            {"train_shots": 10, "train_queries": 1},
        ),
        _glyphs(
            "scratch", {"inner_lr": 1e-3, "inner_steps": 50, "inner_optimizer": "adam"}, {"steps": 1, "num_tasks": 1}
        ),
    ]
