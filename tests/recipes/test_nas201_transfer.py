"""The searches on NAS-Bench-201's table: they look at nothing that they have not tried, and at sources only where shown."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from innerloop.data import architecture_tables
from innerloop.data.architecture_tables import OPERATIONS, ArchitectureTable, reachable
from innerloop.recipes import nas201_transfer as searches

TRIALS = 5


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """All cells, with errors that add up over edges, each data set's on a scale of its own."""
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    names = ("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(OPERATIONS[o] for o in row)) for row in cells)
    generator = np.random.default_rng(0)
    good = np.array([4.0, 1.0, 0.5, 0.0, 2.0])[reachable(cells)] @ np.array([1.0, 2, 1, 3, 1, 2])
    errors = {
        name: low + scale * (good + 0.5 * generator.normal(size=len(cells)))
        for name, low, scale in (("ImageNet16-120", 50, 0.5), ("cifar10", 5, 0.3), ("cifar100", 30, 1.0))
    }
    made = ArchitectureTable(tuple(names), cells, errors)
    monkeypatch.setattr(architecture_tables, "load_nas201", lambda: made)
    return made


@pytest.mark.parametrize("name", sorted(set(searches.SEARCHES) - {"evolution, 5 alive", "evolution, 8 alive"}))
def test_a_search_sees_what_it_has_tried_and_nothing_else(name):
    problem = searches.problems(0)["cifar100"]
    search = searches.SEARCHES[name]
    tried = search(problem, TRIALS, np.random.default_rng(1))
    assert len(set(tried)) == len(tried) == TRIALS
    hidden = np.ones(len(problem.errors), dtype=bool)
    hidden[tried] = False
    other = problem.errors.copy()
    other[hidden] = np.random.default_rng(2).uniform(-100, 200, hidden.sum())
    assert search(problem._replace(errors=other), TRIALS, np.random.default_rng(1)) == tried


def test_a_search_that_learns_heeds_what_it_has_tried():
    problem = searches.problems(0)["cifar100"]
    for name, heeds in (("transfer", True), ("gp", True), ("evolution, 3 alive", True), ("sources alone", False)):
        search = searches.SEARCHES[name]
        tried = search(problem, TRIALS, np.random.default_rng(1))
        other = search(problem._replace(errors=-problem.errors), TRIALS, np.random.default_rng(1))
        assert (other != tried) == heeds, name


def test_a_problem_knows_of_the_sources_what_is_shown(table):
    for target, problem in searches.problems(3).items():
        assert problem.errors is table.errors[target]
        assert len(problem.shown) == len(problem.scores) == 2 * searches.SHOWN
        sources = [name for name in searches._ORDER if name != target]
        for name, rows, scores in zip(sources, np.split(problem.shown, 2), np.split(problem.scores, 2), strict=True):
            assert np.array_equal(np.argsort(scores), np.argsort(table.errors[name][rows]))
        assert np.array_equal(problem.unique[problem.place], reachable(problem.cells))
    first, second = (searches.problems(draw)["cifar10"].shown for draw in (0, 1))
    assert not np.array_equal(first, second)


def test_what_the_sources_show_helps():
    problems = [searches.problems(draw)["cifar100"] for draw in range(3)]
    found = {
        name: np.mean(
            [
                p.errors[searches.SEARCHES[name](p, TRIALS, np.random.default_rng(i))].min()
                for i, p in enumerate(problems)
            ]
        )
        for name in ("transfer", "random")
    }
    assert found["transfer"] < found["random"] - 2


def test_quantiles_share_ranks():
    assert searches.quantiles(np.array([3.0, 1.0, 2.0, 2.0])).tolist() == pytest.approx(
        [1.1503, -1.1503, 0.0, 0.0], abs=1e-4
    )


def test_expected_improvement_is_the_integral():
    drawn = 0.4 + 0.7 * torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best, mean, deviation = (torch.tensor(v, dtype=torch.float64) for v in (0.1, 0.4, 0.7))
    wanted = (best - drawn).clamp(min=0).mean()
    assert float(searches.improvement(best, mean, deviation)) == pytest.approx(float(wanted), rel=1e-2)


def test_the_process_is_likelier_than_where_it_began():
    from innerloop.functional.gaussian_process import observe

    problem = searches.problems(0)["cifar10"]
    cells, scores = torch.as_tensor(problem.unique[problem.place[problem.shown]]), torch.as_tensor(problem.scores)
    begin = searches.Process(
        torch.full((6,), searches._LENGTH, dtype=torch.float64),
        torch.tensor(searches._SCALE, dtype=torch.float64),
        torch.tensor(searches._NOISE, dtype=torch.float64),
    )
    fitted = searches.likeliest(cells, scores)

    def likelihood(process):
        return float(observe(process.between(cells, cells), process.noise, scores[:, None]).log_likelihood())

    assert likelihood(fitted) > likelihood(begin) + 1
    # Edge 0-3 counts most in this table, 0-1 least: the shorter the length, the more.
    assert fitted.length[3] < fitted.length[0]


def test_curves_and_rows(monkeypatch):
    made = {"transfer": np.array([[3.0, 1], [2, 2]]), "random": np.array([[4.0, 3], [9, 3]])}
    monkeypatch.setattr(searches, "curves", lambda: {"cifar10": made})
    rows = {row["metric"].partition("cifar10: ")[2]: (row["value"], row["ci95"]) for row in searches.rows()}
    assert rows["transfer"][0] == 1.5 and rows["random"] == (3.0, 0.0)
    assert rows["random less transfer, draw by draw"] == (1.5, pytest.approx(0.98))
