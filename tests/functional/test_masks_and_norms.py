"""Padding, batch norm's policies, dropout and inner mini-batches: what happens inside one task."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.engine import take
from innerloop.objectives import losses

pytestmark = pytest.mark.usefixtures("double")


def net(**options) -> nn.Module:
    torch.manual_seed(2)
    return il.models.mlp(3, 2, hidden=(4,), activation="tanh", **options)


def tasks(num_tasks: int = 3, support: int = 5, query: int = 4, masked: bool = False) -> Task:
    generator = torch.Generator().manual_seed(1)
    sides = []
    for count in (support, query):
        x = torch.randn(num_tasks, count, 3, generator=generator)
        y = torch.randint(0, 2, (num_tasks, count), generator=generator)
        sides.append(Examples(x, y, torch.ones(num_tasks, count, dtype=torch.bool) if masked else None))
    return Task(*sides, noise=keys.task_keys(0, "test", 0, 0, num_tasks))


def padded(batch: Task, rows: int = 3) -> Task:
    """The same tasks with rows of nonsense behind, which the mask takes out."""

    def side(examples: Examples) -> Examples:
        tasks, count = examples.y.shape
        x = torch.cat([examples.x, 1e3 * torch.ones(tasks, rows, 3)], 1)
        y = torch.cat([examples.y, torch.ones(tasks, rows, dtype=torch.int64)], 1)
        return Examples(x, y, (torch.arange(count + rows) < count).expand(tasks, -1))

    return dataclasses.replace(batch, support=side(batch.support), query=side(batch.query))


def numbers(learner, batch: Task) -> dict[str, torch.Tensor]:
    found = dict(learner.backward(batch))
    found |= {name: p.grad for name, p in learner.named_parameters()}
    found |= {f"buffer {name}": b.clone() for name, b in learner.named_buffers()}
    found["predictions"] = learner.predict_queries(batch)[:, :4]
    return found


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("make", [il.maml, il.mamlpp, il.reptile, il.pretrained], ids=lambda f: f.__name__)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_padding_changes_nothing(make, batch_norm, strategy):
    options = {"inner_batch": None, "inner_optimizer": "sgd", "inductive": False} if make is il.reptile else {}
    found = []
    for batch in (tasks(), padded(tasks())):
        learner = make(net(batch_norm=batch_norm), inner_lr=0.1, inner_steps=3, **options)
        learner.strategy = strategy
        found.append(numbers(learner, batch))
    plain, with_padding = found
    for name, value in plain.items():
        assert torch.allclose(with_padding[name], value, rtol=1e-10, atol=1e-13), name


def test_padding_does_not_change_an_evaluation():
    learner = il.maml(net(batch_norm=True), inner_lr=0.1)
    from innerloop.evaluation.evaluate import task_metrics

    values = []
    for batch in (tasks(), padded(tasks())):
        values.append(task_metrics(["accuracy"], learner.predict_queries(batch), batch)["accuracy"])
    assert torch.equal(*values)


def normalised(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)


class NormOnly(nn.Module):
    """A scale, then batch norm: small enough to follow by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(2, 1)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.tensor([0.5, -0.5]))  # type: ignore[union-attr]
            self.norm.running_var.copy_(torch.tensor([4.0, 9.0]))  # type: ignore[union-attr]

    def forward(self, x):
        return self.head(self.norm(x))


def regression(num_tasks: int = 2) -> Task:
    generator = torch.Generator().manual_seed(4)
    sides = [
        Examples(
            3 + 2 * torch.randn(num_tasks, n, 2, generator=generator), torch.randn(num_tasks, n, 1, generator=generator)
        )
        for n in (6, 5)
    ]
    return Task(*sides)


def policy_learner(policy: str, **options) -> il.MetaLearner:
    torch.manual_seed(0)
    return il.maml(NormOnly(), batch_norm=policy, inner_lr=0.0, inner_steps=2, **options)


@pytest.mark.parametrize("policy", ["batch", "frozen", "none", "running", "per_step"])
def test_batch_norm_policies_in_evaluation(policy):
    learner, batch = policy_learner(policy), regression()
    x = batch.query.x[0]
    expected = {
        "batch": normalised(x),
        "frozen": (x - torch.tensor([0.5, -0.5])) / torch.sqrt(torch.tensor([4.0, 9.0]) + 1e-5),
        "none": x,
        "running": x / (1 + 1e-5) ** 0.5,  # nothing recorded yet: mean 0, variance 1
        "per_step": x / (1 + 1e-5) ** 0.5,
    }[policy]
    with torch.no_grad():
        expected = learner.model.head(expected)
    assert torch.allclose(learner.predict_queries(batch)[0], expected, rtol=1e-12, atol=1e-12)
    assert learner.transductive == (policy == "batch") == learner.mixes_examples


@pytest.mark.parametrize("policy", ["batch", "running", "per_step"])
def test_batch_norm_in_meta_training_uses_the_examples_at_hand(policy):
    learner, batch = policy_learner(policy), regression()
    loss = learner.backward(batch)["loss"]
    with torch.no_grad():
        each = [
            losses.mse(learner.model.head(normalised(x)), y) for x, y in zip(batch.query.x, batch.query.y, strict=True)
        ]
    assert loss.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-12)


def test_statistics_of_each_step_by_hand():
    """Rows 0 and 1 saw the support set once, row 2 the query set; each row averages over tasks and moves by a tenth."""
    learner, batch = policy_learner("per_step"), regression()
    learner.backward(batch)
    mean, var = learner.model.norm.running_mean, learner.model.norm.running_var
    assert mean.shape == (3, 2)
    for row, side in enumerate((batch.support, batch.support, batch.query)):
        assert torch.allclose(mean[row], 0.1 * side.x.mean((0, 1)), rtol=1e-12)
        assert torch.allclose(var[row], 0.9 + 0.1 * side.x.var(1).mean(0), rtol=1e-12)  # unbiased, as torch keeps it
    # Evaluation after two steps reads row 2.
    x = batch.query.x[0]
    with torch.no_grad():
        expected = learner.model.head((x - mean[2]) / torch.sqrt(var[2] + 1e-5))
    assert torch.allclose(learner.predict_queries(batch)[0], expected, rtol=1e-12)
    # More steps than were trained read the last row.
    assert torch.equal(learner.predict_queries(batch, steps=7), learner.predict_queries(batch, steps=2))


def test_running_statistics_see_all_passes():
    learner, batch = policy_learner("running"), regression(1)
    learner.backward(batch)
    expected = torch.zeros(2)
    for side in (batch.support, batch.support, batch.query):
        expected = expected + 0.1 * (side.x[0].mean(0) - expected)
    assert torch.allclose(learner.model.norm.running_mean[0], expected, rtol=1e-12)


def test_frozen_statistics_are_the_modules_and_stay():
    learner = policy_learner("frozen")
    learner.backward(regression())
    assert learner.model.norm.running_mean.tolist() == [[0.5, -0.5]]


def test_scales_of_each_step_belong_to_it():
    """MAML++: after i inner steps the i-th scale is used; the model's own is that of step 0."""
    learner = il.mamlpp(NormOnly(), inner_lr=0.0, inner_steps=2, per_step_statistics=False, learned_rates=False)
    batch = regression()
    with torch.no_grad():
        learner.rule["per_step/norm|weight"].copy_(torch.tensor([[2.0, 2.0], [3.0, 3.0]]))
    path = learner.trajectory(batch, 3)
    z = normalised(batch.query.x[0])
    with torch.no_grad():
        for step, scale in enumerate((1.0, 2.0, 3.0, 3.0)):
            assert torch.allclose(path[step, 0], learner.model.head(scale * z), rtol=1e-12)


# ---- dropout -------------------------------------------------------------------------------------------------------
def with_dropout(layer: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 8), layer or nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2))


def test_dropout_is_the_same_in_every_strategy_and_chunk():
    found = []
    for strategy, chunk in (("looped", None), ("vmapped", None), ("vmapped", 1), ("vmapped", 2)):
        torch.manual_seed(len(found))  # torch's generator must not matter
        learner = il.maml(with_dropout(), inner_lr=0.1, inner_steps=3)
        learner.strategy, learner.chunk_size = strategy, chunk
        found.append(numbers(learner, tasks()))
    for other in found[1:]:
        for name, value in found[0].items():
            assert torch.allclose(other[name], value, rtol=1e-11, atol=1e-14), name


def test_dropout_drops_in_meta_training_only():
    learner = il.maml(with_dropout(), inner_lr=0.1)
    learner.strategy = "vmapped"  # the third call might measure another one as faster
    batch = tasks()
    first = learner.backward(batch)["loss"]
    other = learner.backward(dataclasses.replace(batch, noise=keys.task_keys(1, "test", 0, 0, 3)))["loss"]
    assert first != other and first == learner.backward(batch)["loss"]
    steady = il.maml(with_dropout(nn.Identity()), inner_lr=0.1)
    assert torch.allclose(learner.predict_queries(batch), steady.predict_queries(batch), rtol=1e-12)


def test_dropout_keeps_the_mean_and_its_share():
    from innerloop.functional import context
    from innerloop.functional.dropout import Dropout

    layer, x = Dropout(0.3, 1, per_channel=False), torch.ones(200, 200)
    with context.running(context.Call(training=True, noise=torch.tensor(5))):
        y = layer(x)
        channels = Dropout(0.3, 1, per_channel=True)(torch.ones(50, 20, 4, 4))
    assert (y == 0).double().mean() == pytest.approx(0.3, abs=0.01) and y.mean() == pytest.approx(1, abs=0.02)
    assert ((channels == 0).flatten(2).sum(-1) % 16 == 0).all() and (channels == 0).any()
    assert torch.equal(layer(x), x)  # outside of a call: evaluation


def test_two_dropout_layers_differ():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(3, 2))
    learner = il.maml(model)
    layers = [m for m in learner.model.modules() if type(m).__name__ == "Dropout"]
    assert [m.index for m in layers] == [1, 2]  # type: ignore[attr-defined]


# ---- inner mini-batches --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_inner_batches_are_without_replacement(size):
    learner = il.reptile(net(), inner_batch=size, inner_steps=10).learner
    task = take(tasks(support=5), 0)
    task = dataclasses.replace(task, support=Examples(torch.arange(5.0)[:, None].expand(5, 3), task.support.y))
    seen = torch.cat([learner.batch(task, i).x[:, 0] for i in range(5)]).long().tolist()
    passes = [seen[i : i + 5] for i in range(0, len(seen), 5)]
    assert len(passes) == size and all(sorted(p) == [0, 1, 2, 3, 4] for p in passes)
    assert size == 1 or passes[0] != passes[1], "each pass has an order of its own"
    labels = torch.cat([learner.batch(task, i).y for i in range(5)])
    assert torch.equal(labels, task.support.y[seen])


def test_inner_batches_at_least_as_large_as_the_support_set_are_the_support_set():
    task = take(tasks(support=5), 0)
    for size in (5, 9, None):
        assert il.reptile(net(), inner_batch=size).learner.batch(task, 3) is task.support


def test_inner_batches_differ_between_tasks():
    learner, batch = il.reptile(net(), inner_batch=2).learner, tasks(8, support=5)
    x = torch.arange(5.0)[:, None].expand(5, 3)
    rows = {
        tuple(
            learner.batch(dataclasses.replace(take(batch, i), support=Examples(x, batch.support.y[i])), 0)
            .x[:, 0]
            .tolist()
        )
        for i in range(8)
    }
    assert len(rows) > 3


def test_the_model_is_called_purely():
    """`apply` leaves the module as it is and depends on what it is given alone."""
    learner = il.maml(net(batch_norm=True))
    x = torch.randn(4, 3)
    params = {name: torch.zeros_like(p) for name, p in learner.meta().params.items()}
    out, _ = learner.pure.apply(params, {}, x)
    assert not out.any() and isinstance(learner.meta(), Meta)
    assert learner.pure.apply(learner.meta().params, {}, x)[0].any()
