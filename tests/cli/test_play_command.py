"""innerloop train maml_rl, adapt to a world, play: as a user calls them."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.cli.main import main

gymnasium = pytest.importorskip("gymnasium")

OWN = """
import gymnasium
import numpy as np

class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        self.at = np.zeros(2, np.float32)
        return self.at, {}

    def step(self, action):
        self.at = self.at + np.asarray(action, np.float32)
        return self.at, -float(np.abs(self.at - 0.2).sum()), False, False, {}

    def render(self):
        return np.full((8, 8, 3), 99, np.uint8) if self.render_mode else None

def make_env():
    return gymnasium.wrappers.TimeLimit(Line("rgb_array"), 6)

def blind():
    return gymnasium.wrappers.TimeLimit(Line(), 6)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "navigation"
    torch.manual_seed(0)
    learner = il.maml_rl(il.models.gaussian_policy(2, 4, hidden=(8,), deviation=0.1), episodes=4)
    settings = {"steps": 2, "num_tasks": 2, "valid_tasks": 2, "strategy": "vmapped", "quiet": True}
    il.fit(learner, il.tasks.navigation(steps=8, trials=4), out=folder, **settings)
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_line_env.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_said_after_training_can_be_done(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ["train", "rl2", "bandits", "--pulls", "5", "--steps", "1", "--num-tasks", "4", "--validate-every", "0"]
    assert main([*train, "--out", "run", "--quiet"]) == 0
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "innerloop adapt" in line)
    _, *words = shlex.split(said.strip().partition("    (")[0])
    assert main(words) == 0 and Path("agent.il").exists()


def test_adapt_to_a_world_of_ours_and_play(run, own, capsys):
    assert main(["adapt", str(run), "--world", "3", "--episodes", "8", "--out", "robot.il", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 2
    agent = il.load("robot.il")
    assert told["after"] == pytest.approx(agent.score(agent.support))
    assert main(["play", "robot.il", "--video", "out.gif", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["returns"]) == 3 and told["frames"] > 8
    with Image.open("out.gif") as moving:
        assert moving.n_frames > 8


def test_adapt_to_somebodys_environment_and_play(run, own, capsys):
    assert main(["adapt", str(run), "--env", "own_line_env:make_env", "--episodes", "4", "--out", "robot.il"]) == 0
    assert "innerloop play robot.il --env own_line_env:make_env --video out.gif" in capsys.readouterr().out
    words = ["play", "robot.il", "--env", "own_line_env:make_env", "--video", "out.gif", "--episodes", "2", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 12 and len(told["returns"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["adapt", "RUN"], "expected SUPPORT"),
        (["adapt", "RUN", "--env", "own_line_env"], "--env expected package.module:make_env|--out"),
        (["adapt", "RUN", "--env", "own_line_env", "--out", "a.il"], "--env expected package.module:make_env"),
        (["adapt", "RUN", "--env", "own_line_env:other", "--out", "a.il"], "expected 'other' in own_line_env"),
        (["adapt", "RUN", "--env", "own_line_env:Line", "--out", "a.il", "--world", "1"], "got both"),
        (["adapt", "RUN", "x.csv", "--world", "1", "--out", "a.il"], "got both"),
        (["play", "nothing.il", "--video", "a.gif"], "got nothing at 'nothing.il'"),
    ],
)
def test_wrong_words_are_told_in_one_line(run, own, capsys, words, said):
    import re

    assert main([str(run) if word == "RUN" else word for word in words]) == 2
    told = capsys.readouterr().err.strip()
    assert re.search(said, told) and "\n" not in told


def test_what_cannot_be_played_is_told(run, own, capsys):
    assert main(["adapt", str(run), "--env", "own_line_env:blind", "--episodes", "4", "--out", "robot.il"]) == 0
    for words, said in (
        (["--video", "out.mp4"], "--video expected a .gif"),
        (["--video", "out.gif"], "for a gymnasium environment give --env"),
        (["--video", "out.gif", "--env", "own_line_env:blind"], 'render_mode="rgb_array"'),
        (
            ["--video", "out.gif", "--env", "gymnasium.envs.classic_control:CartPoleEnv"],
            "expected a world with the actions",
        ),
    ):
        assert main(["play", "robot.il", *words]) == 2
        assert said in capsys.readouterr().err
