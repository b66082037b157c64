"""Published settings by name. A recipe is data; `run` trains, evaluates and prints the published number beside ours."""

from __future__ import annotations

import importlib
from typing import Any

from innerloop.recipes import (
    agents,
    architectures,
    builtin_learners,
    characters,
    class_streams,
    deep_kernels,
    faces,
    gaussian_processes,
    glyphs,
    lake,
    learned_optimizers,
    lifelong,
    molecules,
    navigation,
    omniglot,
    omniglot_minutes,
    own_characters,
    own_new_classes,
    raw_pixels,
    road,
    score_models,
    searches,
    short,
    shots,
    sine,
    tables,
    trained_networks,
)
from innerloop.recipes.recipe import Recipe

_FAMILIES = (
    sine,
    glyphs,
    omniglot,
    omniglot_minutes,
    raw_pixels,
    lake,
    gaussian_processes,
    deep_kernels,
    tables,
    molecules,
    shots,
    faces,
    own_new_classes,
    own_characters,
    trained_networks,
    characters,
    class_streams,
    lifelong,
    road,
    learned_optimizers,
    architectures,
    searches,
    score_models,
    agents,
    navigation,
    short,
    builtin_learners,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in _FAMILIES for recipe in family.recipes()}


def run(name: str, **settings: Any) -> dict[str, Any]:
    """Run a recipe; arguments as those of `recipes.run_recipe.run_recipe`."""
    # By its name: that file looks recipes up here.
    return importlib.import_module("innerloop.recipes.run_recipe").run_recipe(name, **settings)
