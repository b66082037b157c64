"""Rollouts, advantages and the linear baseline against loops and closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import innerloop as il
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.objectives.policy import Policy, surrogate, trial_keys
from innerloop.objectives.rollouts import (
    Acted,
    Rollouts,
    advantages,
    discounted,
    expect_sound,
    linear_baseline,
    memoryless,
    roll_out,
    standardised,
    uniform_policy,
)
from innerloop.objectives.world import Continuous, Discrete, Moment, World, one_of, repeated
from innerloop.records import record, static

pytestmark = pytest.mark.usefixtures("double")


@record
class Countdown(World):
    """Ends by itself after ``left`` steps; pays 1, 2, 3, ...; a reward of ``spoiled`` at the second."""

    left: Tensor
    spoiled: Tensor
    steps: int = static(5)

    actions = Discrete(2)
    observation_size = 1

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.steps

    def reset(self, key: Tensor) -> tuple[Any, Tensor]:
        return torch.zeros_like(self.left), torch.zeros_like(self.left)[None]

    def step(self, state: Tensor, action: Tensor, key: Tensor) -> Moment:
        state = state + 1
        return Moment(state, state[None], torch.where(state == 2, self.spoiled, state), state >= self.left)


def countdowns(*left: float, spoiled: float = 2.0) -> Countdown:
    return Countdown(torch.tensor(left), torch.full((len(left),), spoiled))


def test_what_comes_after_an_early_end_counts_nowhere():
    worlds = countdowns(2.0, 9.0)
    played, _, seen = roll_out(worlds, uniform_policy(worlds.actions), (), torch.arange(2), episodes=2)
    assert played.rewards.tolist() == [[1, 2, 0, 0, 0] * 2, [1, 2, 3, 4, 5] * 2]
    assert played.playing.tolist() == [[True, True, False, False, False] * 2, [True] * 10]
    assert played.done.tolist() == [[False, True, False, False, False] * 2, [False] * 10]
    assert played.returns().tolist() == [[3, 3], [15, 15]] and played.episodes == 2
    assert seen.done.all() and seen.reward.tolist() == [2, 5]
    assert played.by_episode().rewards.shape == (4, 5)


def test_a_policy_is_told_what_it_did_and_when_an_episode_ended():
    worlds, told = countdowns(2.0), []

    def act(carry: Tensor, seen: Any, keys: Tensor) -> Acted:
        told.append((int(seen.action), float(seen.reward), bool(seen.done), float(seen.observation)))
        return Acted(carry + 1, torch.ones(1, dtype=torch.int64), {})

    _, carry, _ = roll_out(worlds, act, torch.zeros(1), torch.arange(1), episodes=2)
    assert told[:2] == [(-1, 0.0, False, 0.0), (1, 1.0, False, 1.0)]
    assert told[5:7] == [(1, 2.0, True, 0.0), (1, 1.0, False, 1.0)]
    assert float(carry) == 4, "no memory is made of padding"


def test_the_same_keys_give_the_same_rollouts_whatever_the_chunk():
    family = il.tasks.cartpole(episodes=2, steps=30)
    tasks = family.train.at(0, 0, 6)
    torch.manual_seed(0)
    net = il.models.mlp(4, 2)
    act = memoryless(lambda x: net(x).detach(), Discrete(2))
    whole = roll_out(tasks.query, act, (), tasks.noise, 2)[0]
    part = family.train.at(0, 0, 2, start=3)
    some = roll_out(part.query, act, (), part.noise, 2)[0]
    assert torch.equal(some.actions, whole.actions[3:5]) and torch.equal(some.playing, whole.playing[3:5])
    assert torch.allclose(some.observations, whole.observations[3:5], atol=1e-12)
    again = roll_out(repeated(part.query, 3), act, (), trial_keys(part.noise, 3).flatten(), 2)[0]
    assert not torch.equal(again.rewards[0], again.rewards[1]), "trials in one world have keys of their own"


def by_hand(rewards: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    found = torch.zeros_like(rewards)
    for t in range(len(rewards)):
        for k in range(t, len(rewards)):
            ahead = values[k + 1] if k + 1 < len(rewards) else 0.0
            found[t] += (discount * trace) ** (k - t) * (rewards[k] + discount * ahead - values[k])
    return found


@pytest.mark.parametrize("trace", [0.0, 0.3, 0.95, 1.0])
def test_advantages_are_the_sums_of_the_paper(trace):
    rewards, values = torch.randn(3, 7), torch.randn(3, 7)
    found = advantages(rewards, values, torch.ones(3, 7, dtype=torch.bool), 0.9, trace)
    for row, r, v in zip(found, rewards, values, strict=True):
        assert torch.allclose(row, by_hand(r, v, 0.9, trace), atol=1e-12)
    if trace == 1.0:
        assert torch.allclose(found, discounted(rewards, 0.9) - values)


def test_padding_is_passed_over():
    playing = torch.tensor([[True, True, False, True, False, True, True]])
    rewards, values = torch.randn(1, 7) * playing, torch.randn(1, 7)
    found = advantages(rewards, values, playing, 0.9, 0.8)
    assert torch.allclose(found[playing], by_hand(rewards[playing], values[playing], 0.9, 0.8), atol=1e-12)
    assert float(found[~playing].abs().sum()) == 0


def test_the_linear_baseline_finds_what_is_linear_in_its_features():
    observations = torch.randn(6, 9, 2)
    time = torch.arange(9) / 100
    returns = 3 * observations[..., 0] - observations[..., 1].square() + 5 * time + 40 * time**2 - 2
    playing = torch.rand(6, 9) > 0.2
    spoiled = torch.where(playing, returns, 1e3)
    found = linear_baseline(observations, spoiled, playing, penalty=1e-9)
    assert torch.allclose(found[playing], returns[playing], atol=1e-4)
    many = torch.vmap(linear_baseline)(observations[None], spoiled[None], playing[None])
    assert torch.allclose(many[0], linear_baseline(observations, spoiled, playing))


def test_standardised_values():
    values, playing = torch.randn(4, 5) * 3 + 7, torch.rand(4, 5) > 0.3
    found = standardised(values, playing)
    assert float(found[playing].mean()) == pytest.approx(0, abs=1e-9)
    assert float(found[playing].square().mean()) == pytest.approx(1, abs=1e-6) and not found[~playing].any()


@pytest.mark.parametrize("actions", [Discrete(4), Continuous(3)])
def test_distributions(actions):
    outputs = torch.randn(2, actions.outputs, requires_grad=True)
    keys = torch.arange(40_000)
    drawn = actions.sample(outputs[0].detach().expand(len(keys), -1), keys)
    if isinstance(actions, Discrete):
        known: Any = torch.distributions.Categorical(logits=outputs)
        assert torch.allclose(torch.bincount(drawn) / len(keys), outputs[0].softmax(-1), atol=0.01)
        action = torch.tensor([1, 3])
        other: Any = torch.distributions.Categorical(logits=outputs.flip(0))
        divergence = torch.distributions.kl_divergence(known, other)
    else:
        known = torch.distributions.Independent(torch.distributions.Normal(outputs[:, :3], outputs[:, 3:].exp()), 1)
        assert torch.allclose(drawn.mean(0), outputs[0, :3], atol=0.05)
        assert torch.allclose(drawn.std(0), outputs[0, 3:].exp(), rtol=0.03)
        action = torch.randn(2, 3)
        other = torch.distributions.Independent(
            torch.distributions.Normal(outputs.flip(0)[:, :3], outputs.flip(0)[:, 3:].exp()), 1
        )
        divergence = torch.distributions.kl_divergence(known, other)
    assert torch.allclose(actions.log_prob(outputs, action), known.log_prob(action))
    assert torch.allclose(actions.entropy(outputs), known.entropy())
    assert torch.allclose(actions.divergence(outputs, outputs.flip(0)), divergence)


def test_the_surrogates_gradient_is_the_policy_gradient():
    """On a two-armed bandit: the mean of advantage times the score, against the exact gradient of the expected return."""
    chances = torch.tensor([0.2, 0.7])
    logits = torch.tensor([0.3, -0.4], requires_grad=True)
    family = il.tasks.bandits(arms=2, pulls=1)
    worlds = dataclasses.replace(family.train.at(0, 0, 1).query, chances=chances[None].expand(60_000, 2))
    act = memoryless(lambda x: logits.detach().expand(len(x), 2), Discrete(2))
    played = roll_out(worlds, act, (), torch.arange(60_000))[0]
    loss = surrogate(lambda x: logits.expand(len(x), 2), Discrete(2), played, played.rewards)
    (found,) = torch.autograd.grad(loss, logits)
    (exact,) = torch.autograd.grad((logits.softmax(-1) * chances).sum(), logits)
    assert torch.allclose(-found, exact, atol=4e-3)
    clipped = surrogate(lambda x: logits.expand(len(x), 2), Discrete(2), played, played.rewards, clip=0.2)
    assert torch.allclose(torch.autograd.grad(clipped, logits)[0], found, atol=1e-9), "the same where nothing moved yet"


def test_what_is_not_finite_is_named():
    worlds = countdowns(9.0, 9.0, spoiled=float("nan"))
    played = roll_out(worlds, uniform_policy(worlds.actions), (), torch.arange(2))[0]
    with pytest.raises(InputError, match=r"got a reward of \[nan\] at step 1 of trial 0; mend its step\(\)"):
        expect_sound(played)
    fine = roll_out(countdowns(9.0), uniform_policy(worlds.actions), (), torch.arange(1))[0]
    expect_sound(fine)


def test_a_world_has_to_end_and_to_fit():
    objective = Policy(Discrete(2), 1, 5)
    objective.expect_world(countdowns(3.0))
    endless = dataclasses.replace(countdowns(3.0), steps=None)
    with pytest.raises(ConfigError, match="without one an episode may never end"):
        objective.expect_world(endless)
    with pytest.raises(ShapeError, match="observations have 3 numbers, as in training, got 1"):
        Policy(Discrete(2), 3, 5).expect_world(countdowns(3.0))
    with pytest.raises(InputError, match="actions"):
        Policy(Discrete(3), 1, 5).expect_world(countdowns(3.0))


def test_what_is_measured():
    objective = Policy(Discrete(2), 1, 5, episodes=2, trials=3)
    world = Countdown(torch.tensor(3.0), torch.tensor(2.0))
    found = objective.measure(lambda x: torch.zeros(len(x), 2), world, torch.tensor(5))
    assert {k: float(v) for k, v in found.items()} == {"return": 12.0, "first_episode": 6.0, "last_episode": 6.0}
    played = objective.play(lambda x: torch.zeros(len(x), 2), world, torch.tensor(5), 3)
    assert isinstance(played, Rollouts) and played.rewards.shape == (3, 10)
    assert one_of(world, 4).left.shape == (4,)
