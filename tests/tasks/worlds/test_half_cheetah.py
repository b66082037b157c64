"""A robot of MuJoCo: two directions, one reward each, played in this process."""

import sys

import pytest
import torch

import innerloop as il
from innerloop.assemble import assemble

SMALL = {"steps": 5, "num_envs": 1, "trials": 1}


def test_without_mujoco_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(il.ConfigError, match=r"expected MuJoCo, got none .*; pip install .innerloop\[mujoco\]"):
        il.tasks.half_cheetah(**SMALL)


def test_the_reward_is_the_speed_in_the_world_s_direction_less_the_effort():
    pytest.importorskip("mujoco")
    worlds = il.tasks.half_cheetah(**SMALL).test.at(0, 0, 12).query
    ways = {int(row) for row in worlds.parameters[:, 0]}
    assert ways == {0, 1}
    rewards, action = {}, torch.full((1, 6), 0.5)
    for way in ways:
        one = worlds.__class__(torch.tensor([[float(way)]]), worlds.pool)
        one.reset_many(torch.tensor([7]))
        rewards[way] = float(one.step_many((), action, torch.tensor([0]), torch.tensor([True])).reward)
    # The same step forwards and backwards: the speeds cancel, twice the effort is left.
    assert rewards[0] + rewards[1] == pytest.approx(-2 * 0.05 * 6 * 0.25, abs=1e-5)
    assert rewards[0] != pytest.approx(rewards[1], abs=1e-3)


def test_a_policy_meta_trains_on_it_and_its_run_goes_on(tmp_path):
    pytest.importorskip("mujoco")
    torch.manual_seed(0)
    learner, family = assemble("maml_rl", "half_cheetah", task_options=SMALL, algorithm_options={"episodes": 1})
    given = {"num_tasks": 2, "validate_every": 0, "quiet": True, "strategy": "vmapped"}
    il.fit(learner, family, steps=1, out=tmp_path / "run", **given)
    done = il.fit(learner, family, steps=2, out=tmp_path / "run", resume=True, **given)
    assert done.steps == 2 and il.load(tmp_path / "run").name == "maml_rl"
