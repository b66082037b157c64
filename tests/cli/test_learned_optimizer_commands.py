"""Learned optimizers from the command line: train, evaluate, compare; wrong words in one line."""

from __future__ import annotations

import json

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main

SMALL = ["--steps", "3", "--num-tasks", "4", "--valid-tasks", "4", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "opt"
    assert (
        main(
            ["train", "learned_optimizer", "quadratic_jobs", "--dim", "3", "--horizon", "8", *SMALL, "--out", str(out)]
        )
        == 0
    )
    return out


def test_evaluate_says_the_end_and_the_curve(run, capsys):
    assert main(["evaluate", str(run), "--num-tasks", "5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metric"] == "end" and said["num_tasks"] == 5


def test_compare_sweeps_baselines_on_the_same_runs(run, tmp_path, capsys):
    words = ["compare", f"{run},adam,sgd", "quadratic_jobs", "--dim", "3", "--horizon", "8", "--num-tasks", "6"]
    assert main([*words, "--out", str(tmp_path / "c"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["results"]) == {"opt", "adam", "sgd"} and said["num_tasks"] == 6
    assert "rate" in said["results"]["adam"] and "rate" not in said["results"]["opt"]
    assert all(len(one["losses"]) == 8 for one in said["results"].values())
    best, second = list(said["results"])[:2]
    pair = next(d for d in said["differences"] if d["second"] == second and d["metric"] == "end")
    gap = said["results"][best]["end"]["mean"] - said["results"][second]["end"]["mean"]
    assert pair["first"] == best and pair["mean"] == pytest.approx(gap, rel=1e-4)
    assert (tmp_path / "c" / "compare.png").stat().st_size > 1000
    assert json.loads((tmp_path / "c" / "compare.json").read_text())["differences"] == said["differences"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train learned_optimizer sinusoid", "expected training runs"),
        ("train learned_optimizer quadratic_jobs --model mlp", "--model expected"),
        ("train learned_optimizer quadratic_jobs --kind lstn", "'lstm'"),
        ("compare adam,prodgy quadratic_jobs", "prodgy"),
        ("compare adam,maml quadratic_jobs", "maml"),
        ("compare adam,sgd quadratic_jobs --seeds 0,1", "--seeds"),
        ("compare maml,adam sinusoid", "adam"),
    ],
)
def test_wrong_words_are_told_in_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_network_of_ones_own_is_trained_judged_and_given_again(tmp_path, monkeypatch, capsys):
    """``--model package.module:factory``: typed, it is imported; a run names it, and nothing imports it from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\n"
        "def small(inputs, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(inputs[-1] * inputs[-2], 4), nn.ReLU(), nn.Linear(4, outputs))\n"
    )
    x, y = torch.rand(40, 1, 4, 4), torch.arange(40) % 3
    monkeypatch.setattr("innerloop.tasks.training_runs.jobs.mnist_training_examples", lambda size: il.Examples(x, y))
    model, jobs = ["--model", "nets_of_mine:small"], ["training_jobs", "--horizon", "4", "--batch", "8"]
    assert main(["train", "learned_optimizer", *jobs, *model, *SMALL, "--out", "opt"]) == 0
    assert "learned numbers" in repr(il.load("opt"))  # an optimizer needs no network to be one
    capsys.readouterr()
    for words in (["evaluate", "opt", "--num-tasks", "3"], ["train", "--resume", "opt"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "--model nets_of_mine:small" in said and said.count("\n") == 1
        assert main([*words, *model]) == 0
    assert main(["compare", "opt,sgd", *jobs, *model, "--num-tasks", "4", "--out", "c"]) == 0
    # What is here is not given again.
    assert main(["train", "learned_optimizer", *jobs, "--model", "mlp", *SMALL, "--out", "known"]) == 0
    assert main(["evaluate", "known", "--num-tasks", "3", *model]) == 2
