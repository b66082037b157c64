"""Published settings by name. A recipe is data; `run` trains, evaluates and prints the published number beside ours."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from innerloop.recipes import (
    faces,
    gaussian_processes,
    glyphs,
    implicit,
    lake,
    memory_methods,
    omniglot,
    omniglot_heads,
    omniglot_metric,
    omniglot_protonet,
    omniglot_sequences,
    omniglot_short,
    omniglot_twenty,
    own_characters,
    own_new_classes,
    raw_pixels,
    short,
    sine,
    tables,
)
from innerloop.recipes.recipe import Recipe

_FAMILIES = (
    sine,
    glyphs,
    omniglot,
    omniglot_protonet,
    omniglot_heads,
    omniglot_metric,
    omniglot_sequences,
    omniglot_short,
    implicit,
    memory_methods,
    omniglot_twenty,
    raw_pixels,
    lake,
    gaussian_processes,
    tables,
    faces,
    own_new_classes,
    own_characters,
    short,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in _FAMILIES for recipe in family.recipes()}


def run(
    name: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    quiet: bool = False,
    force: bool = False,
    resume: bool = False,
    device: str | None = None,
    minutes: float | None = None,
    results: str | Path | None = None,
) -> dict[str, Any]:
    """Run a recipe; see `recipes.run_recipe.run_recipe`."""
    # By its name: that file looks recipes up here.
    return importlib.import_module("innerloop.recipes.run_recipe").run_recipe(
        name,
        seed=seed,
        out=out,
        quiet=quiet,
        force=force,
        resume=resume,
        device=device,
        minutes=minutes,
        results=results,
    )
