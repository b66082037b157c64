"""Worlds of gymnasium: the same episodes however many run side by side, and errors in one line."""

import sys
import time

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.objectives.rollouts import roll_out, uniform_policy
from innerloop.objectives.world import Continuous, Discrete, repeated

gymnasium = pytest.importorskip("gymnasium")


class Walk(gymnasium.Env):
    """A point in the plane that looks for a goal; it can fail in many ways."""

    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)

    def __init__(self, x=0.0, y=0.0, trouble="", size=2, render_mode=None):
        self.goal, self.trouble, self.size, self.render_mode = np.array([x, y]), trouble, size, render_mode
        self.observation_space = gymnasium.spaces.Box(-9, 9, (size,), np.float32)

    def _seen(self):
        return np.concatenate([self.at, np.zeros(self.size - 2)]).astype(np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = self.np_random.normal(scale=0.01, size=2), 0
        return self._seen(), {}

    def step(self, action):
        self.steps += 1
        self.at = self.at + action
        reward = -float(np.linalg.norm(self.at - self.goal))
        if self.trouble and self.steps == 3:
            if self.trouble == "raises":
                raise RuntimeError("the motor\nis burnt")
            if self.trouble == "waits":
                time.sleep(30)
            reward = float("nan")
        return self._seen(), reward, bool((abs(self.at - self.goal) < 0.05).all()), False, {}

    def render(self):
        return np.full((20, 30, 3), 200, np.uint8) if self.render_mode == "rgb_array" else None


def make_walk(**parameters):
    return gymnasium.wrappers.TimeLimit(Walk(**parameters), 12)


def walks(num_envs, **options):
    parameters = {"x": (-0.3, 0.3), "y": [0.1, 0.2]}
    return il.worlds.from_gymnasium(make_walk, parameters=parameters, num_envs=num_envs, trials=3, **options)


def learner(inputs=2):
    torch.manual_seed(0)
    return il.maml_rl(il.models.gaussian_policy(inputs, 4, hidden=(8,), deviation=0.1), episodes=3)


def test_the_same_keys_give_the_same_episodes_however_many_run_side_by_side():
    played = []
    for num_envs in (1, 4):
        tasks = walks(num_envs)
        stored = learner().experience(tasks.train.at(0, 0, 2))
        played.append(stored)
    one, four = played
    assert one.query.rewards.shape == (2, 3, 12)
    for side in ("support", "query"):
        for name in ("observations", "actions", "rewards", "playing"):
            torch.testing.assert_close(getattr(getattr(one, side), name), getattr(getattr(four, side), name))
    assert not torch.equal(one.query.rewards[0], one.query.rewards[1])  # other goals


def test_episodes_end_and_what_comes_after_does_not_count():
    tasks = il.worlds.from_gymnasium(make_walk, parameters={"x": (0.0, 0.0), "y": (0.0, 0.0)}, num_envs=2)
    worlds = repeated(tasks.train.worlds(torch.arange(2)), 2)
    act = uniform_policy(worlds.actions)
    found = roll_out(worlds, act, (), torch.arange(4))[0]
    assert found.playing.sum() < found.playing.numel()  # it begins near its goal
    assert (found.rewards[~found.playing] == 0).all()


def test_parameters_are_within_their_ranges_and_among_their_values():
    tasks = walks(1)
    worlds = tasks.train.worlds(torch.arange(50))
    made = [worlds.pool.decoded(row) for row in worlds.parameters]
    assert all(-0.3 <= one["x"] <= 0.3 for one in made) and len({one["x"] for one in made}) == 50
    assert {one["y"] for one in made} == {0.1, 0.2}


def test_spaces_say_what_actions_are():
    assert walks(1).train.objective.actions == Continuous(2, -0.1, 0.1)
    found = il.worlds.from_gymnasium("CartPole-v1", num_envs=1).train.objective
    assert (found.actions, found.observation_size, found.horizon) == (Discrete(2), 4, 500)
    with pytest.raises(ConfigError, match="Discrete or Box space, got MultiBinary"):
        il.worlds.from_gymnasium(lambda: _other_actions())


def _other_actions():
    made = Walk()
    made.action_space = gymnasium.spaces.MultiBinary(3)
    return made


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("trouble", "said"),
    [("raises", "step 2: RuntimeError: the motor is burnt"), ("pays nothing", "reward that is not finite")],
)
def test_an_environment_that_fails_is_named_in_one_line_and_can_go_on(trouble, said, num_envs):
    tasks = il.worlds.from_gymnasium(make_walk, parameters={"trouble": [trouble]}, num_envs=num_envs)
    made = learner()
    for _ in range(2):  # the processes live on
        with pytest.raises(InputError, match=said) as caught:
            made.experience(tasks.train.at(0, 0, 1))
        assert "\n" not in str(caught.value)


def test_an_environment_that_does_not_answer_is_given_up():
    tasks = il.worlds.from_gymnasium(make_walk, parameters={"trouble": ["waits"]}, num_envs=2, timeout=2.0)
    with pytest.raises(InputError, match="answers within 2 seconds, got none from its step"):
        learner().experience(tasks.train.at(0, 0, 1))


def test_what_cannot_be_an_environment_is_said():
    with pytest.raises(ConfigError, match="an episode may never end; give horizon=200"):
        il.worlds.from_gymnasium(Walk)
    with pytest.raises(InputError, match="unexpected keyword argument 'mass'"):
        il.worlds.from_gymnasium(make_walk, parameters={"mass": (1.0, 2.0)})
    with pytest.raises(ConfigError, match=r"x expected \(low, high\), a tuple of two numbers, or a list"):
        il.worlds.from_gymnasium(make_walk, parameters={"x": (1.0, 0.0)})
    with pytest.raises(InputError, match="got int"):
        il.worlds.from_gymnasium(3)


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r'pip install "innerloop\[rl\]"'):
        il.worlds.from_gymnasium(make_walk)


def test_an_environment_of_another_size_is_refused():
    made = learner()
    made.experience(walks(1).train.at(0, 0, 1))
    with pytest.raises(ShapeError, match="2 numbers, as in training, got 5"):
        made.adapt(gymnasium.wrappers.TimeLimit(Walk(size=5), 12), objective=walks(1).train.objective)


def test_training_resumes_to_the_same_bits_with_the_statistics_of_observations(tmp_path):
    def fit(folder, **options):
        torch.manual_seed(0)
        tasks = walks(2)
        made = il.maml_rl(tasks.train.default_model(), episodes=3)
        settings = {"num_tasks": 2, "valid_tasks": 2, "validate_every": 0, "checkpoint_every": 1, "strategy": "vmapped"}
        il.fit(made, tasks, out=folder, quiet=True, **{**settings, **options})
        return made

    whole = fit(tmp_path / "whole", steps=4)

    class Enough(Exception):
        pass

    tasks = walks(2)
    torch.manual_seed(0)
    made = il.maml_rl(tasks.train.default_model(), episodes=3)
    count, own = [0], made.backward

    def backward(*args, **kwargs):
        count[0] += 1
        if count[0] > 7:  # in the third outer step, of three passes each
            raise Enough
        return own(*args, **kwargs)

    made.backward = backward
    settings = {"num_tasks": 2, "valid_tasks": 2, "validate_every": 0, "checkpoint_every": 1, "strategy": "vmapped"}
    with pytest.raises(Enough):
        il.fit(made, tasks, out=tmp_path / "cut", quiet=True, steps=4, **settings)
    again = fit(tmp_path / "cut", steps=4, resume=True)
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert torch.equal(whole.carry["environment_steps"], again.carry["environment_steps"])
    assert float(again.model.scale.count) > 0
    kept = il.load(tmp_path / "cut", model=walks(1).train.default_model())
    assert torch.equal(kept.model.scale.count, again.model.scale.count)


def test_an_agent_acts_in_somebodys_environment_and_its_file_keeps_what_it_needs(tmp_path):
    made = learner()
    agent = made.adapt(gymnasium.wrappers.TimeLimit(Walk(0.2, 0.1), 12), episodes=6)
    assert agent.steps == 2  # of three episodes each
    agent.save(tmp_path / "robot.il")
    again = il.load(tmp_path / "robot.il")
    assert again.support is None
    seen = np.array([0.05, -0.02])
    np.testing.assert_array_equal(agent.act(seen, greedy=True), again.act(seen, greedy=True))
    assert again.score(make_walk(x=0.2, y=0.1), trials=2) == agent.score(make_walk(x=0.2, y=0.1), trials=2)
