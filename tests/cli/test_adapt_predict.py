"""The whole way on the command line: train, evaluate, adapt, predict, on a few steps."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "sine"
    line = "train maml sinusoid --steps 3 --valid-tasks 4 --num-tasks 4 --quiet --out"
    assert main([*line.split(), str(out)]) == 0
    return out


def test_evaluate_prints_one_json_object_and_writes_the_card(run, capsys):
    assert main(["evaluate", str(run), "--num-tasks", "20", "--seed", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"mean", "ci95", "metric", "num_tasks", "seed", "split", "transductive"} <= set(found)
    assert (found["num_tasks"], found["seed"], found["split"], found["metric"]) == (20, 2, "test", "mse")
    card = json.loads((run / "evaluation.json").read_text())
    assert card["mean"] == pytest.approx(found["mean"])
    assert len(card["per_task"]) == 20
    assert card["mean"] == pytest.approx(np.mean(card["per_task"]))


def test_evaluate_takes_the_problems_flags(run, capsys):
    means = []
    for flags in ([], ["--shots", "3"]):
        assert main(["evaluate", str(run), "--num-tasks", "20", *flags]) == 0
        assert "20 test tasks, seed 0, transductive no" in capsys.readouterr().out
        means.append(json.loads((run / "evaluation.json").read_text())["mean"])
    assert means[0] != means[1]
    assert main(["evaluate", str(run), "--shtos", "3"]) == 2
    assert "did you mean '--shots'?" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--num-tasks", "0"]) == 2


def test_a_table_is_adapted_to_and_predicted(run, tmp_path, capsys):
    table = tmp_path / "support.csv"
    table.write_text("x,y\n0.5,1\n1.5,2\n-1,0\n")
    task, out = tmp_path / "task.il", tmp_path / "out" / "p.csv"
    assert main(["adapt", str(run), str(table), "--out", str(task)]) == 2
    assert "--target 'y'" in capsys.readouterr().err
    assert main(["adapt", str(run), str(table), "--target", "y", "--out", str(task)]) == 0
    assert main(["predict", str(task), str(table), "--target", "y", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["row"] for row in rows] == ["1", "2", "3"]
    assert np.isfinite([float(row["prediction"]) for row in rows]).all()
    capsys.readouterr()
    assert main(["predict", str(task), str(table), "--target", "y", "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["predict", str(task), str(table), "--out", str(tmp_path / "q.csv")]) == 0
    assert (tmp_path / "q.csv").read_text() == out.read_text(), "the target is no input, said or not"


def test_a_task_without_column_names_takes_them_in_their_order(run, tmp_path, capsys):
    """As task files of arrays have none, and older files of tables neither."""
    task, table, out = tmp_path / "task.il", tmp_path / "t.csv", tmp_path / "p.csv"
    fitted = il.load(run).adapt(np.array([[0.5], [1.5]], np.float32), np.array([[1.0], [2.0]], np.float32))
    fitted.save(task)
    table.write_text("any,y\n0.5,1\n")
    assert main(["predict", str(task), str(table), "--out", str(out)]) == 2
    assert "expected shape (examples, 1) as the support set had, got (1, 2)" in capsys.readouterr().err
    assert main(["predict", str(task), str(table), "--target", "y", "--out", str(out)]) == 0
    (row,) = csv.DictReader(out.open())
    assert float(row["prediction"]) == pytest.approx(float(fitted.predict(np.array([[0.5]]))[0, 0]), rel=1e-6)


def test_pictures_are_adapted_to_and_predicted(tmp_path, capsys):
    run, task, out = tmp_path / "run", tmp_path / "task.il", tmp_path / "p.csv"
    line = "train maml glyphs --ways 2 --queries 1 --steps 1 --num-tasks 1 --valid-tasks 1 --validate-every 0"
    assert main([*line.split(), "--model", "mlp", "--quiet", "--out", str(run)]) in (0, 2)
    if not (run / "config.json").exists():  # mlp reads vectors only: the problem's own model then
        assert main([*line.split(), "--quiet", "--out", str(run)]) == 0
    shapes = np.zeros((2, 28, 28), np.uint8)
    shapes[0, :14], shapes[1, :, :14] = 255, 255
    for i, name in enumerate(("top", "left")):
        (tmp_path / "support" / name).mkdir(parents=True)
        Image.fromarray(shapes[i]).save(tmp_path / "support" / name / "1.png")
    (tmp_path / "new" / "deep").mkdir(parents=True)
    Image.fromarray(shapes[0]).resize((50, 50)).save(tmp_path / "new" / "deep" / "a.jpg")
    assert main(["adapt", str(run), str(tmp_path / "support"), "--out", str(task)]) == 0
    assert main(["predict", str(task), str(tmp_path / "new"), "--out", str(out)]) == 0
    (row,) = csv.DictReader(out.open())
    assert list(row) == ["path", "label", "confidence", "p_left", "p_top"]
    assert row["path"].endswith("a.jpg")
    p = {name: float(row[f"p_{name}"]) for name in ("left", "top")}
    assert sum(p.values()) == pytest.approx(1, abs=1e-5)
    assert row["label"] == max(p, key=lambda name: p[name])
    assert float(row["confidence"]) == max(p.values())
