"""Rules whose rates are learned, and plain ones, against torch's optimizers or by hand."""

from __future__ import annotations

import pytest
import torch

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


def test_rules_do_not_change_what_they_are_given():
    before = {name: p.clone() for name, p in PARAMS.items()}
    rule = SGD(0.1, momentum=0.5)
    state = rule.init({}, PARAMS)
    rule.update({}, GRADS, state, PARAMS, loss=torch.tensor(0.0), step=0)
    assert all(torch.equal(before[name], p) for name, p in PARAMS.items())
    assert not any(value.any() for value in state.values())
