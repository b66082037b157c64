"""Two short settings that are run again before a change goes in: their numbers must stay in the stored bands."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe

NAMES = ("sine-check", "glyphs-check")
_SOURCE = "this project; a check of the code, no result"


def recipes() -> list[Recipe]:
    """A sine and a glyphs one, each well under half a minute on one core."""
    sine = Recipe(
        name="sine-check",
        summary="Sine of Finn et al., MAML, 500 steps of 25 tasks: run again before each change.",
        source=_SOURCE,
        algorithm="maml",
        tasks="sinusoid",
        algorithm_options={"inner_lr": 0.05, "inner_steps": 1},
        task_options={"preset": "finn", "shots": 10, "queries": 50, "train_shots": 10, "train_queries": 10},
        model="mlp",  # not with the paper's initial weights: from those it may stay long where it begins
        model_options={"hidden": (40, 40)},
        training={
            "steps": 500,
            "num_tasks": 25,
            "outer_lr": 5e-3,
            "schedule": "cosine",
            "validate_every": 0,
            "threads": 1,
            "strategy": "vmapped",
        },
        evaluations=(Evaluation(num_tasks=500),),
    )
    glyphs = Recipe(
        name="glyphs-check",
        summary="glyphs 5-way 1-shot, MAML, 80 steps of 4 tasks: run again before each change.",
        source=_SOURCE,
        algorithm="maml",
        tasks="glyphs",
        algorithm_options={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3},
        task_options={"ways": 5, "shots": 1, "queries": 5, "train_queries": 3},
        model="conv4",
        model_options={"filters": 16},
        training={
            "steps": 80,
            "num_tasks": 4,
            "outer_lr": 5e-3,
            "schedule": "cosine",
            "validate_every": 0,
            "threads": 1,
            "strategy": "looped",
        },
        evaluations=(Evaluation(num_tasks=200),),
    )
    return [sine, glyphs]
