"""Training runs as tasks: functions of their keys, data there once, rows that no run trains on, wrong arguments told."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.data import TensorDataset

import innerloop as il
from innerloop import keys as random_keys
from innerloop.errors import ConfigError, InputError, ShapeError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


X, Y = torch.arange(60.0).reshape(20, 3), torch.arange(20) % 2


def jobs(*args, **options):
    return il.tasks.training_jobs(*(args or (net, (X, Y))), **{"batch": 4, "horizon": 6, "queries": 5, **options})


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True))


@pytest.mark.parametrize("family", [jobs(horizon=(3, 9)), il.tasks.quadratic_jobs(dim=3)], ids=["jobs", "quadratics"])
def test_runs_are_functions_of_their_keys(family):
    keys = random_keys.task_keys(0, "train", 0, 0, 6)
    torch.manual_seed(3)
    whole = family.train.from_keys(keys)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))  # torch's own generator is left as it was
    for rows in (slice(0, 1), slice(2, 5)):
        assert same(family.train.from_keys(keys[rows]), pytree.tree_map(lambda v, r=rows: v[r], whole))
    weights = next(iter(whole.support.weights.values())).flatten(1)
    assert len(torch.unique(weights, dim=0)) == 6
    for step, drawn in zip(range(3), family.train.batches(2, seed=5), strict=False):
        assert same(drawn, family.train.at(5, step, 2))
    assert not same(family.valid.at(0, 0, 2), family.test.at(0, 0, 2))


def test_the_first_weights_are_what_the_network_draws():
    key = int(random_keys.task_keys(0, "train", 0, 0, 1)[0])
    task = jobs().train.from_keys(torch.tensor([key]))
    torch.manual_seed(int(random_keys.fold(torch.tensor(key), 2)))
    for name, p in net().named_parameters():
        assert torch.equal(task.support.weights[name][0], p)


def test_data_stand_there_once_and_held_out_rows_are_never_trained_on():
    family = jobs(held_out=0.3)
    task = family.train.at(0, 0, 3)
    assert task.shared is family.train.data and task.shared is family.test.at(0, 0, 2).shared
    assert sorted(task.shared.x[:, 0].tolist()) == X[:, 0].tolist()
    held = {float(v) for v in task.shared.x[14:, 0]}
    objective, seen = task.objective, set()
    for j in range(3):
        one = pytree.tree_map(lambda v, j=j: v[j], task)
        for step in range(40):
            batch = objective.examples_at(one, step)
            assert batch.x.shape == (4, 3)
            seen |= {float(v) for v in batch.x[:, 0]}
        assert {float(v) for v in objective.data(one.query, task.shared).x[:, 0]} <= held
    assert not seen & held and len(seen) == 14
    assert torch.equal(objective.examples_at(one, 7).x, objective.examples_at(one, torch.tensor(7)).x)
    assert not torch.equal(objective.examples_at(one, 7).x, objective.examples_at(one, 8).x)


def test_horizons_lie_between_and_held_out_runs_have_the_most():
    family = jobs(horizon=(3, 30))
    steps = family.train.at(0, 0, 200).support.steps
    assert int(steps.min()) >= 3 and int(steps.max()) <= 30 and len(steps.unique()) > 10
    assert int((steps < 10).sum()) > 70  # log-uniform: half of them are below the geometric mean, 9.5
    assert family.test.at(0, 0, 4).support.steps.tolist() == [30] * 4


def test_data_of_other_kinds():
    as_set = il.tasks.training_jobs(net, TensorDataset(X, Y), batch=4, horizon=6)
    assert torch.equal(as_set.train.data.x, jobs().train.data.x) and as_set.train.data.y.dtype == torch.int64
    pictures = il.tasks.training_jobs("mlp", (torch.full((8, 1, 2, 2), 255, dtype=torch.uint8), Y[:8]), batch=4)
    assert float(pictures.train.data.x.max()) == 1.0
    assert pictures.train.at(0, 0, 1).support.weights["head.weight"].shape == (1, 2, 40)
    own = il.tasks.training_jobs(
        lambda: nn.Linear(2, 1),
        lambda keys: il.Examples(random_keys.normal(keys, (5, 2)), random_keys.normal(keys, (5, 1), 1)),
        batch=None,
        horizon=4,
    )
    assert own.train.at(0, 0, 3).support.examples.x.shape == (3, 5, 2)
    assert "accuracy" in jobs().train.metrics and "accuracy" not in own.train.metrics


def test_each_network_may_have_pictures_of_its_own_size(monkeypatch):
    def pictures(size):
        return il.Examples(torch.rand(20, 1, size, size, generator=torch.Generator().manual_seed(size)), Y)

    monkeypatch.setattr("innerloop.tasks.training_runs.jobs.mnist_training_examples", pictures)
    small = {"name": "mlp", "hidden": [3]}
    family = jobs([small, "mlp", small], "mnist", size=[2, 5, 2])
    for step, (width, inputs) in enumerate([(3, 4), (40, 25), (3, 4), (3, 4)]):
        task = family.train.at(0, step, 2)
        assert next(iter(task.support.weights.values())).shape[1:] == (width, inputs)
        assert task.shared.x.shape[-1] ** 2 == inputs
    assert family.train.at(0, 0, 1).shared is family.train.at(0, 2, 1).shared  # there once
    assert family.test.at(0, 0, 4, 4).shared.x.shape[-1] == 5 and family.options["size"] == [2, 5, 2]


def test_a_quadratic_is_the_papers():
    task = il.tasks.quadratic_jobs(dim=4).train.at(0, 0, 1)
    one = pytree.tree_map(lambda v: v[0], task)
    theta, w, y = one.support.weights["theta"], one.support.examples.x, one.support.examples.y
    objective = task.objective
    found = objective.loss(lambda x, mask=None: objective.network({"theta": theta}, {}, x, None), one.support.examples)
    assert float(found) == pytest.approx(float((w @ theta - y).square().sum()), rel=1e-6)


def test_dropout_is_drawn_while_training_and_not_when_judged():
    family = jobs(lambda: nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 2)), (X, Y))
    task = family.train.at(0, 0, 1)
    weights = {name: p[0] for name, p in task.support.weights.items()}
    network = task.objective.network
    one, other = (network(weights, {}, X, torch.tensor(key)) for key in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(network(weights, {}, X, None), network(weights, {}, X, None))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: jobs(horizon=0), ConfigError, "horizon"),
        (lambda: jobs(horizon=(9, 3)), ConfigError, "turn them round"),
        (lambda: jobs(batch=None), ConfigError, "batch=128"),
        (lambda: jobs(held_out=1.0), ConfigError, "held_out"),
        (lambda: jobs(net(), (X, Y)), ConfigError, "drawn already"),
        (lambda: jobs(lambda n: net(), (X, Y)), ConfigError, "needs n"),
        (lambda: jobs([], (X, Y)), ConfigError, "at least one"),
        (lambda: jobs(lambda: nn.Linear(5, 2), (X, Y)), ConfigError, "cannot take the data"),
        (lambda: jobs(lambda: nn.Flatten(), (X, Y)), ConfigError, "no parameters"),
        (lambda: jobs(net, (X, Y[:5])), ShapeError, "equally many"),
        (lambda: jobs(net, "minst"), ConfigError, "did you mean 'mnist'"),
        (lambda: jobs(net, 3), InputError, "got int"),
        (lambda: jobs([net, net], "mnist", size=[8]), ConfigError, "each of 2 networks"),
        (lambda: jobs(net, (X, Y), size=8), ConfigError, "data='mnist'"),
        (lambda: jobs(net, (X, torch.rand(20))), ShapeError, "equal shapes"),
        (lambda: jobs(net, lambda keys: X, batch=None), InputError, "il.Examples"),
        (lambda: il.tasks.quadratic_jobs(dim=0), ConfigError, "dim"),
    ],
)
def test_what_cannot_be_is_told(call, error, said):
    with pytest.raises(error, match=said):
        call()
