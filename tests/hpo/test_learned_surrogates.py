"""Methods of this library as surrogates: what they learn of past tasks, and searches that use them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from test_hpo_search import valleys

from innerloop import ConfigError, hpo
from innerloop.data.search_tables import copula_scores
from innerloop.hpo import fitting, learned_surrogates, sampler
from innerloop.hpo.learned_surrogates import Learned, train, untrained
from innerloop.hpo.past import joint_space, past_tasks
from innerloop.hpo.processes import fit_processes
from innerloop.hpo.search import on_table

LEARNED = ("anp", "dkt", "pfn")


@pytest.fixture(scope="module")
def past():
    tasks = past_tasks(valleys((0.3, 0.35, 0.25, 0.3, 0.28)), task="task", metric="error")
    return tasks, joint_space(tasks)


@pytest.fixture(scope="module")
def surrogates(past):
    tasks, space = past
    return {name: train(name, tasks[1:], space, steps=60 if name == "dkt" else 12) for name in LEARNED}


def test_it_orders_configurations_of_a_new_task(past, surrogates):
    """From ten of its trials, where a kernel that was never trained does worse."""
    tasks, space = past
    rows, z = torch.as_tensor(space.rows(tasks[0].configs)), torch.as_tensor(copula_scores(tasks[0].values))
    told = torch.as_tensor(copula_scores(tasks[0].values[:10]))

    def right(of):
        mean, variance = of.believed(rows[:10], told, rows[10:])
        assert mean.shape == variance.shape == (70,) and mean.dtype == variance.dtype == torch.float64
        assert bool((variance > 0).all())
        return float(torch.corrcoef(torch.stack([mean, z[10:]]))[0, 1])

    trained, before = right(surrogates["dkt"]), right(Learned(untrained("dkt", rows.shape[1])))
    assert trained > 0.8 and trained > before + 0.05


def test_level_and_spread_of_the_scores_are_those_of_the_trials(past, surrogates):
    tasks, space = past
    rows = torch.as_tensor(space.rows(tasks[0].configs))
    z = torch.as_tensor(copula_scores(tasks[0].values[:10]))
    mean, variance = surrogates["dkt"].believed(rows[:10], z, rows[10:])
    moved, wider = surrogates["dkt"].believed(rows[:10], 3 * z + 50, rows[10:])
    assert torch.allclose(moved, 3 * mean + 50, atol=1e-3) and torch.allclose(wider, 9 * variance, rtol=1e-3)


def test_the_same_seed_is_the_same_surrogate_and_leaves_other_draws_alone(past, surrogates):
    tasks, space = past
    rows = torch.as_tensor(space.rows(tasks[0].configs))
    z = torch.linspace(-1, 1, 6).double()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    again = train("pfn", tasks[1:], space, steps=12)
    assert torch.equal(torch.rand(3), expected)
    first, second = surrogates["pfn"].believed(rows[:6], z, rows), again.believed(rows[:6], z, rows)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    other = train("pfn", tasks[1:], space, seed=1, steps=12).believed(rows[:6], z, rows)
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("name", LEARNED)
def test_a_search_tries_each_row_once_and_looks_at_no_other(name, past, surrogates):
    tasks, space = past
    rows, values = torch.as_tensor(space.rows(tasks[0].configs)), tasks[0].values
    processes = fit_processes(tasks[1:], space)
    asked = []

    def learned():
        asked.append(1)
        return surrogates[name]

    tried = on_table(name, processes, rows, values, 9, np.random.default_rng(0), None, learned)
    assert len(set(tried)) == 9 and asked, "the surrogate had a say"
    hidden = np.where(np.isin(np.arange(len(values)), tried), values, values[::-1] * 7)
    assert on_table(name, processes, rows, hidden, 9, np.random.default_rng(0), None, learned) == tried


def test_fit_takes_one_by_name_or_chooses_among_those_that_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "train", functools.partial(train, steps=2))
    table = valleys((0.2, 0.21, 0.19), rows=25)
    alone = hpo.fit(table, task="task", metric="error", kind="dkt", out=tmp_path / "hpo")
    assert alone.kind == hpo.load(tmp_path / "hpo").kind == "dkt" and alone.regret == {}
    both = hpo.fit(table, task="task", metric="error", kind=("portfolio", "dkt"))
    assert list(both.regret) == ["portfolio", "dkt", "random"] and both.kind in ("portfolio", "dkt")
    assert hpo.fit(table, task="task", metric="error", kind="auto").kind not in LEARNED


@pytest.mark.parametrize(
    ("kind", "says"),
    [("maml", "predicts a distribution"), ("dtk", "did you mean 'dkt'"), ((), "got none"), (["tasks", "x"], "'x'")],
)
def test_what_is_no_surrogate_is_one_line(kind, says):
    with pytest.raises(ConfigError, match=says):
        hpo.fit(valleys((0.2, 0.3)), task="task", metric="error", kind=kind)


def test_a_study_is_searched_with_it_and_goes_on_with_the_same_suggestions(past_db, monkeypatch):
    import optuna
    from small_search import objective

    made = hpo.fit(past_db, kind="dkt")

    def study(trials):
        found = optuna.create_study(sampler=hpo.TransferSampler(made, seed=0))
        found.optimize(objective(0.1), n_trials=trials)
        return found

    monkeypatch.setattr(sampler, "train", functools.partial(train, steps=12))
    whole, begun = study(8), study(7)
    begun.sampler = hpo.TransferSampler(made, seed=0)  # another process has trained nothing yet
    begun.optimize(objective(0.1), n_trials=1)
    assert [t.params for t in begun.trials] == [t.params for t in whole.trials]
    assert len({str(t.params) for t in whole.trials}) == 8


@pytest.mark.parametrize("sizes", [(3,), (3, 60), (12, 200)])
def test_tasks_of_any_size_are_learned_from(sizes):
    """A task of three trials does not keep the others from showing many."""
    generator = np.random.default_rng(0)
    tables = [(torch.rand(n, 2), np.random.default_rng(n).normal(size=n)) for n in sizes]
    seen = [learned_surrogates._batch(tables, generator) for _ in range(60)]
    shown = {one.support.y.shape[1] for one in seen}
    assert max(shown) <= min(40, max(sizes) // 2) and all(one.query.y.shape[1] >= 1 for one in seen)
    assert max(shown) >= 0.8 * min(40, max(sizes) // 2)
    for one in seen:
        assert float(one.support.y.mean(1).abs().max()) < 1e-5, "scores in units of those shown"
        rows = torch.cat([one.support.x, one.query.x], 1)[0]
        assert len(rows.unique(dim=0)) == len(rows), "no trial is shown and asked for"
