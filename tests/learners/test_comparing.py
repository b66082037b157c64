"""What all methods that compare embeddings owe: any number of classes, padding, absent classes, one look, files."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from metric_tasks import drawn, net, padded
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.meta_learner.meta_learner import MetaLearner

pytestmark = pytest.mark.usefixtures("double")

OPTIONS = {
    "protonet": ("protonet", {}),
    "siamese": ("siamese", {"pairs": 24}),
    "siamese, mean": ("siamese", {"pairs": 24, "combine": "mean"}),
    "siamese, among classes": ("siamese", {"loss": "cross_entropy"}),
    "matching": ("matching", {"scale": 5.0}),
    "matching, full context": ("matching", {"full_context": True, "context_steps": 3}),
    "relation": ("relation", {"filters": 5}),
    "relation, mean": ("relation", {"filters": 5, "combine": "mean", "loss": "cross_entropy"}),
}
KINDS = pytest.mark.parametrize("kind", OPTIONS)
STRATEGIES = pytest.mark.parametrize("strategy", ["looped", "vmapped"])


def learner_of(kind: str, model: nn.Module | None = None, **more: object) -> MetaLearner:
    name, options = OPTIONS[kind]
    model = net() if model is None else model
    torch.manual_seed(3)
    return getattr(il, name)(model, **{**options, **more})


def with_keys(task: Task) -> Task:
    return dataclasses.replace(task, noise=torch.arange(len(task.support.y)) + 7)


class Maps(nn.Module):
    """Rows of 4 numbers as maps of two channels, through a convolution and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.grow = nn.Linear(4, 18)
        self.layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.grow(x).reshape(-1, 2, 3, 3))


def outcome(learner: MetaLearner, task: Task, queries: int) -> list[torch.Tensor]:
    metrics = learner.backward(task)
    grads = [p.grad for p in learner.parameters()]
    return [
        *metrics.values(),
        *grads,
        *(b.clone() for b in learner.buffers()),
        learner.predict_queries(task)[:, :queries],
    ]


@KINDS
@STRATEGIES
@pytest.mark.parametrize("model", ["plain", "batch norm", "maps"])
def test_padding_does_not_count(kind, strategy, model):
    found = []
    for task in (drawn(4, 2, 3), padded(drawn(4, 2, 3))):
        learner = learner_of(kind, Maps() if model == "maps" else net(model == "batch norm"))
        learner.strategy = strategy
        found.append(outcome(learner, with_keys(task), 12))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
    assert max(float(g.abs().max()) for g in found[0][2:6]) > 1e-4


@KINDS
@pytest.mark.parametrize("model", ["batch norm", "maps"])
def test_looped_and_vmapped_agree(kind, model):
    found = []
    for strategy in ("looped", "vmapped"):
        learner = learner_of(kind, Maps() if model == "maps" else net(True))
        learner.strategy = strategy
        found.append(outcome(learner, with_keys(drawn(4, 2, 3)), 12))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@KINDS
def test_other_numbers_of_classes_than_in_training(kind):
    squared_error = kind == "relation"  # learns to say "none of them" first
    more = {"filters": 20} if squared_error else {}
    learner = learner_of(kind, **more)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    for step in range(120 if squared_error else 40):
        learner.backward(drawn(ways=12, shots=2, queries=2, num_tasks=4, seed=step, nuisance=2.0))
        optimizer.step()
        optimizer.zero_grad()
    for ways in (5, 17):
        test = drawn(ways, shots=3, queries=3, num_tasks=20, seed=100, nuisance=2.0)
        logits = learner.predict_queries(test)
        assert logits.shape == (20, 3 * ways, ways)
        before = learner_of(kind, **more).predict_queries(test)
        right, unlearned = ((p.argmax(-1) == test.query.y).double().mean() for p in (logits, before))
        assert right > unlearned + 0.05 and right > 2 / ways


@KINDS
@STRATEGIES
def test_a_class_without_support_never_wins_and_spoils_nothing(kind, strategy):
    """The second task has two of three classes, and its padded queries carry the label of the absent one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 4, generator=generator)
    y = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 2, 2]])
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    both = with_keys(Task(Examples(x, y, mask), Examples(x.flip(-1), y, mask)))
    alone = Task(Examples(x[1:, :4], y[1:, :4]), Examples(x[1:, :4].flip(-1), y[1:, :4]), noise=both.noise[1:])
    found = []
    for task in (both, alone):
        learner = learner_of(kind, Maps() if "relation" in kind else None)
        learner.strategy = strategy
        found.append((learner.predict_queries(task), learner.backward(task)["loss"], learner))
    (logits, loss, learner), (own, own_loss, other) = found
    assert logits[0].isfinite().all() and (logits[1, :, 2] == -torch.inf).all()
    assert torch.allclose(logits[1, :4, :2], own[0])
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())
    first = learner_of(kind, Maps() if "relation" in kind else None)
    one = Task(Examples(x[:1], y[:1]), Examples(x[:1].flip(-1), y[:1]), noise=both.noise[:1])
    assert float(loss) == pytest.approx((float(first.backward(one)["loss"]) + float(own_loss)) / 2, rel=1e-10)
    for p, a, b in zip(learner.parameters(), first.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p.grad, (a.grad + b.grad) / 2, rtol=1e-9, atol=1e-11)


@KINDS
def test_the_support_set_is_looked_at_once(kind):
    learner, test = learner_of(kind), with_keys(drawn(3, 2, 2))
    path = learner.trajectory(test, 3)
    assert torch.equal(path[1], path[3]) and torch.equal(path[1], learner.predict_queries(test))
    assert torch.equal(path[0], torch.zeros_like(path[0])), "before it, all classes are alike"


@KINDS
@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_a_query_does_not_depend_on_the_others(kind, batch_norm):
    learner, task = learner_of(kind, net(True), batch_norm=batch_norm, inductive=True), with_keys(drawn(3, 2, 2))
    assert not learner.transductive
    q = task.query
    alone = dataclasses.replace(task, query=Examples(q.x[:, :1], q.y[:, :1]))
    whole = learner.predict_queries(task)[:, 0]
    assert torch.allclose(learner.predict_queries(alone)[:, 0], whole)
    mixed = learner_of(kind, net(True), batch_norm="batch").predict_queries(task)[:, 0]
    assert not torch.allclose(mixed, whole), "the check would see a dependence"


@KINDS
def test_a_fitted_with_more_classes_comes_back_from_its_file(kind, tmp_path):
    model = il.models.mlp(4, None, hidden=(6, 3))
    test = drawn(7, shots=2, queries=1)
    fitted = learner_of(kind, model).adapt(test.support.x[0], test.support.y[0])
    again = il.load(fitted.save(tmp_path / "task.il"))
    assert torch.equal(again.outputs(test.query.x[0]), fitted.outputs(test.query.x[0]))
    assert again.fast.counts.shape == (7,) and again.fast.step == 1
    assert again.predict_proba(test.query.x[0]).shape == (7, 7)


@KINDS
def test_a_class_with_queries_needs_support(kind):
    task = drawn(3, 2, 2)
    y = task.support.y.clone()
    y[1, y[1] == 1] = 2
    bad = dataclasses.replace(task, support=Examples(task.support.x, y))
    for call in ("backward", "predict_queries"):
        with pytest.raises(il.InputError, match="got none of class 1 in task 1; add one"):
            getattr(learner_of(kind), call)(bad)


@pytest.mark.parametrize("name", ["siamese", "matching", "relation"])
def test_what_cannot_be_built(name):
    make = getattr(il, name)
    options = {"full_context": True} if name == "matching" else {}
    for loss in ("mse", "binary_cross_entropy", F.mse_loss, nn.BCEWithLogitsLoss()):
        with pytest.raises(il.ConfigError, match="loss expected one for logits"):
            make(net(), loss=loss)
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    with pytest.raises(il.ConfigError, match=r"input shape of Sequential is not known.*input_shape="):
        make(convolution, **options)
    assert make(convolution, input_shape=(1, 5, 5), **options).eval_steps == 1
    for bad, message in {
        "siamese": [
            ({"pairs": 1}, "pairs expected an integer of at least 2, got 1"),
            ({"combine": "sum"}, "max, mean"),
        ],
        "matching": [
            ({"order": "sorted"}, "drawn, given"),
            ({"context_steps": 0}, "context_steps"),
            ({"scale": 0.0}, "scale"),
        ],
        "relation": [
            ({"hidden": 0}, "hidden expected"),
            ({"filters": 1.5}, "filters"),
            ({"combine": "max"}, "sum, mean"),
        ],
    }[name]:
        with pytest.raises(il.ConfigError, match=message):
            make(net(), **bad)
