"""`--shift` of evaluate and compare on a few steps: rows, files, errors before anything is trained."""

import json
import re

import pytest

from innerloop.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "maml"
    line = "train maml sinusoid --steps 2 --num-tasks 2 --validate-every 0 --quiet --out"
    assert main([*line.split(), str(path)]) == 0
    return path


def test_evaluate_at_several_distances(run, capsys):
    assert main(["evaluate", str(run), "--num-tasks", "6", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run), "--num-tasks", "6", "--shift", "amplitude=0,20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    near, far = found["results"]
    assert near["mean"] == pytest.approx(plain["mean"], rel=1e-6) and far["mean"] > 10 * near["mean"]
    assert found["shift"] == {"kind": "amplitude", "unit": "units of y", "amounts": [0.0, 20.0]}
    assert (run / "shift-amplitude.png").read_bytes().startswith(b"\x89PNG")
    card = json.loads((run / "evaluation.json").read_text())
    assert card["mean"] == plain["mean"], "the card of the run stays that of its own tasks"
    assert main(["evaluate", str(run), "--num-tasks", "6", "--shift", "amplitude=20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == far["mean"]
    assert main(["evaluate", str(run), "--num-tasks", "6", "--shift", "phase=0.5"]) == 0
    assert "shift: phase (radians)" in capsys.readouterr().out


@pytest.mark.slow
def test_compare_at_several_distances(run, tmp_path, capsys):
    out = tmp_path / "c"
    line = ["compare", f"{run},scratch", "sinusoid", "--steps", "1", "--num-tasks", "6", "--quiet", "--out", str(out)]
    assert main([*line, "--shift", "phase=0,1.5,3"]) == 0
    told = capsys.readouterr().out
    assert "maml" in told and "scratch" in told and re.search(r"\n *1\.5  ", told)
    found = json.loads((out / "compare.json").read_text())
    assert [(r["label"], r["amount"]) for r in found["results"] if r["label"] == "maml"] == [
        ("maml", 0.0),
        ("maml", 1.5),
        ("maml", 3.0),
    ]
    assert len(found["differences"]) == 3 and (out / "compare.png").is_file()


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ("phaze=1", "did you mean 'phase'"),
        ("phase", "KIND=AMOUNT"),
        ("rotation=30", "its shifts: phase, amplitude, range"),
        ("phase=far", "finite number"),
    ],
)
def test_a_wrong_shift_is_told_before_anything_is_trained(run, shift, said, tmp_path, capsys):
    for line in (["evaluate", str(run)], ["compare", "maml,reptile", "sinusoid", "--out", str(tmp_path / "c")]):
        assert main([*line, "--shift", shift]) == 2
        told = capsys.readouterr().err
        assert said in told and told.count("\n") == 1
    assert not (tmp_path / "c").exists()
