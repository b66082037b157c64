"""Proto-MAML: its head begins as the nearest class mean, and the meta-gradient goes through that beginning."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.engine import take
from innerloop.rules import SGD

pytestmark = pytest.mark.usefixtures("double")


def drawn(ways: int, shots: int, queries: int = 2, num_tasks: int = 2, seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_tasks, ways, 4, generator=generator)

    def side(each: int) -> Examples:
        y = torch.arange(ways).repeat(each).expand(num_tasks, -1).contiguous()
        x = centres.gather(1, y[..., None].expand(-1, -1, 4))
        return Examples(x + 0.3 * torch.randn(x.shape, generator=generator), y)

    return Task(side(shots), side(queries))


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def centred(logits: torch.Tensor) -> torch.Tensor:
    return logits - logits.mean(-1, keepdim=True)


def by_hand(model: nn.Sequential, task: Task, lr: float, steps: int, first_order: bool = False) -> torch.Tensor:
    """The mean query loss after ``steps`` inner steps, in plain loops."""
    total = torch.zeros(())
    for sx, sy, qx, qy in zip(task.support.x, task.support.y, task.query.x, task.query.y, strict=True):
        w1, b1, w2, b2 = model.parameters()
        z = model(sx)
        means = torch.stack([z[sy == k].mean(0) for k in range(int(sy.max()) + 1)])
        # Copies: an inner gradient takes the head as a parameter of its own, not as a function of the body.
        weights = [w1 * 1, b1 * 1, w2 * 1, b2 * 1, 2 * means, -means.square().sum(1)]

        def logits(x, w):
            return (torch.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3]) @ w[4].T + w[5]

        for _ in range(steps):
            loss = nn.functional.cross_entropy(logits(sx, weights), sy)
            grads = torch.autograd.grad(loss, weights, create_graph=not first_order, retain_graph=True)
            weights = [w - lr * g for w, g in zip(weights, grads, strict=True)]
        total = total + nn.functional.cross_entropy(logits(qx, weights), qy) / len(task.support.x)
    return total


def test_without_steps_it_is_a_prototypical_network_up_to_a_constant_a_query():
    task, model = drawn(5, 3), net()
    ours = il.proto_maml(model).predict_queries(task, steps=0)
    theirs = il.protonet(model).predict_queries(task)
    assert torch.allclose(centred(ours), centred(theirs), rtol=1e-10, atol=1e-12)
    assert (ours - theirs).std(-1).max() < 1e-10 and (ours - theirs).abs().min() > 1e-6  # |z|^2, not nothing
    assert not torch.allclose(il.proto_maml(model, inner_lr=0.3).predict_queries(task), ours, atol=1e-3)


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("first_order", [False, True])
def test_loss_and_gradient_are_those_of_plain_loops(strategy, first_order):
    task, model = drawn(3, 2), net()
    learner = il.proto_maml(model, inner_lr=0.2, inner_steps=3, first_order=first_order)
    learner.strategy = strategy
    loss = by_hand(model, task, 0.2, 3, first_order)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(loss.detach()), rel=1e-10)
    for p, g in zip(learner.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-8, atol=1e-10)


def test_the_meta_gradient_by_finite_differences():
    task, model = drawn(3, 2), net()
    learner = il.proto_maml(model, inner_lr=0.2, inner_steps=2)
    learner.backward(task)
    scale = max(float(p.grad.abs().max()) for p in learner.parameters())
    worst = 0.0
    for p in learner.parameters():
        flat = p.data.view(-1)
        for i in range(flat.numel()):
            start, ends = flat[i].item(), []
            for moved in (start + 1e-5, start - 1e-5):
                flat[i] = moved
                # Without gradients of our own: only values are used.
                prediction = learner.predict_queries(task, steps=2)
                ends.append(float(nn.functional.cross_entropy(prediction.flatten(0, 1), task.query.y.flatten())))
            flat[i] = start
            worst = max(worst, abs((ends[0] - ends[1]) / 2e-5 - p.grad.view(-1)[i].item()))
    assert worst / scale < 1e-7


def test_padding_and_a_class_without_examples_change_nothing():
    task = drawn(3, 2)

    def padded(x_fill: float, y_fill: int) -> Task:
        sides = []
        for side in (task.support, task.query):
            x = torch.cat([side.x, torch.full_like(side.x[:, :4], x_fill)], 1)
            y = torch.cat([side.y, torch.full_like(side.y[:, :4], y_fill)], 1)
            sides.append(Examples(x, y, torch.arange(x.shape[1]).expand(2, -1) < side.x.shape[1]))
        return Task(*sides, class_ids=torch.arange(4).expand(2, -1))

    plain = il.proto_maml(net(), inner_lr=0.2, inner_steps=2)
    plain.backward(task)
    for fills in ((0.0, 0), (50.0, 3)):
        learner = il.proto_maml(net(), inner_lr=0.2, inner_steps=2)
        learner.backward(padded(*fills))
        for p, q in zip(plain.parameters(), learner.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, rtol=1e-10, atol=1e-12)
        logits = learner.predict_queries(padded(*fills))[:, :6]
        assert torch.allclose(logits[..., :3], plain.predict_queries(task), rtol=1e-10, atol=1e-12)
        assert bool((logits[..., 3] == -torch.inf).all())


def test_update_rules_are_told_a_finite_loss_where_padding_names_a_class_without_examples():
    told = []

    class Listening(SGD):
        def update(self, *args, loss, **kwargs):
            told.append(float(loss))
            return super().update(*args, loss=loss, **kwargs)

    task = drawn(3, 2)
    side = task.support
    x, y = torch.cat([side.x, side.x[:, :1]], 1), torch.cat([side.y, torch.full_like(side.y[:, :1], 3)], 1)
    padded = Examples(x, y, (torch.arange(7) < 6).expand(2, -1))
    learner = il.proto_maml(net())
    listening = dataclasses.replace(learner.learner, rule=Listening(0.1))
    for support in (side, padded):
        one = take(dataclasses.replace(task, support=support, class_ids=torch.arange(4).expand(2, -1)), 0)
        listening.adapt(learner.meta(), one, 1)
    assert told[0] == pytest.approx(told[1], rel=1e-10)


def test_one_learner_takes_tasks_of_any_number_of_classes():
    learner = il.proto_maml(net(), inner_lr=0.1, inner_steps=2)
    for ways in (7, 2):
        task = drawn(ways, 2)
        learner.backward(task)
        fitted = learner.adapt(task.support.x[0], task.support.y[0])
        assert fitted.predict_proba(task.query.x[0]).shape == (2 * ways, ways)


def test_only_the_head_adapts_where_the_body_is_frozen():
    learner = il.proto_maml(net(), inner_lr=0.2, inner_steps=2, adapt=["2.*"])
    task = drawn(3, 2)
    assert set(learner.adapt(task.support.x[0], task.support.y[0]).fast.params) == {
        "2.weight", "2.bias", "class_head/weight", "class_head/bias",
    }  # fmt: skip


def test_bad_input():
    for loss in ("mse", nn.functional.mse_loss, "binary_cross_entropy"):
        with pytest.raises(il.ConfigError, match=r"loss expected one for logits .*leave it out"):
            il.proto_maml(net(), loss=loss)
    task = drawn(3, 2)
    unseen = dataclasses.replace(task, query=Examples(task.query.x, task.query.y + 1))
    with pytest.raises(il.InputError, match="got none of class 3 in task 0"):
        il.proto_maml(net()).backward(unseen)
    with pytest.raises(il.InputError, match="integer labels, one an example"):
        il.proto_maml(il.models.mlp(1, None)).backward(il.tasks.sinusoid().train.at(0, 0, 2))
