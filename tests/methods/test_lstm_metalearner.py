"""The LSTM rule against torch's own LSTM cell and a plain loop; with its gates held it is gradient descent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.methods.lstm_metalearner import LSTMRule, preprocess
from innerloop.rules import SGD

pytestmark = pytest.mark.usefixtures("double")
STEPS, LARGE = 4, 40.0  # sigmoid(40) is 1 to the last digit of float64


def tasks(num_tasks: int = 3) -> Task:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(num_tasks, n, 2, generator=generator) for n in (8, 1))
    y = (x * w).sum(-1, keepdim=True).sin()
    return Task(Examples(x[:, :4], y[:, :4]), Examples(x[:, 4:], y[:, 4:]))


def model() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


def learner(seed: int = 3, **options) -> il.MetaLearner:
    net = model()
    torch.manual_seed(seed)
    made = il.lstm_metalearner(net, inner_steps=STEPS, **options)
    with torch.no_grad():  # weights large enough for every path to show
        for name, p in made.rule_by_name().items():
            if name.endswith("weight"):
                p.mul_(30)
    return made


def set_gates(made: il.MetaLearner, rate: float) -> None:
    with torch.no_grad():
        for name, p in made.rule_by_name().items():
            if name.startswith("gates"):
                p.zero_()
        made.rule_by_name()["gates/bias"].copy_(torch.tensor([LARGE, math.log(rate / (1 - rate))]))


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_with_its_gates_held_it_is_gradient_descent(rate):
    ours, plain = learner(), il.fomaml(model(), inner_lr=rate, inner_steps=STEPS)
    set_gates(ours, rate)
    batch = tasks()
    a, b = (made.backward(batch)["loss"] for made in (ours, plain))
    assert float(a) == pytest.approx(float(b), rel=1e-13)
    assert torch.allclose(ours.trajectory(batch, 7), plain.trajectory(batch, 7), rtol=1e-12, atol=1e-14)
    for p, q in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-11, atol=1e-14)
    rule = LSTMRule()
    meta = dict(ours.rule_by_name())
    params, grads = {"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([0.5, 4.0])}
    new, _ = rule.update(meta, grads, rule.init(meta, params), params, loss=torch.tensor(1.0), step=0)
    expected, _ = SGD(rate).update({}, grads, {}, params, loss=torch.tensor(1.0), step=0)
    assert torch.allclose(new["a"], expected["a"], rtol=1e-15)


def test_a_shut_input_gate_moves_nothing_and_a_shut_forget_gate_forgets():
    rule, params, grads = LSTMRule(), {"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([0.5, 4.0])}
    meta = {k: torch.zeros_like(v) for k, v in rule.init_meta(params, None).items()}

    def moved(forget: float, rate: float) -> torch.Tensor:
        given = {**meta, "gates/bias": torch.tensor([forget, rate])}
        return rule.update(given, grads, rule.init(given, params), params, loss=torch.tensor(1.0), step=0)[0]["a"]

    assert torch.allclose(moved(LARGE, -LARGE), params["a"])
    assert torch.allclose(moved(-LARGE, LARGE), -grads["a"])


def by_torch(made: il.MetaLearner, batch: Task) -> tuple[dict[str, torch.Tensor], float]:
    """Gradients of the mean query loss by model and rule: one task, one step, one tensor after the other."""
    params = {k: p.detach().clone().requires_grad_() for k, p in made.model.named_parameters()}
    rule = {k: p.detach().clone().requires_grad_() for k, p in made.rule_by_name().items()}
    cell = nn.LSTMCell(4, 20)
    del cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    order = [*range(40), *range(60, 80), *range(40, 60)]  # torch has the new value third, we have it last
    weight, bias = rule["lstm/weight"][order], rule["lstm/bias"][order]
    cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = weight[:, :4], weight[:, 4:], bias, torch.zeros(80)
    total = torch.zeros(())
    for i in range(len(batch.support.x)):
        theta, states = dict(params), dict.fromkeys(params)
        gates = {k: (torch.zeros(p.numel()), torch.zeros(p.numel())) for k, p in params.items()}
        for _ in range(STEPS):
            here = {k: p.detach().requires_grad_() for k, p in theta.items()}
            loss = nn.functional.mse_loss(
                torch.func.functional_call(made.model, here, (batch.support.x[i],)), batch.support.y[i]
            )
            for k, g in zip(here, torch.autograd.grad(loss, list(here.values())), strict=True):
                old, g = theta[k].reshape(-1), g.reshape(-1)
                rows = []
                for value in g:
                    row = []
                    for number in (float(loss.detach()), float(value)):
                        if abs(number) >= math.exp(-10):
                            row += [math.log(abs(number)) / 10, math.copysign(1.0, number)]
                        else:
                            row += [-1.0, math.exp(10) * number]
                    rows.append(row)
                states[k] = cell(torch.tensor(rows), states[k])
                hidden = states[k][0]
                f, r = gates[k]
                f = torch.cat([hidden, old[:, None], f[:, None]], 1) @ rule["gates/weight"][0] + rule["gates/bias"][0]
                r = torch.cat([hidden, old[:, None], r[:, None]], 1) @ rule["gates/weight"][1] + rule["gates/bias"][1]
                gates[k] = (f.sigmoid(), r.sigmoid())
                theta[k] = (gates[k][0] * old - gates[k][1] * g).reshape(theta[k].shape)
        prediction = torch.func.functional_call(made.model, theta, (batch.query.x[i],))
        total = total + nn.functional.mse_loss(prediction, batch.query.y[i]) / len(batch.support.x)
    total.backward()
    return {k: p.grad for k, p in {**params, **rule}.items()}, float(total.detach())


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_the_meta_gradient_is_that_of_a_plain_loop(strategy):
    made, batch = learner(), tasks()
    made.strategy = strategy
    expected, loss = by_torch(made, batch)
    assert float(made.backward(batch)["loss"]) == pytest.approx(loss, rel=1e-12)
    found = {**dict(made.model.named_parameters()), **made.rule_by_name()}
    assert found.keys() == expected.keys()
    for name, p in found.items():
        assert expected[name].abs().max() > 0, name
        assert torch.allclose(p.grad, expected[name], rtol=1e-9, atol=1e-13), name


def test_recomputed_steps_give_the_same():
    batch, found = tasks(), []
    for recompute in (False, 2):
        made = learner()
        made.recompute = recompute
        made.backward(batch)
        found.append([p.grad for p in made.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(*found, strict=True))


def test_it_starts_as_slow_gradient_descent():
    rule = LSTMRule()
    for seed in range(5):
        meta = rule.init_meta({"w": torch.zeros(3)}, torch.Generator().manual_seed(seed))
        assert 4 <= meta["gates/bias"][0] <= 6 and -5 <= meta["gates/bias"][1] <= -4
        assert all(v.abs().max() <= 0.01 for k, v in meta.items() if k != "gates/bias")
        assert meta["lstm/weight"].shape == (80, 24) and meta["gates/weight"].shape == (2, 22)


def test_preprocessing_is_continuous_and_keeps_size_and_sign():
    edge = math.exp(-10)
    found = preprocess(torch.tensor([1.0, -math.e, edge, -edge, edge / 2, 0.0]), 10.0)
    expected = [[0, 1], [0.1, -1], [-1, 1], [-1, -1], [-1, 0.5], [-1, 0]]
    assert torch.allclose(found.T, torch.tensor(expected), atol=1e-12)


def test_hidden_has_to_be_a_size():
    with pytest.raises(il.ConfigError, match="hidden expected an integer of at least 1, got 0"):
        il.lstm_metalearner(model(), hidden=0)


def test_the_first_rates_are_those_of_the_bias_and_no_pair_of_numbers_is_told():
    low, high = -2.0, -1.0
    made = il.lstm_metalearner(model(), input_bias=(low, high))
    assert low <= float(made.rule_by_name()["gates/bias"][1].detach()) <= high
    assert -5.0 <= float(il.lstm_metalearner(model()).rule_by_name()["gates/bias"][1].detach()) <= -4.0
    for wrong in ((1.0, -1.0), (0.0,), (0.0, math.inf)):
        with pytest.raises(il.ConfigError, match="input_bias expected two finite numbers"):
            il.lstm_metalearner(model(), input_bias=wrong)
