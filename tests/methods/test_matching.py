"""Matching networks: attention against a direct formula, full-context embeddings against plain loops and torch's LSTM cell."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from metric_tasks import drawn, net
from torch import nn

import innerloop as il
from innerloop import keys
from innerloop.core import Examples, Task
from innerloop.methods.matching import LstmCell, QueryContext, SupportContext, attention_logits, cosines

pytestmark = pytest.mark.usefixtures("double")


def probabilities(queries: np.ndarray, support: np.ndarray, y: np.ndarray, ways: int, scale: float = 1.0) -> np.ndarray:
    """Equation 1 of the paper, number by number."""
    found = np.zeros((len(queries), ways))
    for q, query in enumerate(queries):
        attention = [
            math.exp(scale * float(query @ s) / (math.sqrt(float(query @ query)) * math.sqrt(float(s @ s))))
            for s in support
        ]
        for weight, label in zip(attention, y, strict=True):
            found[q, label] += weight / sum(attention)
    return found


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_attention_is_the_formula(scale):
    task, model = drawn(4, 3, 2), net()
    unequal = dataclasses.replace(task, support=Examples(task.support.x[:, 1:], task.support.y[:, 1:]))
    logits = il.matching(model, scale=scale).predict_queries(unequal)
    for t in range(3):
        z, q = (model(side.x[t]).detach().numpy() for side in (unequal.support, unequal.query))
        expected = probabilities(q, z, unequal.support.y[t].numpy(), 4, scale)
        assert np.allclose(logits[t].exp().numpy(), expected, rtol=1e-6)
        assert np.allclose(expected.sum(-1), 1)


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_the_gradient_is_that_of_the_formula(strategy):
    task, model = drawn(4, 3, 2), net()
    learner = il.matching(model, scale=3.0)
    learner.strategy = strategy
    total = torch.zeros(())
    for t in range(3):
        z, q = model(task.support.x[t]), model(task.query.x[t])
        weights = torch.softmax(3.0 * torch.nn.functional.cosine_similarity(q[:, None], z[None], -1), -1)
        for j, label in enumerate(task.query.y[t].tolist()):
            total = total - weights[j, task.support.y[t] == label].sum().log() / (3 * 8)
    expected = torch.autograd.grad(total, list(model.parameters()))
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(total.detach()), rel=1e-7)
    for p, g in zip(learner.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-5, atol=1e-7)
    assert max(float(g.abs().max()) for g in expected) > 1e-2


def test_a_dead_embedding_has_a_cosine_and_a_gradient():
    a = torch.zeros(1, 3, requires_grad=True)
    found = cosines(a, torch.eye(3)[:2])
    assert torch.equal(found, torch.zeros(1, 2))
    found.sum().backward()
    assert a.grad.isfinite().all()
    assert torch.allclose(cosines(torch.tensor([[3.0, 4.0, 0.0]]), torch.eye(3)[:2]), torch.tensor([[0.6, 0.8]]))


def test_sharp_attention_stays_finite():
    similarity = torch.tensor([[1000.0, -1000.0, 0.0]], requires_grad=True)
    members = torch.tensor([[True, False], [False, True], [False, True]])
    found = attention_logits(similarity, members)
    assert torch.allclose(found, torch.tensor([[0.0, -1000.0]]))
    found[0, 1].backward()
    assert torch.allclose(similarity.grad, torch.tensor([[-1.0, 0.0, 1.0]]))


# ---- full context --------------------------------------------------------------------------------------------------------


def torch_cell(cell: LstmCell, inputs: int, hidden: int) -> nn.LSTMCell:
    """torch's own cell, which takes a hidden state as wide as its cell, with the same weights."""
    made = nn.LSTMCell(inputs, hidden)
    with torch.no_grad():
        made.weight_ih.copy_(cell.of_inputs.weight)
        made.weight_hh.copy_(cell.of_hidden.weight)
        made.bias_ih.copy_(cell.of_inputs.bias)
        made.bias_hh.zero_()
    return made


def test_the_support_context_is_two_lstms_and_the_embedding():
    torch.manual_seed(0)
    context, z = SupportContext(3), torch.randn(5, 3)
    counts = torch.tensor([True, True, False, True, True])
    kept = [0, 1, 3, 4]
    expected = {i: z[i].clone() for i in kept}
    for cell, order in ((context.forwards, kept), (context.backwards, kept[::-1])):
        plain, h, c = torch_cell(cell, 3, 3), torch.zeros(1, 3), torch.zeros(1, 3)
        for i in order:
            h, c = plain(z[i : i + 1], (h, c))
            expected[i] = expected[i] + h[0]
    found = context(z, counts)
    for i in kept:
        assert torch.allclose(found[i], expected[i])


def test_the_query_context_is_the_papers_recursion():
    torch.manual_seed(1)
    context, z, g = QueryContext(2, 3), torch.randn(4, 2), torch.randn(5, 2)
    counts = torch.tensor([True, True, True, True, False])
    wi, wh, b = (
        v.detach().numpy()
        for v in (context.cell.of_inputs.weight, context.cell.of_hidden.weight, context.cell.of_inputs.bias)
    )
    memory = g[:4].numpy()

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    for row, query in zip(context(z, g, counts), z.numpy(), strict=True):
        h, c = np.zeros(2), np.zeros(2)
        for _ in range(3):
            weights = np.exp(memory @ h)
            read = (weights / weights.sum()) @ memory
            i, f, v, o = np.split(wi @ query + b + wh @ np.concatenate([h, read]), 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(v)
            h = sigmoid(o) * np.tanh(c) + query
        assert np.allclose(row.detach().numpy(), h)


def test_the_order_of_the_support_set():
    """Drawn: a function of the key alone, not of how the labels lie; given: as it comes. Without context it does not matter."""
    task = dataclasses.replace(drawn(3, 2, 2), noise=torch.arange(3))
    turned = dataclasses.replace(task, support=Examples(task.support.x.flip(1), task.support.y.flip(1)))
    plain, given, by_key = (
        il.matching(net(), **options)
        for options in ({}, {"full_context": True, "order": "given"}, {"full_context": True})
    )
    assert torch.allclose(plain.predict_queries(task), plain.predict_queries(turned))
    assert not torch.allclose(given.predict_queries(task), given.predict_queries(turned))
    other = dataclasses.replace(task, noise=task.noise + 5)
    with torch.no_grad():
        for p, q in zip(by_key.parameters(), given.parameters(), strict=True):
            p.copy_(q)
    assert not torch.allclose(by_key.predict_queries(task), by_key.predict_queries(other))
    assert torch.equal(by_key.predict_queries(task), by_key.predict_queries(task))
    rows = by_key.learner.batch(
        Task(Examples(task.support.x[0], task.support.y[0]), task.query, noise=task.noise[0]), 0
    )
    drawn_order = keys.permutation(keys.fold(task.noise[0], 41), 6)
    assert torch.equal(rows.x, task.support.x[0][drawn_order]) and torch.equal(rows.y, task.support.y[0][drawn_order])


def test_context_has_parameters_and_they_learn():
    learner = il.matching(net(), full_context=True, context_steps=2)
    learner.backward(drawn(3, 2, 2))
    names = {name.split(".")[1] for name, _ in learner.named_parameters()}
    assert names == {"model", "support_context", "query_context"}
    assert all(float(p.grad.abs().max()) > 0 for p in learner.parameters())
