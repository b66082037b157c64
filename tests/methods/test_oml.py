"""OML and ANML: one pass of gradient steps of a last layer, what is new in it, and the gradient through it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import innerloop as il
from innerloop.errors import ConfigError, InputError
from innerloop.methods.oml import fresh_copy, one_pass

METHODS = ("oml", "anml")


def by_hand(weights, z, y, rate, counts=None):
    for t in range(len(z)):
        error = (weights @ z[t]).softmax(-1) - y[t]
        weights = weights - rate * (1 if counts is None else counts[t]) * torch.outer(error, z[t])
    return weights


def toy(examples=70, classes=5, columns=4):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(examples, columns, generator=generator, dtype=torch.float64)
    y = F.one_hot(torch.randint(classes, (examples,), generator=generator), classes).double()
    return torch.randn(classes, columns, generator=generator, dtype=torch.float64), z, y


def body(features=6, batch_norm=False):
    torch.manual_seed(1)
    return il.models.mlp(3, None, hidden=(features,), activation="tanh", batch_norm=batch_norm)


def stream(tasks=3, classes=4, each=5, remembered=6):
    """Tasks of one class each, labels of the whole family."""
    generator = torch.Generator().manual_seed(2)
    middles = torch.randn(classes, 3, generator=generator)
    y = torch.randint(classes, (tasks, 1), generator=generator).expand(-1, each)
    others = torch.randint(classes, (tasks, remembered), generator=generator)

    def pictures(labels):
        return middles[labels] + 0.3 * torch.randn(*labels.shape, 3, generator=generator)

    x = pictures(y)
    query = il.Examples(torch.cat([x, pictures(others)], 1), torch.cat([y, others], 1))
    return il.Task(il.Examples(x, y), query, class_ids=torch.arange(classes).expand(tasks, -1), num_classes=classes)


@pytest.mark.parametrize("examples", [1, 31, 32, 70])
def test_one_pass_is_the_loop_of_steps(examples):
    weights, z, y = toy(examples)
    counts = (torch.arange(examples) % 3 > 0).double()
    for given in (None, counts):
        assert torch.allclose(one_pass(weights, z, y, 0.3, given), by_hand(weights, z, y, 0.3, given), atol=1e-12)


def test_and_so_is_its_gradient():
    weights, z, y = toy(40)
    rate = torch.tensor(0.2, dtype=torch.float64)
    given = [v.clone().requires_grad_() for v in (weights, z, rate)]
    probe = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = [
        torch.autograd.grad((function(given[0], given[1], y, given[2]) * probe).sum(), given)
        for function in (one_pass, by_hand)
    ]
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10) and theirs.abs().max() > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_rows_of_shown_classes_begin_anew_and_the_others_are_learned(name):
    learner, batch = getattr(il, name)(body(), new_rows="drawn"), stream()
    learner.widen(4)
    inner, meta = learner.learner, learner.meta()
    ready = inner.admit(learner.ready(batch, 0))
    one = dataclasses.replace(ready, support=il.Examples(ready.support.x[0], ready.support.y[0]))
    one = dataclasses.replace(one, class_ids=ready.class_ids[0], noise=ready.noise[0])
    begun, head, label = inner.blank(meta, one), meta.rule["head"], int(batch.support.y[0, 0])
    others = [c for c in range(4) if c != label]
    assert torch.equal(begun[others], head[others])
    assert not torch.allclose(begun[label], head[label]) and begun[label, -1] == 0
    assert torch.equal(begun, inner.blank(meta, one))  # a function of the task's key
    new = inner.in_evaluation().blank(meta, one)
    assert not any(torch.allclose(new[c], head[c]) for c in range(4))


@pytest.mark.parametrize("name", METHODS)
def test_a_stream_in_two_parts_is_the_stream(name):
    learner, batch = getattr(il, name)(body(), inner_lr=0.3), stream()
    x, y = batch.query.x[0], batch.query.y[0]
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    whole = learner.adapt(x, y)
    first = int((y < y.max()).sum()) + 1  # one of the last class
    assert torch.allclose(
        learner.adapt(x[:first], y[:first]).learn(x[first:], y[first:]).fast.weights, whole.fast.weights
    )
    backwards = learner.adapt(x.flip(0), y.flip(0))
    assert not torch.allclose(backwards.fast.weights, whole.fast.weights)  # their order matters


def test_what_is_to_be_remembered_may_be_of_classes_that_the_stream_lacks():
    metrics = il.oml(body()).backward(stream())
    assert metrics["loss"].isfinite()
    values = il.Examples(torch.ones(1, 2, 3), torch.ones(1, 2, 1))
    with pytest.raises(InputError, match="integer labels"):
        il.oml(body()).backward(il.Task(values, values))


def test_first_order_leaves_out_the_steps():
    grads = {}
    for first in (False, True):
        learner = il.oml(body(), inner_lr=0.5, first_order=first)
        learner.backward(stream())
        grads[first] = torch.cat([p.grad.flatten() for p in learner.parameters()])
    assert not torch.allclose(grads[False], grads[True], rtol=1e-3)


def test_training_teaches_it_to_remember():
    """On streams of new classes plain features forget all but the last classes; learned ones do not."""
    torch.manual_seed(0)
    learner = il.oml(il.models.mlp(8, None, hidden=(48, 48)), inner_lr=0.1)
    optimizer = torch.optim.Adam(learner.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(5)
    middles = torch.randn(80, 8, generator=generator)

    def pictures(labels):
        return middles[labels] + 0.2 * torch.randn(*labels.shape, 8, generator=generator)

    held_out = torch.stack([60 + torch.randperm(20, generator=generator)[:10] for _ in range(10)])
    shown, asked = held_out.repeat_interleave(8, 1), held_out.repeat_interleave(5, 1)
    streams = list(zip(pictures(shown), shown, pictures(asked), asked, strict=True))

    def accuracy():
        right = [torch.as_tensor(learner.adapt(x, y).predict(q)) == a for x, y, q, a in streams]
        return float(torch.stack(right).double().mean())

    before = accuracy()
    for _ in range(120):
        y = torch.randint(60, (4, 1), generator=generator).expand(-1, 8)
        kept = torch.randint(60, (4, 30), generator=generator)
        x = pictures(y)
        query = il.Examples(torch.cat([x, pictures(kept)], 1), torch.cat([y, kept], 1))
        ids = torch.arange(60).expand(4, -1)
        learner.backward(il.Task(il.Examples(x, y), query, class_ids=ids, num_classes=60))
        optimizer.step()
        optimizer.zero_grad()
    assert accuracy() > before + 0.1, (before, accuracy())


def test_the_gate_multiplies_the_features(tmp_path):
    learner = il.anml(body(), normalised=False)
    gate, own = learner.model.get_submodule("gate"), learner.model.get_submodule("model")
    x = torch.randn(5, 3)
    found, _ = learner.learner.embed(learner.meta(), x)
    assert torch.allclose(found[:, :-1], own(x) * gate(x).sigmoid(), atol=1e-6)
    assert torch.equal(found[:, -1], torch.ones(5))
    first, second = body(), fresh_copy(body())
    assert all(a.shape == b.shape for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    y = torch.arange(5) % 3
    fitted = learner.adapt(x, y)
    fitted.save(tmp_path / "task.il")
    assert (il.load(tmp_path / "task.il").predict_proba(x) == fitted.predict_proba(x)).all()


def test_normalised_features_have_mean_zero_and_variance_one():
    for make in (il.oml, il.anml):
        learner = make(body())
        found, _ = learner.learner.embed(learner.meta(), torch.randn(5, 3))
        assert torch.allclose(found[:, :-1].mean(1), torch.zeros(5), atol=1e-6)
        assert torch.allclose(found[:, :-1].var(1, unbiased=False), torch.ones(5), atol=1e-3)
        assert learner.learner.inner_lr == 3 / (found.shape[1] - 1)
    assert il.oml(body(), normalised=False).learner.inner_lr == 0.03


@pytest.mark.parametrize("options", [{"new_rows": "ones"}, {"eval_lr": -1.0}, {"loss": "mse"}])
def test_bad_options_are_refused_in_a_line(options):
    with pytest.raises(ConfigError, match="expected"):
        il.oml(body(), **options)
