"""`innerloop train METHOD mine:problem`: which inner rate a problem of somebody's own begins with, and what is said of it."""

from __future__ import annotations

import json
import sys

import pytest

from innerloop.cli.main import main

MINE = """
import torch
import innerloop as il
from innerloop import keys


class Centre(il.Objective):
    metrics = {"distance": False}

    def loss(self, apply, data, key):
        return (apply(data["x"]) - data["x"].mean(0)).square().mean()

    def measure(self, apply, data, key):
        return {"distance": (apply(data["x"]) - data["x"].mean(0)).norm(dim=-1).mean()}


def own_loss(prediction, y):
    return (prediction - y).abs().mean()


class Points(il.TaskDistribution):
    name, input_shape, output_size = "points", (2,), 2

    def __init__(self, split, objective):
        self.split, self.objective = split, objective

    def from_keys(self, task_keys):
        x = keys.normal(task_keys, (8, 2), salt=1)
        if isinstance(self.objective, il.Objective):
            return il.Task({"x": x[:, :4]}, {"x": x[:, 4:]}, self.objective)
        return il.Task(il.Examples(x[:, :4], x[:, :4]), il.Examples(x[:, 4:], x[:, 4:]), self.objective)

    def default_model(self):
        return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def family(objective, metrics=None):
    made = [Points(split, objective) for split in ("train", "valid", "test")]
    for one in made:
        one.metrics = metrics
    return il.TaskFamily("points", *made, {})


def clouds():
    return family(Centre())


def values():
    return family(own_loss, ("mse",))


def nameless():
    return family(None, ("mse",))
"""


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    (tmp_path / "rates_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *words: _train(words, tmp_path / "run", capsys)
    sys.modules.pop("rates_of_mine", None)


def _train(words, run, capsys):
    options = ["--steps", "1", "--validate-every", "0", "--quiet", "--out", str(run), "--force"]
    assert main(["train", *words, *options]) == 0
    config = json.loads((run / "config.json").read_text())
    return config["algorithm"]["options"].get("inner_lr"), capsys.readouterr().err


def test_an_objective_of_ones_own_takes_the_methods_default_and_says_so(trained):
    rate, said = trained("anil", "rates_of_mine:clouds")
    assert rate in (None, 0.1), said  # recommended for labels: 0.4
    note = "anil takes inner_lr 0.1, its default: nobody can recommend one for the objective Centre; try others with --inner-lr"
    assert said.count(note) == 1
    rate, said = trained("anil", "rates_of_mine:clouds", "--inner-lr", "0.05")
    assert rate == 0.05 and "inner_lr" not in said
    assert "inner_lr" not in trained("reptile", "rates_of_mine:clouds", "--inner-lr", "0.05")[1]


@pytest.mark.parametrize("problem", ["values", "nameless"])
def test_values_under_a_loss_of_ones_own_are_no_classes(problem, trained):
    rate, said = trained("anil", f"rates_of_mine:{problem}")
    assert rate == 0.01 and "note" not in said
