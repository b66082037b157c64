"""Worlds against gymnasium's own equations, closed forms, and themselves one at a time."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop import keys as random_keys
from innerloop.errors import ConfigError
from innerloop.objectives.rollouts import roll_out, uniform_policy
from innerloop.tasks.worlds.bandit_players import bayes_value, gamma, gittins_index, is_small
from innerloop.tasks.worlds.cartpole import Cartpole
from innerloop.tasks.worlds.mdp_players import action_values
from innerloop.tasks.worlds.pendulum_swing_up import SwingUp


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_cartpole_is_gymnasiums_step_by_step():
    env = gymnasium.make("CartPole-v1").unwrapped
    world = Cartpole(double(0.5), double(0.1), double(10.0))
    for seed in range(5):
        env.reset(seed=seed)
        state = torch.as_tensor(np.array(env.state, dtype=np.float64))
        for i in range(60):
            action = (i * 7 + seed) % 3 % 2
            _, reward, over, _, _ = env.step(action)
            moment = world.step(state, torch.tensor(action), torch.tensor(0))
            assert np.allclose(moment.observation.numpy(), env.state, rtol=0, atol=1e-12)
            assert bool(moment.done) == over and float(moment.reward) == reward
            state = moment.state
            if over:
                break
        assert over, "the pole has to fall, or the limits are not looked at"


def test_swapped_pushes_push_the_other_way():
    world, other = (Cartpole(double(0.5), double(0.1), double(force)) for force in (10.0, -10.0))
    state = torch.tensor([0.1, 0.2, 0.03, -0.1], dtype=torch.float64)
    there, here = (w.step(state, torch.tensor(a), torch.tensor(0)).state for w, a in ((world, 0), (other, 1)))
    assert torch.equal(there, here)


def test_pendulum_is_gymnasiums_step_by_step():
    env = gymnasium.make("Pendulum-v1").unwrapped
    world = SwingUp(double(1.0), double(1.0), double(10.0))
    for seed in range(3):
        env.reset(seed=seed)
        state = torch.as_tensor(np.array(env.state, dtype=np.float64))
        for i in range(100):
            action = np.array([3.0 * np.sin(0.3 * i + seed)])  # beyond what is clipped
            _, reward, _, _, _ = env.step(action)
            moment = world.step(state, torch.as_tensor(action), torch.tensor(0))
            assert np.allclose(moment.state.numpy(), env.state, rtol=0, atol=1e-10)
            assert float(moment.reward) == pytest.approx(float(reward), abs=1e-10)
            state = moment.state


def test_a_point_walks_and_arrives():
    tasks = il.worlds.navigation(trials=1).test.at(0, 0, 30)
    act, carry = il.worlds.navigation().test.known["bound_known_goal"](tasks.query)
    played = roll_out(tasks.query, act, carry, tasks.noise)[0]
    distance = tasks.query.goal.abs().amax(-1)
    steps = torch.ceil((distance - 0.01) / 0.1).clamp(min=1)
    assert torch.equal(played.playing.sum(1).float(), steps), "it ends where it arrives"
    assert bool(played.done.any(1).all()) and bool((played.rewards <= 0).all())
    first = (tasks.query.goal - tasks.query.goal.clamp(-0.1, 0.1)).square().sum(-1).sqrt()
    assert torch.allclose(played.rewards[:, 0], -first, atol=1e-6), "minus the distance, not its square"
    assert float(played.rewards[~played.playing].abs().sum()) == 0


def test_the_optimum_of_bandits():
    assert bayes_value(5, 1) == pytest.approx(0.5)
    assert bayes_value(2, 2) == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 0.5)
    assert bayes_value(5, 10) == pytest.approx(6.660, abs=5e-4)
    assert is_small(5, 10) and not is_small(5, 100)


def test_the_gittins_index_of_one_arm():
    table = gittins_index(12)
    wins, losses = (v.float() for v in torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    chance = (wins + 1) / (wins + losses + 2)
    assert torch.allclose(table[1, :5, :5], chance, atol=2e-3), "with one pull left it is what is expected"
    # With two left, by hand: p + p q1 + (1 - p) l = 2 l where one goes on after a win alone.
    p, q = 0.5, 2 / 3
    assert float(table[2, 0, 0]) == pytest.approx((p + p * q) / (1 + p), abs=2e-3)
    assert bool((table[2:12, :3, :3].diff(dim=0) > -1e-5).all()), "the more pulls are left, the more exploring is worth"


@pytest.mark.parametrize("shape", [1.0, 3.5, 40.0])
def test_gamma_variates(shape):
    drawn = gamma(random_keys.task_keys(0, "gamma", 0, 0, 40_000), torch.full((40_000, 1), shape))
    assert float(drawn.mean()) == pytest.approx(shape, rel=0.03)
    assert float(drawn.var()) == pytest.approx(shape, rel=0.06)


def test_players_come_out_in_their_order():
    tasks = il.tasks.bandits(pulls=100).valid
    batch = tasks.at(0, 0, 1_500)
    earned = {name: float(tasks.measure_beside(name, batch, batch.noise).mean()) for name in tasks.beside}
    assert list(earned) == ["random", "thompson", "ucb", "gittins"]
    for name, value in {"random": 49.9, "thompson": 74.7, "ucb": 78.2, "gittins": 78.3}.items():  # as published
        assert earned[name] == pytest.approx(value, abs=1.2)


def test_value_iteration():
    means = torch.tensor([[[1.0, 3.0], [0.0, -1.0]]])  # going on in state 0 for 3, or to state 1
    transitions = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    values = action_values(means, transitions, 3)
    # From state 0: 3, then back for -1, then 3; staying gives 1 + 1 + 3, the same.
    assert float(values[0, 0, 0].max()) == 5.0 and float(values[2, 0, 1].max()) == 0.0


def test_no_player_beats_the_bound_on_average():
    for family, bound in (
        (il.tasks.tabular_mdp(), "bound_value_iteration"),
        (il.tasks.rock_paper_scissors(), "bound_known_habits"),
    ):
        batch = family.valid.at(0, 0, 300)
        found = {n: float(family.valid.measure_beside(n, batch, batch.noise).mean()) for n in family.valid.beside}
        assert all(value < found[bound] for name, value in found.items() if name != bound)
        assert found["random"] == min(found.values())


def test_habits_that_are_certain_are_beaten_each_time():
    family = il.tasks.rock_paper_scissors(rounds=20)
    batch = family.test.at(0, 0, 8)
    sure = pytree.tree_map(lambda v: 1e4 * v, batch.query)
    value = family.test.measure_beside("bound_known_habits", dataclasses.replace(batch, query=sure), batch.noise)
    assert torch.allclose(value, torch.full((8,), 20.0, dtype=value.dtype))


@pytest.mark.parametrize(
    "name", ["bandits", "navigation", "tabular_mdp", "cartpole", "pendulum_swing_up", "rock_paper_scissors"]
)
def test_vmapped_is_one_by_one(name):
    family = getattr(il.worlds, name)()
    batch = family.train.at(0, 0, 3)
    act = uniform_policy(family.train.objective.actions)
    whole = roll_out(batch.query, act, (), batch.noise)[0]
    for i in range(3):
        world = pytree.tree_map(lambda v, i=i: v[i], batch.query)
        key = batch.noise[i]
        state, seen = world.reset(random_keys.fold(random_keys.fold(key, 71), 0))
        for step in range(min(world.horizon, 12)):
            assert torch.allclose(seen, whole.observations[i, step], atol=1e-5)
            at = random_keys.fold(random_keys.fold(random_keys.fold(key, 72), step), 74)
            moment = world.step(state, whole.actions[i, step], at)
            assert torch.allclose(moment.reward, whole.rewards[i, step], atol=1e-4)
            state, seen = moment.state, moment.observation
            if bool(moment.done):
                break


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: il.tasks.bandits(arms=1), "arms expected a whole number from 2 to 1,000, got 1"),
        (lambda: il.tasks.bandits(arms=1001), "arms expected"),
        (lambda: il.tasks.bandits(pulls=0), "pulls expected a whole number from 1 to 10,000, got 0"),
        (lambda: il.tasks.bandits(pulls=2.5), "pulls expected"),
        (lambda: il.tasks.tabular_mdp(actions=1), "actions expected"),
        (lambda: il.tasks.tabular_mdp(episodes=0), "episodes expected"),
        (lambda: il.tasks.cartpole(length=(1.0, 0.5)), r"length expected \(low, high\)"),
        (lambda: il.tasks.cartpole(swapped=2), "swapped expected a share from 0 to 1, got 2"),
        (lambda: il.worlds.pendulum(mass=(0.0, 1.0)), "mass expected"),
        (lambda: il.tasks.rock_paper_scissors(habit=float("nan")), "habit expected"),
        (lambda: il.tasks.navigation(steps=0), "steps expected"),
    ],
)
def test_numbers_out_of_range_are_one_line(make, said):
    with pytest.raises(ConfigError, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_worlds_go_by_both_names():
    assert il.worlds.bandits is il.tasks.bandits and il.worlds.pendulum is il.tasks.pendulum_swing_up
    assert "bandits" in dir(il.worlds)
    with pytest.raises(AttributeError):
        il.worlds.sinusoid  # noqa: B018
