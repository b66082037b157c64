"""Every family of worlds, and every method for them: keys decide all, chunks change nothing, files bring it back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from contract_table import assert_same, gradients
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop import keys as random_keys
from innerloop import methods, models
from innerloop import tasks as problems
from innerloop.assemble import assemble
from innerloop.core import TaskFamily
from innerloop.objectives.policy import Policy
from innerloop.objectives.rollouts import expect_sound, memoryless, roll_out
from innerloop.objectives.world import World

# The robot is played by MuJoCo in processes; tests/tasks/worlds/test_half_cheetah.py holds it to what it says.
WORLDS, AGENTS = sorted(set(problems.WORLDS) - {"half_cheetah"}), sorted(methods.AGENTS)
# What makes a family small.
SMALL: dict[str, dict[str, Any]] = {
    "bandits": {"arms": 3, "pulls": 4},
    "navigation": {"steps": 6, "trials": 2},
    "tabular_mdp": {"states": 3, "actions": 2, "steps": 3, "episodes": 2},
    "cartpole": {"steps": 12, "episodes": 2},
    "pendulum_swing_up": {"steps": 5},
    "rock_paper_scissors": {"rounds": 5},
}
every_world = pytest.mark.parametrize("name", WORLDS)
every_pair = pytest.mark.parametrize(("method", "name"), list(itertools.product(AGENTS, WORLDS)))


def family(name: str) -> TaskFamily:
    return getattr(problems, name)(**SMALL.get(name, {}))


def made(method: str, name: str, seed: int = 0) -> tuple[Any, TaskFamily]:
    return assemble(method, name, task_options=SMALL.get(name, {}), seed=seed)


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(*map(pytree.tree_leaves, (first, second)), strict=True))


@every_world
def test_tasks_are_functions_of_their_keys(name):
    tasks = family(name)
    for split in ("train", "valid", "test"):
        one = getattr(tasks, split)
        keys = random_keys.task_keys(0, split, 0, 0, 7)
        whole = one.from_keys(keys)
        assert same(one.from_keys(keys[2:5]), pytree.tree_map(lambda v: v[2:5], whole))
        assert not same(one.from_keys(keys + 1), whole) and one.split == split and one.name == name
    assert not same(tasks.valid.at(0, 0, 3).query, tasks.test.at(0, 0, 3).query)
    assert same(getattr(problems, name)(**tasks.options).train.at(0, 0, 3), tasks.train.at(0, 0, 3))


@every_world
def test_a_world_is_what_its_objective_says(name):
    tasks = family(name).train
    batch, objective = tasks.at(0, 0, 5), tasks.objective
    assert isinstance(batch.query, World) and isinstance(objective, Policy) and batch.noise is not None
    objective.check(batch)
    assert same(batch.support, batch.query), "both sides are one world"
    torch.manual_seed(0)
    model = tasks.default_model()
    assert models.describe(model) is not None
    act = memoryless(lambda x: model(x).detach(), objective.actions)
    played = roll_out(batch.query, act, (), batch.noise, objective.episodes)[0]
    expect_sound(played)
    assert played.observations.shape == (5, objective.horizon * objective.episodes, objective.observation_size)
    assert played.rewards.shape == played.playing.shape == played.done.shape
    assert played.rewards.std() > 0 or name == "cartpole"
    if not batch.query.ends_early:
        assert bool(played.playing.all()) and not bool(played.done.any())
    part = tasks.at(0, 0, 2, start=3)
    some = roll_out(part.query, act, (), part.noise, objective.episodes)[0]
    assert torch.allclose(some.rewards, played.rewards[3:], atol=1e-5) and torch.equal(some.playing, played.playing[3:])


@every_world
def test_what_stands_beside_is_finite_and_the_same_in_any_chunk(name):
    tasks = family(name).valid
    batch = tasks.at(0, 0, 6)
    assert "random" in tasks.beside
    for beside in tasks.beside:
        whole = tasks.measure_beside(beside, batch, batch.noise)
        assert whole.shape == (6,) and bool(torch.isfinite(whole).all())
        part = pytree.tree_map(lambda v: v[2:4], batch)
        assert torch.allclose(tasks.measure_beside(beside, part, part.noise), whole[2:4], atol=1e-4), beside


@every_pair
def test_it_trains_evaluates_and_comes_back(method, name, tmp_path):
    learner, tasks = made(method, name)
    il.fit(learner, tasks, steps=2, num_tasks=4, valid_tasks=4, out=tmp_path / "run", quiet=True)
    report = il.evaluate(learner, tasks.test, num_tasks=5)
    again = il.evaluate(il.load(tmp_path / "run"), tasks.test, num_tasks=5)
    assert report.per_task == again.per_task and report.metric == "return" and report.higher_is_better
    assert set(report.baselines) == set(tasks.test.beside)


class _Cut(Exception):
    """The power goes off."""


def _cut(batches: Any, after: int) -> Any:
    def some(*args: Any, **kwargs: Any) -> Any:
        yield from itertools.islice(batches(*args, **kwargs), after)
        raise _Cut

    return some


@every_pair
def test_a_run_resumes_to_the_same_bits(method, name, tmp_path):
    settings: dict[str, Any] = {
        "num_tasks": 4,
        "valid_tasks": 4,
        "validate_every": 1,
        "quiet": True,
        "strategy": "vmapped",
    }
    whole, tasks = made(method, name)
    il.fit(whole, tasks, steps=3, out=tmp_path / "whole", **settings)
    first, _ = made(method, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tasks.train), "batches", _cut(type(tasks.train).batches, 2))
        with pytest.raises(_Cut):
            il.fit(first, tasks, steps=3, out=tmp_path / "cut", checkpoint_every=1, **settings)
    second, _ = made(method, name, seed=5)
    il.fit(second, tasks, steps=3, out=tmp_path / "cut", resume=True, **settings)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_pair
def test_strategies_agree(method, name, double):
    found = {}
    for strategy in ("looped", "vmapped"):
        learner, tasks = made(method, name)
        learner = learner.to(torch.float64)
        learner.strategy = strategy
        stored = learner.experience(tasks.train.at(0, 0, 3))
        learner.backward(stored)
        found[strategy] = gradients(learner)
    assert_same(found["looped"], found["vmapped"], 1e-8)


@every_pair
def test_agents_act_and_come_back_from_files(method, name, tmp_path):
    learner, tasks = made(method, name)
    il.fit(learner, tasks, steps=1, num_tasks=4, valid_tasks=2, quiet=True)
    world = tasks.test.world(seed=0, number=1)
    agent = learner.adapt(world, steps=1)
    again = il.load(agent.save(tmp_path / "agent.il"))
    observation = [0.1] * tasks.test.objective.observation_size
    for one in (agent, again):
        one.reset(seed=3)
    for reward in (0.0, 1.0, -1.0):
        first, second = (one.act(observation, reward) for one in (agent, again))
        assert torch.equal(torch.as_tensor(first), torch.as_tensor(second))
    assert agent.score(world, trials=3) == again.score(world, trials=3)
    assert agent.learn(world, steps=1).score(world, trials=3) == again.learn(world, steps=1).score(world, trials=3)


@pytest.mark.parametrize("method", AGENTS)
def test_other_problems_are_refused(method):
    with pytest.raises(il.ConfigError, match="expected worlds"):
        learner = getattr(il, method)(il.models.gru_policy(1, 1))
        learner.backward(il.tasks.sinusoid().train.at(0, 0, 2))


@pytest.mark.parametrize("method", AGENTS)
def test_the_doctor_finds_its_gradient_right(method):
    learner, tasks = made(method, "bandits")
    found = il.check_meta_gradient(learner, tasks.train.at(0, 0, 2))
    assert found.ok, found.problems
