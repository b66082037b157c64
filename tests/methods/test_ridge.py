"""The ridge head against the normal equations in numpy, both ways of solving them; padding; frozen embeddings."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.errors import ConfigError, ShapeError
from innerloop.methods.r2d2 import ridge_weights, total_ridge_weights

pytestmark = pytest.mark.usefixtures("double")


def drawn(ways: int, shots: int, queries: int = 2, num_tasks: int = 3, seed: int = 0) -> Task:
    """Noise around a random centre of each class, in 4 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_tasks, ways, 4, generator=generator)

    def side(each: int) -> Examples:
        y = torch.arange(ways).repeat(each).expand(num_tasks, -1).contiguous()
        x = centres.gather(1, y[..., None].expand(-1, -1, 4))
        return Examples(x + 0.3 * torch.randn(x.shape, generator=generator), y)

    return Task(side(shots), side(queries))


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))


def normal_equations(z: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """(X'X / n + ridge I) W = X'y / n, with a column of ones in X: solved as it stands, whatever the sizes."""
    x = np.hstack([z, np.ones((len(z), 1))])
    return np.linalg.solve(x.T @ x / len(x) + ridge * np.eye(x.shape[1]), x.T @ y / len(x))


@pytest.mark.parametrize("examples", [3, 5, 6, 7, 40])  # 5 features and a bias: six rows
@pytest.mark.parametrize("ridge", [1e-4, 0.7, 50.0])
def test_weights_solve_the_normal_equations(examples, ridge):
    numbers = np.random.default_rng(examples)
    z, y = numbers.normal(size=(examples, 5)), numbers.normal(size=(examples, 2))
    found = ridge_weights(torch.tensor(z), torch.tensor(y), torch.tensor(ridge))
    np.testing.assert_allclose(found.numpy(), normal_equations(z, y, ridge), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shots", [1, 6])  # fewer support examples than features, and more
@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_predictions_and_the_gradient_are_those_of_the_formula(shots, strategy):
    task, model = drawn(3, shots), net()
    learner = il.r2d2(model, ridge=0.3, scale=4.0)
    learner.strategy = strategy
    own = {"log_ridge": math.log(0.3), "logit_scale": 4.0, "logit_bias": 0.0}
    log_ridge, scale, bias = (torch.tensor(v, requires_grad=True) for v in own.values())
    losses = []
    for i in range(3):
        z, q = model(task.support.x[i]), model(task.query.x[i])
        z, q = (torch.cat([v, torch.ones(len(v), 1)], 1) for v in (z, q))
        hot = nn.functional.one_hot(task.support.y[i], 3).double()
        w = torch.inverse(z.T @ z / len(z) + log_ridge.exp() * torch.eye(6)) @ z.T @ hot / len(z)
        logits = scale * q @ w + bias
        assert torch.allclose(learner.predict_queries(task)[i], logits, rtol=1e-9, atol=1e-10)
        losses.append(nn.functional.cross_entropy(logits, task.query.y[i]))
    loss = torch.stack(losses).mean()
    # The bias is the same for all classes, which cross-entropy does not see: its gradient is 0.
    expected = torch.autograd.grad(loss, [*model.parameters(), log_ridge, scale, bias])
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(loss.detach()), rel=1e-10)
    names = dict(learner.named_parameters())
    found = [p.grad for n, p in names.items() if n.startswith("model.")] + [names[f"rule.{n}"].grad for n in own]
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-7, atol=1e-10)
    assert abs(float(found[-3])) > 1e-4 and abs(float(found[-2])) > 1e-4


def test_values_are_regressed_as_they_are():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 9, 4, generator=generator), torch.randn(2, 9, 3, generator=generator)
    task = Task(Examples(x[:, :7], y[:, :7]), Examples(x[:, 7:], y[:, 7:]))
    model = net()
    learner = il.r2d2(model, ridge=0.05, scale=9.0)
    predictions = learner.predict_queries(task)
    with torch.no_grad():
        z = model(x).numpy()
    for i in range(2):
        w = normal_equations(z[i, :7], y[i, :7].numpy(), 0.05)
        np.testing.assert_allclose(predictions[i].numpy(), np.hstack([z[i, 7:], np.ones((2, 1))]) @ w, rtol=1e-8)
    mse = float(np.square(predictions.numpy() - y[:, 7:].numpy()).mean())
    assert float(learner.backward(task)["loss"]) == pytest.approx(mse)
    fitted = learner.adapt(x[0, :7], y[0, :7])
    assert torch.allclose(fitted.predict(x[0, 7:]), predictions[0]) and fitted.classes_ is None


@pytest.mark.parametrize("regression", [False, True])
def test_padding_has_exactly_no_influence(regression):
    task = drawn(3, 2, num_tasks=2)
    if regression:
        sides = (Examples(side.x, torch.sin(side.x[..., :2])) for side in (task.support, task.query))
        task = Task(*sides)

    def padded(x_fill: float, y_fill: int) -> Task:
        sides = []
        for side in (task.support, task.query):
            x = torch.cat([side.x, torch.full_like(side.x[:, :4], x_fill)], 1)
            y = torch.cat([side.y, torch.full_like(side.y[:, :4], y_fill)], 1)
            sides.append(Examples(x, y, torch.arange(x.shape[1]).expand(2, -1) < side.x.shape[1]))
        ids = None if regression else torch.arange(4).expand(2, -1)  # a fourth class, without any example
        return Task(*sides, class_ids=ids)

    found = []
    for tasks in (padded(0.0, 0), padded(900.0, 3)):
        learner = il.r2d2(net())
        learner.backward(tasks)
        found.append([learner.predict_queries(tasks)[:, :6], *(p.grad for p in learner.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    plain = il.r2d2(net())
    plain.backward(task)
    ways = 2 if regression else 3
    assert torch.allclose(found[0][0][..., :ways], plain.predict_queries(task), rtol=1e-10, atol=1e-12)
    assert regression or bool((found[0][0][..., 3] == -torch.inf).all())
    for p, g in zip(plain.parameters(), found[0][1:], strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-9, atol=1e-12)


def test_before_the_first_step_all_classes_are_alike():
    logits = il.r2d2(net()).predict_queries(drawn(3, 2), steps=0)
    assert torch.equal(logits, torch.zeros_like(logits))


def test_a_fully_frozen_embedding_still_learns_its_penalty_and_scale():
    model = net()
    for p in model.parameters():
        p.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    learner = il.r2d2(model, ridge=20.0, scale=1.0)
    trained = [p for p in learner.parameters() if p.requires_grad]
    assert len(trained) == 3
    optimizer = torch.optim.Adam(trained, 0.1)
    losses = []
    for step in range(40):
        metrics = learner.backward(drawn(3, 2, num_tasks=8, seed=step))
        losses.append(float(metrics["loss"]))
        optimizer.step()
        optimizer.zero_grad()
    assert all(p.grad is None for n, p in learner.named_parameters() if n.startswith("model."))
    assert all(torch.equal(v, before[n]) for n, v in learner.model.state_dict().items())
    rule = {name: float(p.detach()) for name, p in learner.rule_by_name().items()}
    assert math.exp(rule["log_ridge"]) < 2 and rule["logit_scale"] > 1.5
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_frozen_body_with_a_trainable_last_layer():
    body = net()
    for p in body.parameters():
        p.requires_grad_(False)
    model = nn.Sequential(body, nn.Linear(5, 8))
    for make in (il.r2d2, il.protonet):
        learner = make(model)
        frozen = {n: p.clone() for n, p in learner.named_parameters() if not p.requires_grad}
        assert len(frozen) == 4
        optimizer = torch.optim.SGD(learner.parameters(), 0.1, weight_decay=0.1)
        for step in range(3):
            learner.backward(drawn(3, 2, seed=step))
            optimizer.step()
        now = dict(learner.named_parameters())
        assert all(torch.equal(now[n], p) for n, p in frozen.items())
        assert not torch.equal(now["model.1.weight"], model[1].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": 0.0}, "ridge expected a finite number above 0, got 0.0"),
        ({"ridge": float("nan")}, "ridge expected a finite number above 0"),
        ({"ridge": "much"}, "ridge expected a finite number"),
        ({"scale": float("inf")}, "scale expected a finite number, got inf"),
        ({"loss": "binary_cross_entropy"}, "loss expected one for logits .* got 'binary_cross_entropy'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(il.ConfigError, match=message):
        il.r2d2(net(), **options)


def test_bad_tasks():
    task = drawn(3, 2)
    unseen = dataclasses.replace(task, query=Examples(task.query.x, task.query.y + 1))
    with pytest.raises(il.InputError, match="got none of class 3 in task 0"):
        il.r2d2(net()).backward(unseen)
    deep = torch.zeros(3, 6, 2, 2)
    with pytest.raises(il.ShapeError, match=r"one row of values an example, .* got \(3, 6, 2, 2\)"):
        il.r2d2(net()).backward(Task(Examples(task.support.x, deep), Examples(task.query.x, deep)))


@pytest.mark.parametrize("shots", [2, 9])
def test_a_prior_is_what_the_ridge_draws_towards(shots):
    """(Z'Z / n + ridge I) (W - W0) = Z'(y - Z W0) / n; no example yet: W0 itself. Differences from zero are the paper's."""
    numbers = np.random.default_rng(shots)
    z, y, asked = numbers.normal(size=(shots, 4)), numbers.normal(size=(shots, 2)), numbers.normal(size=(3, 4))
    same = nn.Linear(4, 4, bias=False)
    same.weight.data.copy_(torch.eye(4))
    learner = il.r2d2(same, ridge=0.7, prior=2)
    before = numbers.normal(size=(5, 2))
    learner.rule_by_name()["prior"].data.copy_(torch.tensor(before))
    ones = np.hstack([asked, np.ones((3, 1))])
    start = before + normal_equations(z, y - np.hstack([z, np.ones((shots, 1))]) @ before, 0.7)
    fitted = learner.adapt(torch.tensor(z), torch.tensor(y))
    np.testing.assert_allclose(fitted.outputs(torch.tensor(asked)).numpy(), ones @ start, rtol=1e-8)
    none = learner.adapt(torch.tensor(z), torch.tensor(y), steps=0)
    np.testing.assert_allclose(none.outputs(torch.tensor(asked)).numpy(), ones @ before, rtol=1e-8)


def test_a_prior_is_learned_and_comes_back_from_a_file(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 4, generator=generator), torch.randn(2, 5, 1, generator=generator)
    learner = il.r2d2(net(), prior=1)
    learner.backward(Task(Examples(x, y), Examples(x + 1, y)))
    assert learner.rule_by_name()["prior"].grad.abs().sum() > 0
    fitted = learner.adapt(x[0], y[0])
    again = il.load(fitted.save(tmp_path / "task"), model=net())
    assert torch.equal(again.outputs(x[1]), fitted.outputs(x[1]))


def test_a_prior_needs_values_and_a_model_of_known_inputs():
    with pytest.raises(ShapeError, match="got labels"):
        il.r2d2(net(), prior=1).backward(drawn(3, 2))
    x, y = torch.randn(1, 5, 4), torch.randn(1, 5, 2)
    with pytest.raises(ShapeError, match="got 2 numbers"):
        il.r2d2(net(), prior=1).backward(Task(Examples(x, y), Examples(x, y)))
    with pytest.raises(ConfigError, match="prior expected"):
        il.r2d2(net(), prior=-1)
    assert "prior" not in il.r2d2(net()).options  # as in files of before


def total_equations(z: np.ndarray, y: np.ndarray, ridge: float, known: np.ndarray | None) -> np.ndarray:
    """(X'X + ridge P) W = X'y + ridge P known: without known, P is the identity but for a zero at the bias."""
    x, rows = np.hstack([z, np.ones((len(z), 1))]), z.shape[1] + 1
    on = np.eye(rows)
    if known is None:
        on[-1, -1] = 0.0
        known = np.zeros((rows, y.shape[1]))
    return np.linalg.solve(x.T @ x + ridge * on, x.T @ y + ridge * on @ known)


@pytest.mark.parametrize("drawn_towards", [False, True])
@pytest.mark.parametrize("examples", [1, 3, 5, 6, 40])
def test_the_total_penalty_solves_its_own_equations_whatever_the_padding(examples, drawn_towards):
    numbers = np.random.default_rng(examples)
    z, y = numbers.normal(size=(examples, 5)), 3.0 + numbers.normal(size=(examples, 2))
    known = numbers.normal(size=(6, 2)) if drawn_towards else None
    expected = total_equations(z, y, 0.7, known)
    given = [torch.tensor(0.7), None, None if known is None else torch.tensor(known)]
    found = total_ridge_weights(torch.tensor(z), torch.tensor(y), *given)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)
    padded = [torch.tensor(np.vstack([v, np.full((3, v.shape[1]), 900.0)])) for v in (z, y)]
    given[1] = torch.arange(examples + 3) < examples
    np.testing.assert_allclose(total_ridge_weights(*padded, *given).numpy(), expected, rtol=1e-8, atol=1e-10)


def test_with_the_total_penalty_more_data_outweigh_it():
    """A line through x, shown ever more often: the error of the mean penalty stays, that of the total one falls as 1 / n."""
    errors = {}
    for penalty in ("mean", "total"):
        line = nn.Linear(1, 1, bias=False)
        nn.init.ones_(line.weight)
        learner = il.r2d2(line, ridge=1.0, penalty=penalty)
        for n in (10, 1000):
            x = torch.linspace(-1, 1, n)[:, None]
            errors[penalty, n] = float((learner.adapt(x, 5 + 2 * x).predict(x) - 5 - 2 * x).abs().max())
    assert errors["mean", 1000] > 0.9 * errors["mean", 10] > 1
    assert errors["total", 1000] < 0.01 < errors["total", 10]


def test_tasks_of_unequal_sizes_get_the_total_penalty_where_nobody_says():
    from innerloop.assemble import assemble

    sizes = {"ways": 2, "shots": 4, "queries": 4}
    unequal, _ = assemble("r2d2", "synthetic_tables", "mlp", task_options={**sizes, "fewest_shots": 2})
    equal, _ = assemble("r2d2", "synthetic_tables", "mlp", task_options=sizes)
    asked, _ = assemble(
        "r2d2",
        "synthetic_tables",
        "mlp",
        task_options={**sizes, "fewest_shots": 2},
        algorithm_options={"penalty": "mean"},
    )
    assert [learner.learner.penalty for learner in (unequal, equal, asked)] == ["total", "mean", "mean"]
    assert unequal.options["penalty"] == "total" and "penalty" not in equal.options


def test_a_wrong_penalty():
    with pytest.raises(ConfigError, match="penalty expected one of mean, total, got 'sum'"):
        il.r2d2(net(), penalty="sum")
