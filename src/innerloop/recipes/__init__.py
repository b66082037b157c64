"""Published settings by name. A recipe is data; `run` trains, evaluates and prints the published number beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.recipes import (
    faces,
    gaussian_processes,
    glyphs,
    lake,
    memory_methods,
    omniglot,
    omniglot_heads,
    omniglot_metric,
    omniglot_sequences,
    sine,
    tables,
)
from innerloop.recipes.recipe import Recipe

_FAMILIES = (
    sine,
    glyphs,
    omniglot,
    omniglot_heads,
    omniglot_metric,
    omniglot_sequences,
    memory_methods,
    lake,
    gaussian_processes,
    tables,
    faces,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in _FAMILIES for recipe in family.recipes()}


def run(
    name: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    quiet: bool = False,
    force: bool = False,
    results: str | Path | None = None,
) -> dict[str, Any]:
    """Run a recipe; see `recipes.run_recipe.run_recipe`."""
    from innerloop.recipes.run_recipe import run_recipe

    return run_recipe(name, seed=seed, out=out, quiet=quiet, force=force, results=results)
