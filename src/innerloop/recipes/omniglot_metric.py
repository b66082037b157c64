"""Omniglot N-way K-shot by methods that compare: matching, relation and siamese networks, full and for one CPU core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))
_MATCHING = {(5, 1): "98.1", (5, 5): "98.9", (20, 1): "93.8", (20, 5): "98.5"}
_RELATION = {(5, 1): "99.6±0.2", (5, 5): "99.8±0.1", (20, 1): "97.6±0.2", (20, 5): "99.1±0.1"}
_SIAMESE = {(5, 1): "97.3", (5, 5): "98.4", (20, 1): "88.2", (20, 5): "97.0"}
# Queries a class in the relation networks' training, by the authors' commands.
_RELATION_QUERIES = {(5, 1): 19, (5, 5): 15, (20, 1): 10, (20, 5): 5}
_POOLED = {"outputs": None, "downsample": "max_pool"}
_FINN = "as reported by Finn et al. 2017, arXiv:1703.03400, table 1 (published)"


def _recipes(
    algorithm: str,
    ways: int,
    shots: int,
    published: str,
    source: str,
    *,
    tasks: Mapping[str, Any],
    training: Mapping[str, Any],
    cheap: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] = _POOLED,
) -> list[Recipe]:
    """The full recipe and the one for a core; in both turned characters are classes of their own in training."""
    recipe = Recipe(
        name=f"omniglot-{ways}w{shots}s-{algorithm}",
        summary=f"Omniglot {ways}-way {shots}-shot, {algorithm}.",
        source=source,
        algorithm=algorithm,
        tasks="omniglot",
        algorithm_options=options or {},
        task_options={"split": "random", "ways": ways, "shots": shots, "queries": 15, "rotations": True, **tasks},
        model="conv4",
        model_options=model,
        training={"num_tasks": 1, "outer_lr": 1e-3, "valid_tasks": 100, **training},
        evaluations=(Evaluation(num_tasks=1_000, published=(published,)),),
    )
    full, cut = with_cpu(recipe, schedule="cosine", valid_tasks=50, **cheap)
    return [full, _shorter(cut)]


def _shorter(recipe: Recipe) -> Recipe:
    """600 test tasks of 5 queries a class: on one core the evaluation must not take longer than the training."""
    import dataclasses

    evaluation = dataclasses.replace(recipe.evaluations[0], num_tasks=600)
    return dataclasses.replace(recipe, evaluations=(evaluation,), task_options={**recipe.task_options, "queries": 5})


def recipes() -> list[Recipe]:
    found: list[Recipe] = []
    for ways, shots in SETTINGS:
        found += _recipes(
            "matching",
            ways,
            shots,
            _MATCHING[ways, shots],
            f"Vinyals et al. 2016, arXiv:1606.04080, {_FINN}; the outer loop is ours",
            options={"scale": 10.0},
            tasks={"train_ways": 20, "train_queries": 5},
            training={"steps": 30_000, "schedule": "halving"},
            cheap={"steps": 300, "outer_lr": 1e-2, "validate_every": 100},
        )
        found += _recipes(
            "relation",
            ways,
            shots,
            _RELATION[ways, shots],
            "Sung et al. 2018, arXiv:1711.06025, table 2 (5-way published*, 20-way recalled, check)",
            tasks={"train_queries": _RELATION_QUERIES[ways, shots]},
            training={"steps": 500_000, "clip_norm": 0.5, "validate_every": 5_000},
            cheap={"steps": 300, "outer_lr": 3e-3, "validate_every": 100},
            model={**_POOLED, "halvings": 2, "spatial": "map"},
        )
        found += _recipes(
            "siamese",
            ways,
            shots,
            _SIAMESE[ways, shots],
            f"Koch et al. 2015, {_FINN}; network and outer loop are ours",
            options={"pairs": 1_024},
            tasks={"train_ways": 20, "train_queries": 5},
            training={"steps": 30_000, "schedule": "halving"},
            cheap={"steps": 300, "outer_lr": 1e-2, "validate_every": 100},
        )
    return found
