"""Parameters as a study declares them, and configurations as rows of numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from innerloop.data.search_tables import copula_scores
from innerloop.hpo.candidates import candidates, identity
from innerloop.hpo.space import Parameter, Space

DISTRIBUTIONS = [
    FloatDistribution(-2.0, 3.0),
    FloatDistribution(1e-5, 1e-1, log=True),
    FloatDistribution(0.0, 1.0, step=0.25),
    IntDistribution(1, 8),
    IntDistribution(1, 1024, log=True),
    IntDistribution(0, 9, step=3),
    CategoricalDistribution(["a", "b", None, True, 3]),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_a_parameter_is_what_the_study_declares(distribution):
    own = Parameter.of(distribution)
    assert own.distribution() == distribution
    assert Parameter.from_dict(own.to_dict()) == own
    seen = [own.at(unit) for unit in np.linspace(0, 1, 101)]
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in seen)
    if own.kind == "categorical":
        assert {repr(v) for v in seen} == {repr(c) for c in own.choices}
    else:
        assert seen == sorted(seen) and seen[0] == own.low and seen[-1] == pytest.approx(own.high)
        assert all(type(v) is (int if own.kind == "int" else float) for v in seen)


def test_numbers_count_by_their_logarithm_where_the_study_says_so():
    log, plain = Parameter("float", 1e-4, 1.0, log=True), Parameter("float", 1e-4, 1.0)
    assert log.unit(1e-2) == pytest.approx(0.5) and plain.unit(1e-2) == pytest.approx(0.0099, abs=1e-4)
    assert log.unit(0.0) is None and log.unit("x") is None and log.unit(math.nan) is None
    assert log.unit(10.0) == pytest.approx(1.25), "beyond the range"


def test_all_whole_numbers_are_equally_likely():
    own = Parameter("int", 1, 4)
    drawn = [own.at(u) for u in np.linspace(0, 1, 4001)]
    assert np.bincount(drawn)[1:] == pytest.approx([1000] * 4, abs=2)


def test_values_of_a_past_table_are_known_in_other_types():
    own = Parameter("categorical", choices=(1, 2, "relu", True, None))
    assert own.nearest("2") == 2 and own.nearest(1.0) == 1 and own.nearest("relu") == "relu"
    assert own.choice("True") == 3 and own.choice(None) == 4 and own.choice("None") == 4
    assert own.choice("tanh") is None and own.place("tanh") is None
    assert Parameter("categorical", choices=(False, True)).choice(1.0) == 1
    assert Parameter("int", 1, 8).nearest("3.2") == 3 and Parameter("int", 1, 8).nearest(99.0) == 8
    assert Parameter("float", 0, 1).nearest("relu") is None


def test_rows_have_the_middle_for_what_is_missing():
    space = Space(
        {"a": Parameter("float", 0, 2), "k": Parameter("categorical", choices=("x", "y"))}, optional=frozenset({"k"})
    )
    rows = space.rows([{"a": 2.0, "k": "x"}, {"a": 0.0}, {"k": "y"}, {"a": 1.0, "k": "z"}])
    half, part = math.sqrt(0.5), math.sqrt(0.5) / 2
    assert space.owners == ["a", "k", "k", "k"]
    assert rows == pytest.approx(
        np.array([[1, half, 0, 1], [0, part, part, 0], [0.5, 0, half, 1], [0.5, part, part, 0]])
    )


def test_scores_are_ranks():
    values = np.array([3.0, -1.0, 3.0, 1e9, math.inf])
    found = copula_scores(values)
    assert found[0] == found[2] and list(np.argsort(found)) == [1, 0, 2, 3, 4] and np.isfinite(found).all()
    assert copula_scores(1000 * values - 7) == pytest.approx(found)
    assert copula_scores(np.random.default_rng(0).random(501)).mean() == pytest.approx(0, abs=1e-9)
    assert copula_scores(np.array([1.0, 1.0, 2.0])) == pytest.approx([-0.43073, -0.43073, 0.96742], abs=1e-4)
    assert copula_scores(np.arange(4.0)) == pytest.approx([-1.15035, -0.31864, 0.31864, 1.15035], abs=1e-4)


def test_candidates_lie_in_the_space_and_are_different():
    space = Space(
        {"a": Parameter("float", 0, 1), "n": Parameter("int", 1, 3), "m": Parameter("float", 0, 1)}, frozenset({"m"})
    )
    patterns = [{"a": 0.5, "n": 1}, {"a": 0.5, "n": 1, "m": 0.1}]
    found = candidates(space, patterns, [{"a": 0.5, "n": 3}], [], np.random.default_rng(0))
    assert len({identity(c) for c in found}) == len(found) > 300
    assert all(space.parameters[n].has(v) for c in found for n, v in c.items())
    assert {frozenset(c) for c in found} == set(map(frozenset, patterns))
    assert min(abs(c["a"] - 0.5) for c in found if c["n"] == 3 and "m" not in c) < 0.01


def test_conditional_parameters_go_with_the_choices_that_trials_had_them_with():
    space = Space(
        {
            "kernel": Parameter("categorical", choices=("rbf", "linear", "poly")),
            "c": Parameter("float", 1, 100, log=True),
            "gamma": Parameter("float", 0, 1),
            "degree": Parameter("int", 2, 4),
        },
        frozenset({"gamma", "degree"}),
    )
    finished = [
        {"kernel": "rbf", "c": 1.0, "gamma": 0.5},
        {"kernel": "linear", "c": 2.0},
        {"kernel": "poly", "c": 3.0, "gamma": 0.1, "degree": 3},
    ]
    found = candidates(space, finished, finished, [], np.random.default_rng(0))
    had = {"rbf": {"gamma"}, "linear": set(), "poly": {"gamma", "degree"}}
    assert {c["kernel"] for c in found} == set(had)
    assert all(set(c) - {"kernel", "c"} == had[c["kernel"]] for c in found)
