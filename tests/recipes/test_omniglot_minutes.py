"""The twenty-minute recipes ask the question of their full recipes."""

import pytest

from innerloop.recipes import RECIPES

SHORT = sorted(name for name in RECIPES if name.startswith("omniglot-5w1s-") and name.endswith("-20min"))


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


def test_full_imaml_is_as_the_authors_code_and_the_short_ones_are_not():
    full = RECIPES["omniglot-5w1s-imaml"]
    assert full.model_options == {"spatial": "flatten", "init": "rajeswaran"}
    # With their lambda of 2 and damping 11 our equations, and so our meta-gradients' inverse, are theirs times six.
    ours, theirs = (1 + 11.0, 1 / 2.0), (1 + 1.0, 1 / (2.0 + 10.0))
    assert [a / b for a, b in zip(ours, theirs, strict=True)] == pytest.approx([6, 6])
    assert full.training["outer_optimizer_options"]["eps"] == pytest.approx(1e-3 / 6)
    assert full.algorithm_options == {
        "inner_lr": 0.1,
        "inner_steps": 16,
        "eval_strength": 0.0,
        "damping": 11.0,
    }
    for ending in ("-cpu", "-20min"):
        assert RECIPES[full.name + ending].model_options == {"filters": 32}
        assert "outer_optimizer_options" not in RECIPES[full.name + ending].training
