"""`innerloop compare` on a few steps: names and runs, the same tasks for all."""

import functools
import importlib
import json

import pytest

from innerloop.cli.listing import registry_of
from innerloop.cli.main import main

QUICK = ["--steps", "2", "--num-tasks", "12", "--quiet"]


@pytest.fixture(autouse=True)
def timed_once(monkeypatch):
    comparing = importlib.import_module("innerloop.evaluation.compare")  # `innerloop.compare` is its function
    monkeypatch.setattr(comparing, "costs", functools.partial(comparing.costs, rounds=1))


def test_methods_and_runs_meet_the_same_tasks(tmp_path, capsys):
    run, out = tmp_path / "old", tmp_path / "c"
    line = "train maml sinusoid --steps 2 --num-tasks 2 --validate-every 0 --seed 5 --quiet --out"
    assert main([*line.split(), str(run)]) == 0
    capsys.readouterr()
    line = ["compare", f"maml,reptile,{run}", "sinusoid", "--shots", "6", "--seed", "1", *QUICK, "--out", str(out)]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["results"]) == {"maml", "reptile", "old"}
    assert (found["num_tasks"], found["seed"]) == (12, 1)
    means = {name: result["mean"] for name, result in found["results"].items()}
    for pair in found["differences"]:
        assert pair["mean"] == pytest.approx(means[pair["first"]] - means[pair["second"]], abs=1e-6)
    assert json.loads((out / "compare.json").read_text())["results"] == found["results"]
    assert all(r["adapt_seconds"] > 0 and r["adapt_peak_bytes"] > 0 for r in found["results"].values())
    best = min(means, key=means.get)
    assert found["verdict"].startswith(f"{best} has the lowest mean squared error")
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    for name, steps in (("maml", 2), ("reptile", 2)):
        record = json.loads((out / name / "config.json").read_text())
        assert (record["training"]["steps"], record["tasks"]["options"]["shots"]) == (steps, 6)
    assert main(line) == 2
    assert "--force" in capsys.readouterr().err


def test_all_leaves_out_what_the_problem_does_not_suit(tmp_path, monkeypatch, capsys):
    """Two of the methods stand for all of them: one that takes regression, one that does not."""
    from innerloop.cli import compare as command

    chosen = {name: registry_of("algorithms")[name] for name in ("protonet", "maml")}
    monkeypatch.setattr(command, "offered", lambda kind: chosen if kind == "algorithms" else registry_of(kind))
    out = tmp_path / "c"
    assert main(["compare", "all", "sinusoid", *QUICK, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "protonet is left out: y expected integer labels" in said.err
    assert "maml has the lowest mean squared error" in said.out and "time to adapt" in said.out
    assert set(json.loads((out / "compare.json").read_text())["results"]) == {"maml"}


@pytest.mark.parametrize(
    ("names", "said"),
    [("maml", "at least two"), ("maml,maml", "'maml' twice"), ("maml,nothing", "unknown algorithm 'nothing'")],
)
def test_a_wrong_list_is_told_on_one_line(names, said, capsys):
    assert main(["compare", names, "sinusoid"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_minutes_are_shared_evenly_over_what_is_trained(tmp_path, monkeypatch, capsys):
    from innerloop.cli import compare as command

    chosen = {name: registry_of("algorithms")[name] for name in ("protonet", "maml", "reptile")}
    monkeypatch.setattr(command, "offered", lambda kind: chosen if kind == "algorithms" else registry_of(kind))
    quick = ["--num-tasks", "6", "--quiet", "--minutes", "0.004", "--out", str(tmp_path / "c")]
    assert main(["compare", "all", "sinusoid", *quick]) == 0
    for name in ("maml", "reptile"):  # protonet does not suit
        found = json.loads((tmp_path / "c" / name / "config.json").read_text())["training"]
        assert (found["minutes"], found["steps"]) == (0.002, None)
    capsys.readouterr()
    assert main(["compare", "maml,reptile", "sinusoid", "--minutes", "0", "--out", str(tmp_path / "d")]) == 2
    assert "minutes expected a finite number above 0, got 0" in capsys.readouterr().err
