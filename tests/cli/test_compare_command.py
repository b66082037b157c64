"""`innerloop compare` on a few steps: names and runs, the same tasks for all."""

import functools
import importlib
import json

import pytest

import innerloop as il
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_several_seeds_give_an_interval_over_them_paired_by_seed(tmp_path, capsys):
    out, alone = tmp_path / "c", tmp_path / "alone"
    line = ["compare", "maml,reptile", "sinusoid", *QUICK, "--model", "mlp"]
    assert main([*line, "--seeds", "3,1", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    learners = {name: [il.load(out / name / f"seed-{seed}") for seed in (3, 1)] for name in ("maml", "reptile")}
    test = il.tasks.sinusoid().test
    reports = {name: [il.evaluate(one, test, num_tasks=12) for one in own] for name, own in learners.items()}
    for name, own in reports.items():
        a, b = (report.mean for report in own)
        result = found["results"][name]
        assert result["mean"] == pytest.approx((a + b) / 2) and result["ci95"] == pytest.approx(1.96 * abs(a - b) / 2)
        assert [(row["seed"], row["mean"]) for row in result["seeds"]] == [(3, pytest.approx(a)), (1, pytest.approx(b))]
    difference = found["differences"][0]
    a, b = (reports[difference["first"]][i].mean - reports[difference["second"]][i].mean for i in (0, 1))
    assert difference["mean"] == pytest.approx((a + b) / 2)
    assert difference["ci95"] == pytest.approx(1.96 * abs(a - b) / 2)
    assert (found["ci95_over"], found["seeds"], found["seed"]) == ("seeds", [3, 1], 0)
    assert "2 seeds" in found["verdict"]
    twin = il.compare(learners, test, num_tasks=12)
    assert {n: r.mean for n, r in twin.reports.items()} == {
        n: pytest.approx(r["mean"]) for n, r in found["results"].items()
    }
    train = "train reptile sinusoid --steps 2 --model mlp --quiet --seed 1 --out"
    assert main([*train.split(), str(alone)]) == 0
    for name, value in il.load(alone).state_dict().items():
        assert value.equal(learners["reptile"][1].state_dict()[name])
    capsys.readouterr()
    assert main(["train", "--resume", str(out / "maml"), "--quiet"]) == 0  # a folder as train --seeds makes it
    again = ["compare", f"{out / 'maml'},{out / 'reptile'}", "sinusoid", *QUICK, "--json"]
    capsys.readouterr()
    assert main([*again, "--seeds", "3,1", "--out", str(tmp_path / "d")]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == found["differences"]
    for flags, said in (
        (["--seeds", "3,2"], "got 2"),
        ([], "expected --seeds with"),
        (["--seeds", "3"], "two or more"),
    ):
        assert main([*again, *flags, "--out", str(tmp_path / "e")]) == 2
        assert said in capsys.readouterr().err
    alone_too = ["compare", f"maml,{alone}", "sinusoid", *QUICK, "--seeds", "3,1", "--out", str(tmp_path / "e")]
    assert main(alone_too) == 2 and "--seeds expected methods, or runs" in capsys.readouterr().err
    with pytest.raises(il.ConfigError, match="equally many learners for each label"):
        il.compare({"maml": learners["maml"], "reptile": learners["reptile"][:1]}, test, num_tasks=2)
