"""The twenty-minute recipes ask the question of their full recipes."""

import pytest

from innerloop.recipes import RECIPES

SHORT = sorted(name for name in RECIPES if name.endswith("-20min"))


@pytest.mark.parametrize("name", SHORT)
def test_it_is_judged_on_as_many_queries_as_the_full_recipe(name):
    short, full = RECIPES[name], RECIPES[name.removesuffix("-20min")]
    (evaluation,) = short.evaluations
    judged = {**short.task_options, **evaluation.tasks}
    for option in ("ways", "shots", "queries", "split", "rotations"):
        assert judged[option] == full.task_options[option], option
    assert evaluation.published == full.evaluations[0].published
    assert short.algorithm == full.algorithm and short.training["threads"] == 1


def test_there_is_one_of_every_method_asked_for():
    assert len(SHORT) == 17 and len({RECIPES[name].algorithm for name in SHORT}) == 16
