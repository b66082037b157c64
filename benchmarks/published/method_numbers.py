"""The numbers of one method on its page in docs/methods, made from the same rows as docs/results.md."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from benchmarks.marked_text import replaced
from benchmarks.published.notes import Notes
from benchmarks.published.page import BUILT_IN, beside, notes_in, one_table, setting_of, shown_of, unrecorded
from benchmarks.published.summary import Line, lines, rows_in
from innerloop.provenance import past_commits
from innerloop.recipes import RECIPES

BEGIN = "<!-- numbers from results: make results-page -->"
END = "<!-- end of the numbers -->"
_COLUMNS = ("command", "number", "published", "re-implementations", "ours", "outer steps", "budget", "remarks")


def _numbers(method: str, found: dict[str, list[Line]], notes: Notes) -> str:
    # What a built-in learner reaches is told of it, not of its method.
    recipes = [
        recipe
        for recipe in RECIPES.values()
        if recipe.algorithm == method and setting_of(recipe.name) not in ("", BUILT_IN)
    ]
    own = [(recipe, found[recipe.name]) for recipe in recipes if found.get(recipe.name)]
    shown = [s for recipe, its in own for s in shown_of(recipe, its)]
    unknown = unrecorded(line for _, its in own for line in its)
    missing = [f"`{recipe.name}`" for recipe in recipes if not found.get(recipe.name)]
    parts = [
        (beside(shown, notes) or one_table(shown, notes, _COLUMNS)) if shown else ["No row yet."],
        [unknown] if unknown else [],
        [f"Written down as recipes and not run yet: {', '.join(missing)}."] if missing else [],
    ]
    return "\n".join(line for part in parts if part for line in (*part, ""))


def rendered(pages: Path, folder: Path, known: Collection[str] | None = None) -> dict[Path, str]:
    """Each method's page with its numbers made anew.

    Args:
        pages: docs/methods; a page is named for its method.
        folder: results/.
        known: commits that today's state is built on; None: not known, and no row is stale for its commit.

    Raises:
        InputError: a page lacks the two marks between which its numbers stand.
    """
    found, notes = lines(rows_in(folder), RECIPES, known), notes_in(folder)
    return {
        page: replaced(page.read_text(encoding="utf-8"), BEGIN, END, _numbers(page.stem, found, notes), page)
        for page in sorted(pages.glob("*.md"))
    }


def update(pages: Path, folder: Path) -> None:
    """Write the methods' pages anew from the rows in ``folder``."""
    for page, text in rendered(pages, folder, past_commits()).items():
        page.write_text(text, encoding="utf-8")
