"""When a row is stale, and what a recipe's hash sees."""

import dataclasses

import pytest

from benchmarks.published.states import rank, state
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import Evaluation, definition, recipe_hash

RECIPE = RECIPES["glyphs-5w1s-" + "maml"]
ROW = {"commit": "0123456789", "recipe_hash": recipe_hash(RECIPE)}


def test_a_row_holds_while_its_recipe_and_its_commit_are_there():
    assert state(ROW, RECIPE, {"0123456789"}) == "" == state(ROW, RECIPE, None)


@pytest.mark.parametrize(
    ("row", "recipe", "said", "ranked"),
    [
        (ROW, None, "stale: there is no such recipe any more", 2),
        (ROW, dataclasses.replace(RECIPE, training={**RECIPE.training, "steps": 7}), "stale: the recipe has changed since", 2),
        ({**ROW, "commit": "aaaaaaaaaa"}, RECIPE, "stale: its commit is not part of this history", 2),
        ({**ROW, "commit": ""}, RECIPE, "stale: no commit recorded", 2),
        ({**ROW, "recipe_hash": ""}, RECIPE, "recipe hash not recorded", 1),
        ({**ROW, "commit": "0123456789+"}, RECIPE, "the source had uncommitted changes", 1),
    ],
)  # fmt: skip
def test_what_makes_a_row_stale_or_doubtful(row, recipe, said, ranked):
    found = state(row, recipe, {"0123456789"})
    assert found == said and rank(found) == ranked


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "other"},
        {"algorithm_options": {"inner_lr": 1.0}},
        {"task_options": {"ways": 3}},
        {"model_options": {"filters": 8}},
        {"training": {"steps": 1}},
        {"evaluations": (Evaluation(num_tasks=601),)},
        {"evaluations": (Evaluation(num_tasks=600, transductive=False),)},
        {"runner": "innerloop.recipes.lake_errors:run_hausdorff"},
    ],
)
def test_the_hash_sees_what_decides_numbers(changes):
    assert recipe_hash(dataclasses.replace(RECIPE, **changes)) != recipe_hash(RECIPE)


def test_the_hash_does_not_see_what_is_told_of_them():
    told = dataclasses.replace(
        RECIPE, name="x", summary="y", source="z", evaluations=(Evaluation(num_tasks=600, published=("99",)),)
    )
    assert recipe_hash(told) == recipe_hash(RECIPE)


def test_a_field_at_its_default_is_no_part_of_the_definition():
    assert "evaluations" not in definition(RECIPE) and "runner" not in definition(RECIPE)
    assert definition(RECIPE)["algorithm"] == RECIPE.algorithm


def test_the_code_that_a_recipe_names_counts_without_its_comments(tmp_path, monkeypatch):
    from innerloop.recipes import recipe as module

    def hashed(text: str) -> str:
        (tmp_path / "named.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        module._code.cache_clear()
        return module._code("named")

    first = hashed('"""Told."""\n\ndef f():\n    """Said."""\n    return 1\n')
    assert (
        hashed('# why\n"""Told\nanew."""\ndef f():\n    """Said\n    otherwise."""\n    # so\n    return 1\n') == first
    )
    assert hashed('"""Told."""\n\ndef f():\n    """Said."""\n    return 2\n') != first
