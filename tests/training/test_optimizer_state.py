"""An outer optimizer's state in a checkpoint: of any shape, back without the change of a bit."""

from __future__ import annotations

import json
import math

import pytest
import torch

import innerloop as il
from innerloop.storage import load_tensors, save_tensors
from innerloop.training.optimizer_state import flat_state, put_state

HALF = torch.tensor([0.1, -0.2], dtype=torch.bfloat16)
STATE = {
    "exp_avg": torch.tensor([1.0, math.pi], dtype=torch.float64) / 3,
    "whole": torch.tensor(2**53 + 1),
    "on": torch.tensor([True, False]),
    "half": HALF,
    "number": 0.1 + 0.2,
    "large": 2**80,
    "infinite": -math.inf,
    "none": None,
    "text": "a/b",
    "yes": True,
    "past": [(HALF * 2, {"a": None, 3: [torch.arange(3)]}), []],
    "a/b": torch.zeros(0, 4),
    7: torch.ones(()),
}


class Anything(torch.optim.Optimizer):
    """Has whatever state a test gives it."""

    def __init__(self, params, lr=0.1, mode="plain", shift=None):
        super().__init__(params, {"lr": lr, "mode": mode, "shift": shift})
        self.seen = 0

    def state_dict(self):
        return {**super().state_dict(), "seen": self.seen}

    def load_state_dict(self, given):
        self.seen = given["seen"]
        super().load_state_dict(given)


def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2)) for _ in range(12)]


def through_a_file(folder, found):
    save_tensors(folder / "state", "kind", 1, found[0], {"rest": found[1]})
    tensors, header = load_tensors(folder / "state", "kind", 1)
    return tensors, header["rest"]


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_state_of_any_shape_comes_back_whole(tmp_path):
    own = parameters()
    one = Anything([{"params": own[:2]}, {"params": own[2:], "mode": "fast"}])
    for p in (own[11], own[2], own[0]):
        one.state[p] = dict(STATE)
    one.state["of all"] = {"radius": 0.3, "metric": HALF.double()}
    one.param_groups[0]["shift"] = (HALF.float(), None)
    one.seen = 5
    two = Anything([{"params": own[:2]}, {"params": own[2:]}], lr=0.7)
    put_state(two, *through_a_file(tmp_path, flat_state(one)))
    for p in own:
        assert same(
            {str(k): one.state.get(p, {}).get(k) for k in STATE}, {str(k): two.state.get(p, {}).get(k) for k in STATE}
        )
    assert len(two.state) == 4 and same(one.state["of all"], two.state["of all"]) and two.seen == 5
    assert [g["mode"] for g in two.param_groups] == ["plain", "fast"]
    assert same(two.param_groups[0]["shift"], one.param_groups[0]["shift"]) and two.param_groups[0]["lr"] == 0.7
    # In an order of their own: a resumed run writes what one that was never stopped writes.
    (tensors, rest), (again, also) = flat_state(one), flat_state(two)
    assert json.dumps(rest) == json.dumps(also)
    assert tensors.keys() == again.keys() and all(same(v, again[k]) for k, v in tensors.items())


def test_tensors_alone_are_written_as_before():
    own = parameters()
    adam = torch.optim.Adam([{"params": own, "lr": 0.1, "peak_lr": 0.2}])
    for p in own:
        p.grad = torch.ones(2)
    adam.step()
    tensors, rest = flat_state(adam)
    assert rest == {} and {name.split("/")[2] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert all(name.startswith("optimizer/") for name in tensors)


def test_what_no_file_can_hold_is_told():
    own = parameters()
    one = torch.optim.SGD(own, 0.1)
    one.state[own[0]]["what"] = {1, 2}
    with pytest.raises(il.ConfigError, match=r"state expected tensors, numbers.*got set; keep nothing else there"):
        flat_state(one)


def test_the_state_of_other_parameters_is_refused():
    own = parameters()
    one = torch.optim.SGD(own, 0.1, momentum=0.9)
    for p in own:
        p.grad = torch.ones(2)
    one.step()
    with pytest.raises(il.ConfigError, match="expected the parameters that the run was begun with, got 3 of them in 1"):
        put_state(torch.optim.SGD(own[:3], 0.1, momentum=0.9), *flat_state(one))
