"""RL^2: it learns, it remembers over episodes, and its loss is PPO's."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import innerloop as il
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.objectives.rollouts import Rollouts


def test_it_learns_to_stay_with_the_arm_that_pays():
    torch.manual_seed(0)
    family = il.tasks.bandits(arms=2, pulls=6)
    learner = il.rl2(il.models.gru_policy(1, 2, hidden=24), entropy=0.02)
    before = il.evaluate(learner, family.test, num_tasks=1_000, baselines=False).mean
    il.fit(learner, family, steps=60, num_tasks=256, outer_lr=0.02, validate_every=0, strategy="vmapped", quiet=True)
    report = il.evaluate(learner, family.test, num_tasks=1_000)
    assert before == pytest.approx(3.0, abs=0.2)
    assert report.mean > before + 0.25, f"{before} to {report.mean}"
    assert report.mean < report.baselines["bayes_optimum"].mean + 0.1, "nobody does better than the best"


def test_its_first_gradient_is_that_of_the_advantage():
    """Nothing has moved, so ratios are 1: minus the mean of advantage times score, plus the other two terms."""
    torch.manual_seed(0)
    family = il.tasks.tabular_mdp(states=3, actions=2, steps=3, episodes=2)
    learner = il.rl2(il.models.gru_policy(3, 2, hidden=4), entropy=0.3, value=0.7)
    stored = learner.experience(family.train.at(0, 0, 5))
    assert isinstance(stored.query, Rollouts) and stored.query.rewards.shape == (5, 6)
    learner.backward(stored)
    found = {name: p.grad.clone() for name, p in learner.named_parameters()}
    learner.zero_grad()
    played = stored.query
    out = learner.model(played.noted["inputs"])
    logs = out[..., :-1].log_softmax(-1)
    gain = logs.gather(-1, played.actions[..., None])[..., 0] * played.noted["advantage"]
    entropy = -(logs.exp() * logs).sum(-1)
    loss = 0.7 * (out[..., -1] - played.noted["target"]).square().mean() - gain.mean() - 0.3 * entropy.mean()
    loss.backward()
    for name, p in learner.named_parameters():
        assert torch.allclose(p.grad, found[name], atol=1e-5), name


def test_several_passes_share_one_draw(monkeypatch):
    family, learner = il.tasks.bandits(), il.rl2(il.models.gru_policy(1, 5, hidden=4))
    kind, calls, steps = type(learner.learner), [], []
    gather = kind.experience
    monkeypatch.setattr(kind, "experience", lambda *a: calls.append(isinstance(a[2].query, Rollouts)) or gather(*a))
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *a: steps.append(1) or step(self, *a))
    il.fit(learner, family, steps=2, num_tasks=8, validate_every=0, strategy="vmapped", quiet=True)
    assert len(steps) == 8, "four passes are its own"
    assert calls == [False] * 3, "once a draw, and once to decide how steps are run"


def test_whoever_has_a_loop_of_his_own_needs_no_experience():
    family = il.tasks.bandits(pulls=4)
    one, two = (il.rl2(_seeded()) for _ in range(2))
    batch = family.train.at(0, 0, 6)
    first, second = one.backward(batch), two.backward(two.experience(batch))
    assert float(first["loss"]) == float(second["loss"])
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def _seeded() -> torch.nn.Module:
    torch.manual_seed(0)
    return il.models.gru_policy(1, 5, hidden=4)


def test_its_memory_outlives_an_episode():
    family = il.tasks.bandits(pulls=3)
    learner = il.rl2(_seeded())
    learner.spec = family.train.spec
    world = family.test.world()
    fresh, played = learner.adapt(world), learner.adapt(world, episodes=2)
    assert int(fresh.fast.episodes) == 0 and not fresh.fast.state.any()
    assert int(played.fast.episodes) == 2 and bool(played.fast.state.any()) and bool(played.fast.done)
    on = learner.adapt(world, episodes=1).learn(world, steps=1)
    assert int(on.fast.episodes) == 2
    report = il.evaluate(learner, family.test, num_tasks=4, curve_steps=2)
    assert len(report.curve) == 3 and report.curve[0] == report.mean


def test_a_spoiled_world_is_named(monkeypatch):
    batch = il.tasks.bandits(pulls=3).train.at(0, 0, 2)
    kind = type(batch.query)
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda *a: step(*a)._replace(reward=torch.full((), torch.nan)))
    with pytest.raises(
        InputError, match=r"expected finite rewards and observations, got a reward of \[nan\] at step 0"
    ):
        il.rl2(_seeded()).experience(batch)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (
            lambda: il.rl2(il.models.gru_policy(1, 5), trace=1.5),
            ConfigError,
            "trace expected a number from 0 to 1, got 1.5",
        ),
        (lambda: il.rl2(il.models.gru_policy(1, 5), clip=-1), ConfigError, "clip expected a number of at least 0"),
        (lambda: il.rl2(il.models.mlp(1, 5)).backward(_batch()), ConfigError, "a policy with a memory, such as"),
        (
            lambda: il.rl2(il.models.gru_policy(2, 5)).backward(_batch()),
            ShapeError,
            "8 numbers: 1 of an observation, 5 of the",
        ),
        (
            lambda: il.rl2(il.models.gru_policy(1, 4, actions=5)).backward(_batch()),
            ShapeError,
            "build it with outputs=5",
        ),
        (
            lambda: il.rl2(il.models.gru_policy(1, 1)).backward(il.tasks.sinusoid().train.at(0, 0, 2)),
            ConfigError,
            "worlds",
        ),
        (lambda: _adapted().act([0.0, 1.0]), ShapeError, "expected 1 numbers, as in training, got shape"),
        (lambda: _adapted().act([float("nan")]), InputError, "finite"),
        (lambda: _adapted().act([0.0], reward=float("inf")), InputError, "the reward expected a finite number"),
        (lambda: _adapted().score(3), InputError, "expected a world"),
        (lambda: _adapted().save("x", support=True), ConfigError, "no file holds its world"),
        (lambda: _learner().adapt(il.tasks.bandits(arms=3).test.world()), InputError, "actions"),
        (lambda: _learner().adapt(il.tasks.bandits().test.world(), episodes=1, steps=1), ConfigError, "got both"),
        (lambda: _learner().adapt(il.tasks.bandits().test.world(), episodes=-1), ConfigError, "episodes expected"),
    ],
)
def test_mistakes_are_one_line(make, kind, said):
    with pytest.raises(kind, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)


def _batch():
    return il.tasks.bandits().train.at(0, 0, 2)


def _learner():
    learner = il.rl2(_seeded())
    learner.spec = dataclasses.replace(il.tasks.bandits().train.spec)
    return learner


def _adapted():
    return _learner().adapt(il.tasks.bandits().test.world())
