"""What stands beside a learner of curves from Gaussian processes: the exact posterior on the very same tasks."""

import functools

import pytest

import innerloop as il
from innerloop.recipes import RECIPES, exact_posterior
from innerloop.recipes.run_recipe import assemble_recipe

FEW = 4


@pytest.fixture(scope="module")
def judged():
    learner, family = assemble_recipe(RECIPES["gp-rbf-anp-deterministic-cpu"], 0)
    return learner, family.test


def values(rows):
    return [row["value"] for row in rows]


def test_the_gap_is_to_the_learner_on_the_same_tasks(judged):
    learner, tasks = judged
    rows = exact_posterior.beside_the_exact_posterior(learner, tasks, FEW, seed=1)
    reached = il.evaluate(learner, tasks, num_tasks=FEW, seed=1, metric="log_likelihood").mean
    exact, gap = values(rows)
    assert exact - gap == pytest.approx(reached, abs=2e-4)
    assert all(row["metric"].endswith(", test tasks of seed 1") for row in rows)
    older = exact_posterior.beside_the_exact_posterior(learner, tasks, FEW)
    assert values(older) != values(rows) and not any("seed" in row["metric"] for row in older)


def test_both_kernels_are_judged_on_fresh_tasks(judged, monkeypatch):
    learner, tasks = judged
    beside = functools.partial(exact_posterior.beside_the_exact_posterior, num_tasks=FEW)
    monkeypatch.setattr(exact_posterior, "beside_the_exact_posterior", beside)
    rows = exact_posterior.beside_both_on_fresh_tasks(learner, tasks)
    matern = il.tasks.gaussian_process(kernel="matern52").test
    assert values(rows) == values(beside(learner, tasks, seed=1)) + values(beside(learner, matern, seed=1))
    assert ["Matern" in row["metric"] for row in rows] == [False, False, True, True]
    assert tasks.kernel == "rbf", "the split itself is as it was"
