"""Where to look next: improvement, priors that fade, tables, and the choice by tasks left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innerloop import CheckpointError, InputError, hpo
from innerloop.data.search_tables import copula_scores
from innerloop.hpo.fitting import USUAL_FIRST, LeftOut, regret_of
from innerloop.hpo.past import joint_space, past_tasks
from innerloop.hpo.processes import fit_processes
from innerloop.hpo.search import KINDS, PORTFOLIO, Prior, Seen, acquisition, expected_improvement, mixture, on_table
from innerloop.hpo.transfer import FILE, Transfer, load


def valleys(centres, rows=80, seed=0):
    """A table of tasks, each with its least error at its centre, in its own scale."""
    random = np.random.default_rng(seed)
    x, z = random.random((2, len(centres) * rows))
    centre = np.repeat(np.asarray(centres, dtype=float), rows)
    scale = np.repeat([10.0**i for i in range(len(centres))], rows)
    names = np.repeat([f"task {i}" for i in range(len(centres))], rows)
    return {"task": names, "error": scale * (np.square(x - centre) + 0.05 * np.square(z - 0.5)), "x": x, "z": z}


@pytest.fixture(scope="module")
def tables():
    tasks = past_tasks(valleys((0.18, 0.2, 0.22, 0.2)), task="task", metric="error")
    space = joint_space(tasks)
    past = fit_processes(tasks, space)
    rows = [torch.as_tensor(space.rows(task.configs)) for task in tasks]
    return tasks, rows, past


def test_expected_improvement_is_the_mean_of_what_a_trial_gains():
    best, mean, deviation = (
        torch.tensor(0.3).double(),
        torch.tensor([0.1, 0.9]).double(),
        torch.tensor([0.5, 0.2]).double(),
    )
    drawn = (
        mean[:, None]
        + deviation[:, None] * torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0)).double()
    )
    found = expected_improvement(best, mean, deviation)
    assert torch.allclose(found, (best - drawn).clamp(min=0).mean(1), atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_of_a_table_tries_each_row_once_and_looks_at_no_other(kind, tables):
    tasks, rows, past = tables
    values = tasks[0].values
    others = past.only([1, 2, 3])
    tried = on_table(kind, others, rows[0], values, 12, np.random.default_rng(0))
    assert len(set(tried)) == 12
    hidden = np.where(np.isin(np.arange(len(values)), tried), values, values[::-1] * 7)
    assert on_table(kind, others, rows[0], hidden, 12, np.random.default_rng(0)) == tried
    assert sorted(on_table(kind, others, rows[0], values, 999, np.random.default_rng(0))) == list(range(80))


def test_ranks_alone_decide(tables):
    """So a metric's scale does not matter."""
    tasks, rows, past = tables
    values, others = tasks[0].values, past.only([1, 2, 3])
    first = on_table("tasks", others, rows[0], values, 10, np.random.default_rng(0))
    again = on_table("tasks", others, rows[0], np.exp(50 * values) - 3, 10, np.random.default_rng(0))
    assert again == first


def test_a_past_that_is_right_is_worth_many_trials(tables):
    tasks, rows, past = tables
    values, others = tasks[0].values, past.only([1, 2, 3])
    random = np.mean([regret_of(values, np.random.default_rng(s).permutation(80)[:12]) for s in range(200)], 0)
    for kind in set(KINDS) - {"cold"}:
        found = regret_of(values, on_table(kind, others, rows[0], values, 12, np.random.default_rng(0)))
        assert found[0] < 0.3 * random[0] and found[4] < 0.5 * random[4], kind
    assert regret_of(values, on_table("tasks", others, rows[0], values, 12, np.random.default_rng(0)))[4] < random[-1]


@pytest.mark.parametrize("kind", ["copula", "tasks"])
def test_a_past_that_is_wrong_fades(kind, tables):
    """Of a task whose good is the past's bad."""
    tasks, rows, past = tables
    values, others = -tasks[0].values, past.only([1, 2, 3])
    ours = regret_of(values, on_table(kind, others, rows[0], values, 20, np.random.default_rng(0)))
    cold = [
        regret_of(values, on_table("cold", None, rows[0], values, 20, np.random.default_rng(s)))[-1] for s in range(5)
    ]
    assert ours[0] > 1.0, "it misleads at first"
    assert ours[-1] <= np.mean(cold) + 1e-9
    tried = torch.arange(20)
    known = others.at(rows[0])
    z = torch.as_tensor(copula_scores(values[:20]))
    prior = Prior(known[tried], known, others.typical)
    wrong = mixture(prior, kind, others.typical, rows[0][tried], z, rows[0]).warm
    right = mixture(prior, kind, others.typical, rows[0][tried], -z, rows[0]).warm
    assert wrong < 0.1 < 0.9 < right


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cold"}))
def test_a_search_begins_with_the_portfolio_of_the_past(kind):
    """The configurations that together reach the best rank on each past task, whatever the first trials say."""
    random = np.random.default_rng(3)
    known = torch.as_tensor(random.normal(size=(60, 4)))
    rows = torch.as_tensor(random.random((60, 2)))
    past = Prior(known, known, torch.ones(2).double())
    ranks = torch.special.ndtr(known).numpy()
    best, wanted = np.ones(4), []
    for _ in range(PORTFOLIO):
        wanted.append(int(np.minimum(ranks, best).mean(1).argmin()))
        best = np.minimum(best, ranks[wanted[-1]])
    for values in (random.random(60), random.random(60)):
        tried: list[int] = []
        for _ in range(PORTFOLIO):
            prior = Prior(known[tried], known, past.typical)
            found = acquisition(kind, prior, Seen(rows[tried], values[tried]), rows)
            assert found is not None
            tried.append(int(found.argmax()))
        assert tried == wanted


def test_a_portfolio_counts_ranks_not_how_far_out_a_score_is():
    """Of a task that exaggerates: its best place far out is a rank of 0 like another's 3 deviations out."""
    good, far = [-2.0, -2.0, -2.0], [-30.0, 0.0, 0.0]
    prior = Prior(torch.zeros(0, 3).double(), torch.tensor([far, good]).double(), torch.ones(1).double())
    found = acquisition("tasks", prior, Seen(torch.zeros(0, 1).double(), np.zeros(0)), torch.zeros(2, 1).double())
    assert found is not None and int(found.argmax()) == 1


@pytest.mark.parametrize(("kind", "fewest"), [("tasks", 1), ("portfolio", 3)])
def test_a_portfolio_ends_where_no_configuration_adds_to_it(kind, fewest):
    """With one past task its best configuration is all of it."""
    known = torch.linspace(-2.0, 2.0, 9).double()[:, None]
    rows = torch.linspace(0.0, 1.0, 9).double()[:, None]
    values = np.linspace(0.0, 1.0, 9)
    for tried in ([0], [0, 1], [0, 1, 2]):
        left = [i for i in range(9) if i not in tried]
        prior = Prior(known[tried], known[left], torch.ones(1).double())
        found = acquisition(kind, prior, Seen(rows[tried], values[tried]), rows[left])
        assert found is not None
        by_rank = -torch.special.ndtr(known[left])[:, 0]
        assert torch.equal(found, by_rank) == (len(tried) < fewest)
        assert float(found.max()) > float(found.min()), "something tells them apart"


def test_what_is_under_way_is_not_tried_beside():
    """Of two places alike, the one beside a trial under way has less to give."""
    rows = torch.tensor([[0.4], [0.5], [0.6]]).double()
    asked = torch.tensor([[0.05], [0.95]]).double()
    values = np.array([1.0, 0.9, 1.0])
    alone = acquisition("cold", None, Seen(rows, values), asked)
    beside = acquisition("cold", None, Seen(torch.cat([rows, asked[:1] + 0.01]), values), asked)
    assert alone is not None and beside is not None
    assert float(alone[0]) == pytest.approx(float(alone[1]), rel=1e-6)
    assert float(beside[0]) < 0.5 * float(beside[1])


def test_infinite_values_are_the_worst(tables):
    _, rows, _ = tables
    seen = Seen(rows[0][:5], np.array([1.0, math.inf, 2.0, 3.0, 4.0]))
    found = acquisition("tasks", None, seen, rows[0][5:])
    assert found is not None and found.isfinite().all()


def test_the_choice_is_the_usual_one_unless_another_leads_clearly():
    usual = np.full((6, 3), 0.5)
    better, noisy = usual - 0.1, usual - np.array([0.9, -0.8, 0.9, -0.8, 0.9, -0.8])[:, None]
    by = dict.fromkeys(USUAL_FIRST, usual)
    assert LeftOut({}, []).best == LeftOut(by, [5]).best == "tasks"
    assert LeftOut({**by, "copula": better}, [5]).best == "copula"
    assert LeftOut({**by, "copula": noisy}, [5]).best == "tasks"
    assert LeftOut({**by, "random": better - 1}, [5]).best == "tasks", "random search is shown, not chosen"
    assert LeftOut({"portfolio": usual, "tasks": noisy}, [5]).best == "portfolio", "the first of those that were named"


def test_fit_tries_each_way_on_each_task(tmp_path):
    made = hpo.fit(valleys((0.2, 0.21, 0.19), rows=40), task="task", metric="error", out=tmp_path / "hpo")
    assert set(made.regret) == {*KINDS, "random"} and made.trials == [5, 10, 20]
    assert made.regret["tasks"][0] < 0.5 * made.regret["random"][0]
    assert made.kind in KINDS and str(made.kind) in repr(made)
    one = hpo.fit(valleys((0.2,)), task="task", metric="error")
    assert one.kind == "tasks" and one.regret == {} and "one task" in repr(one)
    assert hpo.fit(valleys((0.2, 0.3)), task="task", metric="error", kind="portfolio").kind == "portfolio"


def test_what_is_kept_comes_back(tmp_path):
    table = {
        "task": ["a"] * 4,
        "error": [1.0, 2.0, math.inf, 0.5],
        "rate": [0.1, None, 0.3, 0.4],
        "layers": [1, 2, 3, 4],
        "act": ["x", "y", None, "x"],
    }
    (task,) = past_tasks(table, task="task", metric="error")
    task.configs[0]["flag"], task.configs[1]["flag"], task.configs[2]["flag"] = (
        True,
        None,
        3,
    )  # as studies may have them
    made = Transfer([task], "copula", {"copula": [0.1]}, [5], 3, 1.5)
    again = load(made.save(tmp_path / "hpo"))
    assert again.tasks[0].configs == task.configs and again.tasks[0].values.tolist() == task.values.tolist()
    assert [type(v) for v in again.tasks[0].configs[0].values()] and again.tasks[0].configs[0]["flag"] is True
    assert type(again.tasks[0].configs[0]["layers"]) is int and again.tasks[0].parameters == task.parameters
    assert (again.kind, again.regret, again.trials, again.seed) == ("copula", {"copula": [0.1]}, [5], 3)
    with pytest.raises(InputError, match="force=True"):
        hpo.fit(valleys((0.2,)), task="task", metric="error", out=tmp_path / "hpo")
    hpo.fit(valleys((0.2,)), task="task", metric="error", out=tmp_path / "hpo", force=True)
    assert load(tmp_path / "hpo").tasks[0].name == "task 0"


def test_a_damaged_file_or_none_is_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CheckpointError, match="fit past studies first"):
            load(place)
    hpo.fit(valleys((0.2,), rows=5), task="task", metric="error", out=tmp_path)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-9] + b"\x00" + data[-8:])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)
    assert b"pickle" not in data and data[8:9] == b"{"
