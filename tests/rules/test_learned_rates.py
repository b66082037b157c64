"""Rules whose rates are learned, and plain ones, against torch's optimizers or by hand."""

from __future__ import annotations

import math
import re

import pytest
import torch

import innerloop as il
from innerloop.rules import SGD, PerLayerPerStepRates, PerParameterRates

pytestmark = pytest.mark.usefixtures("double")
PARAMS = {"a": torch.tensor([1.0, 2.0]).double(), "b.c": torch.tensor([[3.0]]).double()}
GRADS = {"a": torch.tensor([0.5, -1.0]).double(), "b.c": torch.tensor([[2.0]]).double()}


def step(rule, meta, step=0):
    return rule.update(meta, GRADS, rule.init(meta, PARAMS), PARAMS, loss=torch.tensor(0.0), step=step)[0]


def test_per_parameter_rates_start_in_their_range_and_multiply_number_by_number():
    rule = PerParameterRates(0.2, 0.4)
    rates = rule.init_meta({"w": torch.zeros(100, 10)}, torch.Generator().manual_seed(0))["rate/w"]
    assert rates.shape == (100, 10) and rates.min() >= 0.2 and rates.max() <= 0.4
    assert rates.mean() == pytest.approx(0.3, abs=0.01)
    new = step(rule, {"rate/a": torch.tensor([0.1, -0.2]), "rate/b.c": torch.tensor([[1.0]])})
    assert torch.allclose(new["a"], torch.tensor([0.95, 1.8])) and torch.allclose(new["b.c"], torch.tensor([[1.0]]))


@pytest.mark.parametrize(("number", "rate"), [(0, 0.1), (1, 0.3), (2, 0.3), (9, 0.3)])
def test_rates_of_layer_and_step(number, rate):
    rule = PerLayerPerStepRates(0.1, 2)
    meta = rule.init_meta(PARAMS, None)
    assert {name: value.tolist() for name, value in meta.items()} == {"rate/a": [0.1, 0.1], "rate/b.c": [0.1, 0.1]}
    meta["rate/a"][1] = 0.3
    new = step(rule, meta, number)
    assert torch.allclose(new["a"], PARAMS["a"] - rate * GRADS["a"])
    assert torch.allclose(new["b.c"], PARAMS["b.c"] - 0.1 * GRADS["b.c"])


@pytest.mark.parametrize(("number", "rate"), [(0, 0.1), (1, 0.3), (9, 0.3)])
def test_positive_rates_are_learned_as_logarithms(number, rate):
    rule = PerLayerPerStepRates(0.1, 2, positive=True)
    meta = rule.init_meta(PARAMS, None)
    assert all(value.tolist() == pytest.approx([math.log(0.1)] * 2) for value in meta.values())
    meta["log_rate/a"][1] = math.log(0.3)
    new = step(rule, meta, number)
    assert torch.allclose(new["a"], PARAMS["a"] - rate * GRADS["a"])
    assert torch.allclose(new["b.c"], PARAMS["b.c"] - 0.1 * GRADS["b.c"])


@pytest.mark.parametrize("positive", [False, True])
def test_the_inner_gradient_is_bounded_over_all_tensors_together(positive):
    norm = math.sqrt(0.5**2 + 1.0**2 + 2.0**2)
    for bound, share in ((norm / 4, 0.25), (10 * norm, 1.0)):
        rule = PerLayerPerStepRates(0.1, 2, positive=positive, clip_norm=bound)
        new = step(rule, rule.init_meta(PARAMS, None))
        assert all(torch.allclose(new[name], PARAMS[name] - 0.1 * share * GRADS[name]) for name in PARAMS)


def test_a_bound_has_a_derivative_where_the_gradient_is_zero():
    rule = PerLayerPerStepRates(0.1, 1, clip_norm=1.0)
    zeros = {name: torch.zeros_like(p, requires_grad=True) for name, p in PARAMS.items()}
    new = rule.update(rule.init_meta(PARAMS, None), zeros, {}, PARAMS, loss=torch.tensor(0.0), step=0)[0]
    found = torch.autograd.grad(sum(p.sum() for p in new.values()), list(zeros.values()))
    assert all(torch.allclose(g, torch.full_like(g, -0.1)) for g in found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"positive_rates": True, "learned_rates": False}, "expected learned_rates=True, got False"),
        ({"inner_clip_norm": 1.0, "learned_rates": False}, "expected learned_rates=True, got False"),
        ({"positive_rates": True, "inner_lr": 0.0}, "inner_lr expected a number above 0 with positive_rates, got 0.0"),
        ({"inner_clip_norm": 0.0}, "inner_clip_norm expected a finite number above 0, got 0.0"),
    ],
)
def test_mamlpp_refuses_what_its_rates_cannot_be(options, expected):
    with pytest.raises(il.ConfigError, match=re.escape(expected)):
        il.mamlpp(il.models.mlp(1, 1, hidden=(4,)), **options)


def test_rules_do_not_change_what_they_are_given():
    before = {name: p.clone() for name, p in PARAMS.items()}
    rule = SGD(0.1, momentum=0.5)
    state = rule.init({}, PARAMS)
    rule.update({}, GRADS, state, PARAMS, loss=torch.tensor(0.0), step=0)
    assert all(torch.equal(before[name], p) for name, p in PARAMS.items())
    assert not any(value.any() for value in state.values())
