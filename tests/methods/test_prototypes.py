"""Prototypes, logits and gradients against plain formulas; classes that come and go between tasks; padding."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_tasks import drawn, net, padded
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = pytest.mark.usefixtures("double")


class Scaled(nn.Module):
    """The embedding ``scale * x``; with a scale of 1 the inputs themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def points() -> Task:
    """Two classes at (0, 0), (2, 0) and (0, 4), (0, 8): their means are (1, 0) and (0, 6)."""
    x = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 8.0]]])
    query = torch.tensor([[[1.0, 1.0], [0.0, 5.0]]])
    return Task(Examples(x, torch.tensor([[0, 0, 1, 1]])), Examples(query, torch.tensor([[0, 1]])))


def by_hand(model: nn.Module, task: Task) -> torch.Tensor:
    """The mean query loss over tasks, class by class and query by query."""
    losses = []
    for sx, sy, qx, qy in zip(task.support.x, task.support.y, task.query.x, task.query.y, strict=True):
        z = model(torch.cat([sx, qx]))  # together, as the authors' code
        s, q = z[: len(sx)], z[len(sx) :]
        classes = sorted(set(sy.tolist()))
        means = [torch.stack([s[i] for i in range(len(sy)) if sy[i] == c]).mean(0) for c in classes]
        for j in range(len(qx)):
            scores = torch.stack([-((q[j] - mean) ** 2).sum() for mean in means])
            losses.append((torch.logsumexp(scores, 0) - scores[classes.index(int(qy[j]))]) / len(qx))
    return torch.stack(losses).sum() / len(task.support.x)


def test_prototypes_and_logits_of_four_points():
    learner = il.protonet(Scaled())
    logits = learner.predict_queries(points())
    # (1, 1) is 1 from (1, 0) and 1 + 25 from (0, 6); (0, 5) is 1 + 25 from (1, 0) and 1 from (0, 6).
    assert torch.allclose(logits, torch.tensor([[[-1.0, -26.0], [-26.0, -1.0]]]))
    task = points()
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    assert torch.allclose(fitted.fast.prototypes, torch.tensor([[1.0, 0.0], [0.0, 6.0]]))
    assert fitted.fast.counts.tolist() == [2, 2]
    assert float(fitted.predict_proba(task.query.x[0])[0, 1]) == pytest.approx(1 / (1 + math.exp(25)))
    metrics = learner.backward(points())
    assert float(metrics["loss"]) == pytest.approx(math.log1p(math.exp(-25))) and float(metrics["accuracy"]) == 1


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_gradient_is_that_of_the_formula(strategy, batch_norm):
    task, model = drawn(ways=4, shots=3, queries=2), net(batch_norm)
    learner = il.protonet(model)
    learner.strategy = strategy
    loss = by_hand(model.train(), task)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    loss = loss.detach()
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(loss), rel=1e-12)
    for p, g in zip(learner.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-12)
    assert max(float(g.abs().max()) for g in expected) > 1e-2


def test_batch_norm_keeps_running_statistics_and_evaluation_is_not_transductive():
    task, model = drawn(ways=3, shots=2, queries=2, num_tasks=1), net(batch_norm=True)
    learner = il.protonet(model)
    learner.backward(task)
    model.train()(torch.cat([task.support.x[0], task.query.x[0]]))
    for name in ("running_mean", "running_var"):
        assert torch.allclose(learner.model.get_buffer(f"1.{name}")[0], model.get_buffer(f"1.{name}"))
    assert not learner.transductive
    q = task.query
    alone = dataclasses.replace(task, query=Examples(q.x[:, :1], q.y[:, :1]))
    assert torch.allclose(learner.predict_queries(alone)[0, 0], learner.predict_queries(task)[0, 0])
    z = model.eval()(torch.cat([task.support.x[0], task.query.x[0]]))
    means = torch.stack([z[:6][task.support.y[0] == c].mean(0) for c in range(3)])
    assert torch.allclose(learner.predict_queries(task)[0], -torch.cdist(z[6:], means).square())


def test_other_numbers_of_classes_than_in_training():
    learner = il.protonet(net())
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    for step in range(30):
        learner.backward(drawn(ways=20, shots=1, queries=2, num_tasks=4, seed=step, nuisance=2.0))
        optimizer.step()
        optimizer.zero_grad()
    for ways in (5, 26):
        test = drawn(ways, shots=5, queries=5, num_tasks=20, seed=100, nuisance=2.0)
        logits = learner.predict_queries(test)
        assert logits.shape == (20, 5 * ways, ways)
        before = il.protonet(net()).predict_queries(test)
        right, unlearned = ((p.argmax(-1) == test.query.y).double().mean() for p in (logits, before))
        assert right > unlearned + 0.05 and right > 2 / ways
    names = [f"letter {i:02d}" for i in range(26)]
    fitted = learner.adapt(test.support.x[0], [names[i] for i in test.support.y[0].tolist()])
    assert fitted.classes_ == names and fitted.predict_proba(test.query.x[0]).shape == (130, 26)
    with pytest.raises(il.InputError, match="at least two classes, got one"):
        learner.adapt(test.support.x[0, :1], ["only"])


def test_a_fitted_with_more_classes_comes_back_from_its_file(tmp_path):
    model = il.models.mlp(4, None, hidden=(6, 3))
    test = drawn(7, shots=2, queries=1)
    fitted = il.protonet(model).adapt(test.support.x[0], test.support.y[0])
    again = il.load(fitted.save(tmp_path / "task.il"))
    assert torch.equal(again.outputs(test.query.x[0]), fitted.outputs(test.query.x[0]))
    assert again.fast.prototypes.shape == (7, 3) and again.fast.step == 1


def test_the_support_set_is_looked_at_once():
    learner, test = il.protonet(net()), drawn(3, 2, 2)
    path = learner.trajectory(test, 3)
    assert torch.equal(path[1], path[3]) and torch.equal(path[1], learner.predict_queries(test))
    assert torch.equal(path[0], path[0][..., :1].expand_as(path[0])), "before it, all classes are alike"


# ---- padding and unequal numbers of examples ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_padding_does_not_count(strategy, batch_norm):
    found = []
    for task in (drawn(4, 2, 3), padded(drawn(4, 2, 3))):
        learner = il.protonet(net(batch_norm))
        learner.strategy = strategy
        metrics = learner.backward(task)
        buffers = [b.clone() for b in learner.buffers()]
        predictions = learner.predict_queries(task)[:, :12]
        found.append([*metrics.values(), *(p.grad for p in learner.parameters()), *buffers, predictions])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_unequal_shots_weigh_each_example_of_a_class_alike():
    task = points()
    mask = torch.tensor([[True, True, True, False]])
    unequal = dataclasses.replace(task, support=dataclasses.replace(task.support, mask=mask))
    logits = il.protonet(Scaled()).predict_queries(unequal)[0]
    assert torch.allclose(logits, torch.tensor([[-1.0, -10.0], [-26.0, -1.0]]))  # class 1 is now at (0, 4)


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_a_class_without_support_never_wins_and_spoils_nothing(strategy):
    """The second task has two of three classes, and its padded queries carry the label of the absent one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 4, generator=generator)
    y = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 2, 2]])
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    task = Task(Examples(x, y, mask), Examples(x.flip(-1), y, mask))
    learner = il.protonet(net())
    learner.strategy = strategy
    loss = learner.backward(task)["loss"]
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())
    logits = learner.predict_queries(task)
    assert logits[0].isfinite().all() and (logits[1, :, 2] == -torch.inf).all()
    halves = []
    for i, rows in ((0, slice(6)), (1, slice(4))):
        halves.append(F.cross_entropy(logits[i, rows], y[i, rows]))
    assert float(loss) == pytest.approx(float(sum(halves)) / 2, rel=1e-12)


# ---- what cannot work ----------------------------------------------------------------------------------------------------


def test_a_class_with_queries_needs_support():
    task = drawn(3, 2, 2)
    y = task.support.y.clone()
    y[1, y[1] == 1] = 2
    bad = dataclasses.replace(task, support=Examples(task.support.x, y))
    for call in ("backward", "predict_queries"):
        with pytest.raises(il.InputError, match="got none of class 1 in task 1; add one"):
            getattr(il.protonet(net()), call)(bad)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[2, ::3] = False
    hidden = dataclasses.replace(task, support=dataclasses.replace(task.support, mask=mask))
    with pytest.raises(il.InputError, match="got none of class 0 in task 2"):
        il.protonet(net()).backward(hidden)


def test_targets_that_are_no_labels():
    learner = il.protonet(net())
    with pytest.raises(il.InputError, match=r"integer labels, one an example.*torch\.float64"):
        learner.adapt(torch.randn(4, 4), torch.randn(4))
    with pytest.raises(il.InputError, match="integer labels"):
        il.fit(il.protonet(il.models.mlp(1, 3)), il.tasks.sinusoid(), steps=1, quiet=True)
    for loss in ("mse", "binary_cross_entropy", F.mse_loss, nn.BCEWithLogitsLoss()):
        with pytest.raises(il.ConfigError, match="loss expected one for logits"):
            il.protonet(net(), loss=loss)


def test_an_embedding_that_mixes_up_its_rows():
    with pytest.raises(il.ShapeError, match="one row for each of the 6 examples"):
        il.protonet(nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))).backward(drawn(3, 2, 2))


def test_maps_are_flattened():
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).reshape(-1, 1, 3, 1)

    task = drawn(3, 2, 2)
    assert torch.equal(il.protonet(Maps()).predict_queries(task), il.protonet(net()).predict_queries(task))


# ---- what is recommended ---------------------------------------------------------------------------------------------


def test_the_command_line_builds_the_papers_embedding():
    from innerloop.assemble import assemble

    learner, family = assemble("protonet", "glyphs", task_options={"ways": 5})
    assert learner.model_spec["name"] == "conv4"
    assert learner.model_spec["arguments"]["outputs"] is None
    assert learner.model_spec["arguments"]["downsample"] == "max_pool"
    assert (family.train.ways, family.train.queries, family.test.ways) == (60, 5, 5)
    assert (learner.outer.optimizer, learner.outer.lr, learner.outer.schedule) == ("adam", 1e-3, "halving")
    learner, family = assemble(
        "protonet", "glyphs", "mlp", task_options={"train_ways": 8}, model_options={"hidden": (9,)}
    )
    assert family.train.ways == 8 and learner.model_spec["arguments"]["outputs"] is None
    learner, _ = assemble("protonet", "glyphs", "conv4", model_options={"outputs": 16, "downsample": "stride"})
    assert learner.model_spec["arguments"]["outputs"] == 16
    assert learner.model_spec["arguments"]["downsample"] == "stride"


def test_mahalanobis_distances_are_by_a_covariance_of_each_class():
    torch.manual_seed(0)
    model = il.models.mlp(4, 5)
    x, y, asked = torch.randn(7, 4), np.array([0, 0, 0, 1, 1, 1, 1]), torch.randn(3, 4)
    found = il.protonet(model, distance="mahalanobis").adapt(x, y).predict_proba(asked)
    z, q = (model(rows).detach().double().numpy() for rows in (x, asked))
    logits = []
    for label in (0, 1):
        own = z[y == label]
        share = len(own) / (len(own) + 1)
        spread = share * np.cov(own.T) + (1 - share) * np.cov(z.T) + np.eye(5)
        apart = q - own.mean(0)
        logits.append(-0.5 * np.einsum("if,fg,ig->i", apart, np.linalg.inv(spread), apart))
    expected = torch.softmax(torch.tensor(np.stack(logits, 1)), -1)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_an_unknown_distance_is_named():
    with pytest.raises(il.ConfigError, match="euclidean or mahalanobis, got 'cosine'"):
        il.protonet(il.models.mlp(4, 5), distance="cosine")
