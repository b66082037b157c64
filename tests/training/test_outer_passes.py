"""Several steps of the outer optimizer on the tasks of one draw: one outer step to everything else."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest
import torch

import innerloop as il
from innerloop.engine import compiling
from innerloop.storage import load_tensors
from innerloop.training.whole_step import WholeStep

SETTINGS = {
    "steps": 4, "num_tasks": 2, "validate_every": 0, "checkpoint_every": 2, "log_every": 1, "outer_lr": 1e-2, "quiet": True,
    "outer_passes": 3, "precision": "float64", "strategy": "vmapped",
}  # fmt: skip


def learner(**options) -> il.MetaLearner:
    torch.manual_seed(1)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), **{"inner_lr": 0.01, **options}).double()


def tasks() -> il.TaskFamily:
    return il.tasks.sinusoid(shots=3, queries=3)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_they_are_steps_of_torchs_own_on_one_batch(tmp_path, name):
    one, other = learner(), learner()
    il.fit(one, tasks(), out=tmp_path, outer_optimizer=name, schedule="linear", **SETTINGS)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[name]
    optimizer = kind(other.parameters(), lr=1e-2)
    told = []
    for step in range(4):
        batch = tasks().train.at(0, step, 2)
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 4)
        for number in range(3):
            loss = float(other.backward(batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
            told += [loss] if number == 0 else []
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert losses(tmp_path) == pytest.approx(told, rel=1e-9)
    _, header = load_tensors(tmp_path / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert (header["step"], header["outer_step"], one.outer_step) == (4, 4, 4)


def test_resumed_bit_for_bit(tmp_path):
    whole = learner()
    il.fit(whole, tasks(), out=tmp_path / "whole", **SETTINGS)
    cut = learner()
    backward, calls = cut.backward, []

    def stopping(batch, **options):
        calls.append(options["outer_step"])
        if len(calls) == 11:  # in the second pass of the last step
            raise RuntimeError("killed")
        return backward(batch, **options)

    cut.backward = stopping
    with pytest.raises(RuntimeError, match="killed"):
        il.fit(cut, tasks(), out=tmp_path / "cut", **SETTINGS)
    assert calls == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    again = learner()
    il.fit(again, tasks(), out=tmp_path / "cut", resume=True, **SETTINGS)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    ends = [
        load_tensors(tmp_path / p / "checkpoint.safetensors", "innerloop-checkpoint", 1)[0] for p in ("whole", "cut")
    ]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(v, ends[1][k]) for k, v in ends[0].items())


def test_tasks_are_drawn_once_a_step(monkeypatch):
    one, seen = learner(), []
    backward = one.backward

    def looking(batch, **options):
        seen.append(batch.support.x)
        return backward(batch, **options)

    one.backward = looking
    il.fit(one, tasks(), **SETTINGS)
    assert len(seen) == 12 and all(torch.equal(seen[i], seen[i - i % 3]) for i in range(12))
    assert len({float(x.sum()) for x in seen}) == 4


def test_what_a_meta_gradient_carries_moves_on_once_a_step():
    """PES walks on along an inner loop from one outer step to the next; passes over one draw are over one part of it."""
    found = []
    for passes in (1, 3):
        one = il.with_meta_gradient(learner(inner_steps=6), "pes", num_pairs=2, truncation=2)
        # Without a rate nothing else can differ. Four steps are one inner loop and a part of the next.
        il.fit(one, tasks(), **{**SETTINGS, "outer_passes": passes, "outer_lr": 0.0})
        found.append(one.carry)
    assert int(found[0]["step"]) == 2
    assert found[0].keys() == found[1].keys() and all(torch.equal(v, found[1][k]) for k, v in found[0].items())


def test_the_meta_gradient_is_compiled_and_the_passes_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling, "Attempt", Mock())
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, _: graph)
    monkeypatch.setattr(WholeStep, "run", lambda *_: pytest.fail("one pass only"))
    found = []
    for strategy in ("compiled", "vmapped"):
        one = learner()
        il.fit(one, tasks(), out=tmp_path / strategy, **{**SETTINGS, "steps": 24, "strategy": strategy})
        assert bool(one.compiled._functions) is (strategy == "compiled")
        found.append(one)
    for mine, theirs in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_a_number_of_passes_that_cannot_be(wrong):
    with pytest.raises(il.ConfigError, match="outer_passes expected an integer of at least 1"):
        il.fit(learner(), tasks(), **{**SETTINGS, "outer_passes": wrong})
