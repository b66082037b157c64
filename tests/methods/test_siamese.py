"""Siamese networks: similarity and pair loss against numpy, and what kind of pairs are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from metric_tasks import drawn, net, padded
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.methods.siamese import draw_pairs

pytestmark = pytest.mark.usefixtures("double")


def siamese(**options):
    torch.manual_seed(5)
    learner = il.siamese(net(), **options)
    weights = learner.model.similarity
    return learner, weights.weight.detach().numpy()[0], float(weights.bias.detach())


def embeddings(side: Examples, t: int) -> np.ndarray:
    return net()(side.x[t]).detach().numpy()


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_logits_of_classes(combine):
    learner, alpha, b = siamese(combine=combine)
    task = drawn(3, 3, 2)
    task = dataclasses.replace(
        task, support=Examples(task.support.x[:, 1:], task.support.y[:, 1:])
    )  # 2, 3 and 3 examples
    logits = learner.predict_queries(task)
    for t in range(3):
        support, queries = embeddings(task.support, t), embeddings(task.query, t)
        for q, query in enumerate(queries):
            by_class: dict[int, list[float]] = {0: [], 1: [], 2: []}
            for s, label in zip(support, task.support.y[t].tolist(), strict=True):
                by_class[label].append(float(sum(alpha[j] * abs(query[j] - s[j]) for j in range(3)) + b))
            expected = [max(v) if combine == "max" else sum(v) / len(v) for v in by_class.values()]
            assert np.allclose(logits[t, q].numpy(), expected)


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_the_loss_of_pairs(strategy):
    learner, alpha, b = siamese(pairs=21)
    learner.strategy = strategy
    task = dataclasses.replace(drawn(3, 2, 2), noise=torch.tensor([4, 5, 6]))
    expected = []
    for t in range(3):
        sides = [Examples(s.x[t], s.y[t]) for s in (task.support, task.query)]
        z = np.concatenate([embeddings(s, t) for s in (task.support, task.query)])
        labels = torch.cat([s.y for s in sides]).tolist()
        found = draw_pairs(task.noise[t], *sides, 21)
        for i, j in zip(found.first.tolist(), found.second.tolist(), strict=True):
            p = 1 / (1 + np.exp(-(alpha @ np.abs(z[i] - z[j]) + b)))
            expected.append(-np.log(p if labels[i] == labels[j] else 1 - p))
    assert float(learner.backward(task)["loss"]) == pytest.approx(np.mean(expected), rel=1e-10)
    *_, _shift, weights, bias = learner.parameters()  # the embedding's last shift is the same in both twins
    assert min(float(p.grad.abs().max()) for p in (*list(learner.parameters())[:3], weights, bias)) > 1e-6


def test_pairs_are_half_of_one_class_and_all_are_equally_likely():
    y = torch.tensor([0, 1, 2, 0, 1, 1])
    support, query = Examples(torch.zeros(3, 1), y[:3]), Examples(torch.zeros(3, 1), y[3:])
    found = draw_pairs(torch.tensor(11), support, query, 20_000)
    assert found.same.sum() == 10_000 and bool((found.weight == 1).all())
    assert torch.equal(y[found.first] == y[found.second], found.same) and bool((found.first != found.second).all())
    for kind in (True, False):
        rows = found.same == kind
        first = torch.bincount(found.first[rows], minlength=6) / 10_000
        # The one example of class 2 has nothing to be the same as.
        expected = torch.tensor([0.2, 0.2, 0.0, 0.2, 0.2, 0.2]) if kind else torch.full((6,), 1 / 6)
        assert torch.allclose(first, expected, atol=0.02)
    of_one = found.second[found.same & (found.first == 1)]
    assert torch.allclose(
        torch.bincount(of_one, minlength=6) / len(of_one), torch.tensor([0, 0, 0, 0, 0.5, 0.5]), atol=0.05
    )


def test_pairs_are_a_function_of_the_key_and_padding_is_never_drawn():
    task, other = drawn(3, 2, 2), padded(drawn(3, 2, 2), extra=4)
    plain, more = (
        [Examples(s.x[0], s.y[0], None if s.mask is None else s.mask[0]) for s in (t.support, t.query)]
        for t in (task, other)
    )
    a, b = draw_pairs(torch.tensor(3), *plain, 50), draw_pairs(torch.tensor(3), *more, 50)
    for ours, theirs in ((a.first, b.first), (a.second, b.second)):
        assert torch.equal(torch.where(ours < 6, ours, ours + 4), theirs)
    again, different = draw_pairs(torch.tensor(3), *plain, 50), draw_pairs(torch.tensor(4), *plain, 50)
    assert torch.equal(a.first, again.first) and not torch.equal(a.first, different.first)


def test_a_task_of_one_class_has_pairs_of_one_kind_only():
    x = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(1, 4, dtype=torch.int64)
    found = draw_pairs(torch.tensor(0), Examples(x[0], y[0]), Examples(x[0], y[0]), 10)
    assert found.weight.tolist() == [1.0] * 5 + [0.0] * 5
    learner, *_ = siamese()
    loss = learner.backward(Task(Examples(x, y), Examples(x + 1, y), class_ids=torch.arange(2)[None]))["loss"]
    assert loss.isfinite() and all(bool(p.grad.isfinite().all()) for p in learner.parameters())


def test_a_loss_judges_queries_among_the_classes():
    task = drawn(3, 2, 2)
    learner, *_ = siamese(loss="cross_entropy")
    loss = learner.backward(task)["loss"]
    logits = learner.predict_queries(task)
    expected = nn.functional.cross_entropy(logits.reshape(-1, 3), task.query.y.reshape(-1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-10)


def test_a_twin_is_most_similar_to_itself_after_training():
    learner, *_ = siamese(pairs=64)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    for step in range(60):
        learner.backward(drawn(6, 2, 2, num_tasks=4, seed=step))
        optimizer.step()
        optimizer.zero_grad()
    task = drawn(6, 1, 1)
    same = dataclasses.replace(task, query=task.support)
    assert (learner.predict_queries(same).argmax(-1) == task.support.y).double().mean() == 1
