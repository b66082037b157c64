"""Omniglot by prototypical networks, full and for one CPU core."""

from __future__ import annotations

import dataclasses

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

_PROTONET = {(5, 1): "98.8", (5, 5): "99.7", (20, 1): "96.0", (20, 5): "98.9"}


def recipes() -> list[Recipe]:
    return [*_protonet(1), *_protonet(5)]


def _protonet(shots: int) -> list[Recipe]:
    """60 ways and 5 queries a class in training, whatever the test; turned characters are classes of their own in tests too.

    The two numbers of ways are tests of one training: a run of the 5-way recipe is also one of the 20-way recipe.
    """
    recipe = Recipe(
        name=f"omniglot-5w{shots}s-protonet",
        summary=f"Omniglot 5-way {shots}-shot, protonet.",
        source="Snell et al. 2017, arXiv:1703.05175, table 1 (published); the split is ours, of the same sizes",
        algorithm="protonet",
        tasks="omniglot",
        task_options={
            "split": "random",
            "ways": 5,
            "shots": shots,
            "queries": 15,
            "train_ways": 60,
            "train_queries": 5,
            "rotations": True,
            "rotate_test": True,
            "valid_characters": 172,
        },
        model="conv4",
        model_options={"outputs": None, "downsample": "max_pool"},
        training={
            "steps": 30_000,
            "num_tasks": 1,
            "outer_lr": 1e-3,
            "schedule": "halving",
            "validate_every": 500,
            "valid_tasks": 100,
        },
        evaluations=(Evaluation(num_tasks=1_000, published=(_PROTONET[5, shots],)),),
    )
    # At most an hour on one core: a step on 60 ways takes 1.4 seconds with one shot and 2.6 with five.
    few = {"steps": 2_000} if shots == 1 else {"steps": 1_200, "outer_lr": 3e-3, "schedule": "cosine"}
    found = with_cpu(recipe, **few)
    return found + [_in_twenty_ways(trained, shots) for trained in found]


def _in_twenty_ways(recipe: Recipe, shots: int) -> Recipe:
    return dataclasses.replace(
        recipe,
        name=recipe.name.replace("-5w", "-20w"),
        summary=recipe.summary.replace("5-way", "20-way"),
        evaluations=(Evaluation(num_tasks=1_000, published=(_PROTONET[20, shots],), tasks={"ways": 20}),),
    )
