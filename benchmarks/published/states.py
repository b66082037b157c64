"""Whether a row still says what its recipe would give today."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from innerloop.recipes.recipe import Recipe, recipe_hash

CURRENT = ""
NOT_RECORDED = "recipe hash not recorded"
UNCOMMITTED = "the source had uncommitted changes"


def state(row: Mapping[str, str], recipe: Recipe | None, past_commits: Collection[str] | None) -> str:
    """Why a row may not hold, "" where it does: "stale: ..." where something has changed since.

    A recipe is what decides a number, and its hash tells a change of it. Of the other code only this much is known: a commit
    that today's state is not built on has been given up.

    Args:
        row: of a results file.
        recipe: of the row's name, as it is now; None: there is none any more.
        past_commits: those that today's state is built on; None: not known here.
    """
    if recipe is None:
        return "stale: there is no such recipe any more"
    if row["recipe_hash"] and row["recipe_hash"] != recipe_hash(recipe):
        return "stale: the recipe has changed since"
    commit = row["commit"].removesuffix("+")
    if not commit:
        return "stale: no commit recorded"
    if past_commits is not None and commit not in past_commits:
        return "stale: its commit is not part of this history"
    if not row["recipe_hash"]:
        return NOT_RECORDED
    return UNCOMMITTED if row["commit"].endswith("+") else CURRENT


def rank(said: str) -> int:
    """0 for a row that holds, 1 for one that is in doubt, 2 for a stale one."""
    return 0 if said == CURRENT else 2 if said.startswith("stale") else 1
