"""Omniglot 5-way 1-shot, at most five minutes on one core, by methods whose other recipes take longer: as on glyphs."""

from __future__ import annotations

import dataclasses

from innerloop.recipes import glyphs
from innerloop.recipes.recipe import Recipe

_METHODS = (
    "fomaml", "reptile", "anil", "boil", "meta_sgd", "mamlpp", "protonet", "cnp", "anp", "pfn", "pretrained",
    "multitask_average", "scratch",
)  # fmt: skip
_LONGER = 2  # than on glyphs


def _on_drawings(recipe: Recipe) -> Recipe:
    name = str(recipe.algorithm)
    steps = _LONGER * recipe.training["steps"]
    return dataclasses.replace(
        recipe,
        name=f"omniglot-5w1s-{name.replace('_', '-')}-5min",
        summary=f"Omniglot 5-way 1-shot, {name}, at most five minutes on one core.",
        source="this project: settings of the glyphs recipe, twice its steps; no published number at this budget",
        tasks="omniglot",
        task_options={**recipe.task_options, "split": "random", "rotations": True},
        training={**recipe.training, "steps": steps, "validate_every": max(1, steps // 4)},
    )


def recipes() -> list[Recipe]:
    """Without those of methods that have a recipe of a few minutes beside their full one."""
    return [_on_drawings(recipe) for recipe in glyphs.recipes() if recipe.algorithm in _METHODS]
