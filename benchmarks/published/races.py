"""The same network, tasks and outer steps' worth of a core's time for three methods: accuracy against seconds and memory.

Each is judged on the same validation tasks as it trains. All are transductive, as the first two are in their papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe

# Problem -> the recipes that are run against each other.
RACES: dict[str, tuple[str, ...]] = {
    problem: tuple(f"race-{problem}-{method}" for method in ("maml", "fomaml", "reptile"))
    for problem in ("omniglot", "glyphs")
}
# What differs between them beside the method; it stands above the picture.
DIFFERENCES = (
    "The same network and validation tasks for all; reptile trains on ten pictures a class, as its paper does, "
    "the others on one."
)
_MANY_SHOTS = {"train_shots": 10, "train_queries": 1}
_VALIDATIONS = 12


def _recipes() -> list[Recipe]:
    """Two to three minutes each on Omniglot and half a minute on glyphs, on one core."""
    omniglot = {"split": "random", "rotations": True}
    return [
        *_race("omniglot", omniglot, 64, {"maml": 1_560, "fomaml": 2_280, "reptile": 1_080}, valid_tasks=100),
        *_race("glyphs", {}, 16, {"maml": 240, "fomaml": 360, "reptile": 180}, valid_tasks=50),
    ]


def _race(
    problem: str, tasks: Mapping[str, Any], filters: int, steps: Mapping[str, int], valid_tasks: int
) -> list[Recipe]:
    one_step = {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}
    adam = {"outer_lr": 2e-3, "schedule": "cosine", "num_tasks": 8}
    # Reptile's own way of training: many shots, mini-batches, Adam inside and plain averaging outside.
    many = {
        "inner_lr": 1e-3,
        "inner_steps": 8,
        "inner_batch": 10,
        "eval_batch": 5,
        "eval_steps": 10,
        "inductive": False,
        "second_moments": "kept",
    }
    average = {"outer_optimizer": "sgd", "outer_lr": 1.0, "schedule": "linear", "num_tasks": 3, "strategy": "vmapped"}
    found = []
    for method, options, training, more in (
        ("maml", one_step, adam, {"train_queries": 1}),
        ("fomaml", one_step, adam, {"train_queries": 1}),
        ("reptile", many, average, _MANY_SHOTS),
    ):
        every = steps[method] // _VALIDATIONS
        found.append(
            Recipe(
                name=f"race-{problem}-{method}",
                summary=f"{problem} 5-way 1-shot, {method}, for python -m benchmarks.published --race {problem}.",
                source="this project; no published number",
                algorithm=method,
                tasks=problem,
                algorithm_options=options,
                task_options={"ways": 5, "shots": 1, "queries": 5, **tasks, **more},
                model="conv4",
                model_options={"filters": filters},
                training={
                    "steps": steps[method],
                    # A line of the log at each validation: the seconds that validating takes can be told apart.
                    "validate_every": every,
                    "log_every": every,
                    "valid_tasks": valid_tasks,
                    "threads": 1,
                    **training,
                },
                evaluations=(Evaluation(num_tasks=600),),
            )
        )
    return found


# The recipes of all races, by name.
RACERS: dict[str, Recipe] = {recipe.name: recipe for recipe in _recipes()}
