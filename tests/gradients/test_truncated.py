"""Backpropagation through the last inner steps only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.engine import memory
from innerloop.errors import ConfigError

pytestmark = pytest.mark.usefixtures("double")
STEPS, LR = 5, 0.3


def net() -> nn.Module:
    torch.manual_seed(5)
    return il.models.mlp(2, 2, hidden=(3,), activation="tanh")


def tasks(num_tasks: int = 3) -> il.Task:
    generator = torch.Generator().manual_seed(8)
    sides = [il.Examples(*(torch.randn(num_tasks, 4, 2, generator=generator) for _ in range(2))) for _ in range(2)]
    return il.Task(*sides, noise=torch.arange(num_tasks))


def gradients(learner, batch) -> dict[str, torch.Tensor]:
    learner.zero_grad()
    learner.backward(batch)
    return {name: p.grad for name, p in learner.named_parameters()}


def by_hand(model: nn.Module, batch: il.Task, last: int) -> dict[str, torch.Tensor]:
    """Early steps in a copy, by torch alone; then the last ones through the graph, from meta + where the copy had come."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count = batch.support.y.shape[0]
    for t in range(count):

        def loss(params, side, t=t):
            return nn.functional.mse_loss(torch.func.functional_call(model, params, (side.x[t],)), side.y[t])

        meta = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        early = {name: p.detach().clone().requires_grad_() for name, p in meta.items()}
        for _ in range(STEPS - last):
            found = torch.autograd.grad(loss(early, batch.support), list(early.values()))
            early = {n: (p - LR * g).detach().requires_grad_() for (n, p), g in zip(early.items(), found, strict=True)}
        fast = {name: p + (early[name] - p).detach() for name, p in meta.items()}
        for _ in range(last):
            found = torch.autograd.grad(loss(fast, batch.support), list(fast.values()), create_graph=True)
            fast = {n: p - LR * g for (n, p), g in zip(fast.items(), found, strict=True)}
        for name, g in zip(meta, torch.autograd.grad(loss(fast, batch.query), list(meta.values())), strict=True):
            total[f"{name}"] += g / count
    return total


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("last", [1, 2, 4])
def test_by_hand(last, strategy):
    model, batch = net(), tasks()
    learner = il.with_meta_gradient(il.maml(model, inner_lr=LR, inner_steps=STEPS), "truncated", steps=last)
    learner.strategy = strategy
    found = gradients(learner, batch)
    for name, value in by_hand(model, batch, last).items():
        assert torch.allclose(found[f"model.{name}"], value, rtol=1e-11, atol=1e-14)
    exact = gradients(il.maml(model, inner_lr=LR, inner_steps=STEPS), batch)
    assert any(not torch.allclose(found[n], g, rtol=1e-3) for n, g in exact.items())


@pytest.mark.parametrize("make", [il.maml, il.meta_sgd, il.mamlpp, il.imaml])
@pytest.mark.parametrize("last", [STEPS, STEPS + 3])
def test_all_steps_are_full_backpropagation_to_the_last_bit(make, last):
    learner = make(net(), inner_steps=STEPS)
    full = gradients(il.with_meta_gradient(learner, "backprop"), tasks())
    found = gradients(il.with_meta_gradient(learner, "truncated", steps=last), tasks())
    assert all(torch.equal(found[name], g) for name, g in full.items())


def test_rates_learn_from_the_last_steps_alone():
    learner = il.with_meta_gradient(il.mamlpp(net(), inner_steps=STEPS, multi_step_loss=False), "truncated", steps=2)
    rates = [g for name, g in gradients(learner, tasks()).items() if "rate" in name]
    assert rates and all(not g[: STEPS - 2].any() and g[STEPS - 2 :].all() for g in rates)


def test_values_and_recomputing_do_not_change():
    learner = il.maml(net(), inner_lr=LR, inner_steps=STEPS)
    cut = il.with_meta_gradient(learner, "truncated", steps=3)
    assert torch.equal(cut.predict_queries(tasks()), learner.predict_queries(tasks()))
    assert torch.equal(cut.backward(tasks())["loss"], learner.backward(tasks())["loss"])
    plain = gradients(cut, tasks())
    for strategy in ("looped", "vmapped"):
        cut.strategy, cut.recompute = strategy, 2
        again = gradients(cut, tasks())
        assert all(torch.allclose(again[name], g, rtol=1e-12, atol=1e-15) for name, g in plain.items())


@pytest.mark.slow
def test_memory_grows_with_the_last_steps_alone():
    batch = il.tasks.sinusoid().train.at(0, 0, 2)

    def peak(inner_steps: int, last: int) -> int:
        learner = il.maml(il.models.mlp(1, 1, hidden=(60, 60)), inner_lr=0.01, inner_steps=inner_steps)
        learner = il.with_meta_gradient(learner, "truncated", steps=last)
        learner.strategy = "vmapped"
        found = memory.peak_bytes(
            lambda meta, tasks: learner.meta_gradient({}, meta, tasks, 0, None), learner.meta(), learner.ready(batch, 0)
        )
        assert found is not None
        return found

    assert peak(60, 3) <= 1.1 * peak(10, 3)
    assert peak(60, 12) > 2 * peak(60, 3)


def test_wrong_settings():
    with pytest.raises(ConfigError, match="steps expected an integer of at least 1, got 0"):
        il.with_meta_gradient(il.maml(net()), "truncated", steps=0)
    with pytest.raises(ConfigError, match="adapts by gradient steps, got PrototypeLearner"):
        il.with_meta_gradient(il.protonet(il.models.mlp(2, None)), "truncated")


def test_a_loss_that_is_judged_before_the_last_steps_is_refused():
    """Its gradient by the rates of the earlier steps would be 0, without a word."""
    learner = il.mamlpp(net(), inner_steps=STEPS)
    with pytest.raises(
        ConfigError, match=r"judged at the end .* got MultiStepLearner, .* before the last 2; use backprop"
    ):
        il.with_meta_gradient(learner, "truncated", steps=2)
