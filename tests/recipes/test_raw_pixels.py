"""The accuracy that comparing pixels alone gives, counted by hand on a few tasks."""

import pytest

import innerloop as il
from innerloop.recipes import RECIPES, raw_pixels


def test_each_query_takes_the_label_of_the_nearest_picture(monkeypatch):
    monkeypatch.setattr(raw_pixels, "_NUM_TASKS", 4)
    (row,) = raw_pixels.run_glyphs()
    tasks = il.tasks.glyphs(ways=5, shots=1, queries=5).test.at(0, 0, 4)
    right = 0
    for t in range(4):
        for x, y in zip(tasks.query.x[t], tasks.query.y[t], strict=True):
            nearest = min(range(5), key=lambda i: float((tasks.support.x[t, i] - x).square().sum()))
            right += int(tasks.support.y[t, nearest] == y)
    assert row["value"] == pytest.approx(100 * right / tasks.query.y.numel()) and row["num_tasks"] == 4


@pytest.mark.parametrize("problem", ["omniglot", "glyphs"])
def test_the_tasks_are_those_that_the_methods_are_tested_on(problem):
    other = RECIPES["omniglot-5w1s-matching-cpu" if problem == "omniglot" else "glyphs-5w1s-matching"]
    own = RECIPES[f"{problem}-5w1s-pixels"].task_options
    assert {key: other.task_options.get(key, own[key]) for key in own} == own
