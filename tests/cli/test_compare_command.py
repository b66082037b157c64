"""`innerloop compare` on a few steps: names and runs, the same tasks for all."""

import json

import pytest

from innerloop.cli.main import main

QUICK = ["--steps", "2", "--num-tasks", "12", "--quiet"]


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
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    for name, steps in (("maml", 2), ("reptile", 2)):
        record = json.loads((out / name / "config.json").read_text())
        assert (record["training"]["steps"], record["tasks"]["options"]["shots"]) == (steps, 6)
    assert main(line) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [("maml", "at least two"), ("maml,maml", "'maml' twice"), ("maml,nothing", "unknown algorithm 'nothing'")],
)
def test_a_wrong_list_is_told_on_one_line(names, said, capsys):
    assert main(["compare", names, "sinusoid"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
