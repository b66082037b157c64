"""`innerloop adapt RUN NEW --onto TASK.il`: a task file takes in more examples, of any method, new classes too."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.cli.main import main
from innerloop.evaluation.online import sequences

SINE = "train maml sinusoid --steps 2 --num-tasks 2 --valid-tasks 2 --quiet --out"
NAMES = ["speed", "side", "yaw", "wheel", "before", "pedal", "d_speed", "d_side", "d_yaw"]


def write(path, rows, names=NAMES):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return str(path)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A run, and a drive in two tables."""
    folder = tmp_path_factory.mktemp("road")
    line = "train alpaca road --changepoints --runs 3 --shots 8 --queries 4 --steps 2 --num-tasks 2 --valid-tasks 2 --quiet"
    assert main([*line.split(), "--out", str(folder / "run")]) == 0
    x, y = sequences(il.tasks.road(shots=20, queries=10).test.at(0, 0, 1))
    rows = torch.cat([x[0], y[0]], 1).tolist()
    write(folder / "first.csv", rows[:20])
    write(folder / "more.csv", rows[20:])
    return folder, x[0], y[0]


def adapt(folder, *words) -> int:
    return main(["adapt", str(folder / "run"), *map(str, words), "--valid-tasks", "0", "--no-judge"])


def test_an_absorbing_method_takes_in_more_without_the_first_examples(road, tmp_path, capsys):
    folder, x, y = road
    task, other = tmp_path / "task.il", tmp_path / "other.il"
    assert adapt(folder, folder / "first.csv", "--target", "d_speed,d_side,d_yaw", "--out", task) == 0
    assert not il.load(task).holds_support
    first = task.read_bytes()
    capsys.readouterr()
    assert (
        main(
            ["adapt", str(folder / "run"), str(folder / "more.csv"), "--onto", str(task), "--out", str(other), "--json"]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["new_examples"], found["new_classes"]) == (30, 10, [])
    assert task.read_bytes() == first, "--out says where"
    whole = il.load(folder / "run").adapt(x, y)
    assert found["change_probability"] == pytest.approx(whole.change_probability, abs=1e-4)
    before = il.load(folder / "run").adapt(x[:20], y[:20])
    assert found["on_them_before"] == pytest.approx(before.score(x[20:], y[20:]), rel=1e-3)
    table = {name: x[:3, i].numpy() for i, name in enumerate(NAMES[:6])}
    np.testing.assert_allclose(il.load(other).predict(table), whole.predict(x[:3].numpy()), rtol=1e-3, atol=1e-4)
    assert main(["adapt", str(folder / "run"), str(folder / "more.csv"), "--onto", str(task)]) == 0
    said = capsys.readouterr().out
    assert "learned 10 more examples, 30 in all" in said and "before they were learned" in said
    assert "probability of a change within the last examples" in said
    assert il.load(task).num_examples == 30, "the file itself, where nothing else is said"


def test_other_methods_need_the_first_examples(tmp_path, capsys):
    run, task = tmp_path / "run", tmp_path / "task.il"
    assert main([*SINE.split(), str(run)]) == 0
    first = write(tmp_path / "a.csv", [[0.5, 1], [1.5, 2], [-1, 0]], ["x", "y"])
    more = write(tmp_path / "b.csv", [[0.7, 1], [2.5, 0.5]], ["x", "y"])
    line = ["adapt", str(run), first, "--target", "y", "--valid-tasks", "0", "--no-judge", "--out", str(task)]
    assert main(line) == 0
    capsys.readouterr()
    assert main(["adapt", str(run), more, "--onto", str(task)]) == 2
    error = capsys.readouterr().err
    assert "maml learns from the support set, which this task's file does not hold" in error
    assert "adapt --with-examples" in error and error.count("\n") == 1
    assert main([*line, "--with-examples", "--force"]) == 0
    assert main(["adapt", str(run), more, "--onto", str(task)]) == 0
    assert main(["adapt", str(run), more, "--onto", str(task)]) == 0, "it holds all of them again"
    x, y = torch.tensor([[0.5], [1.5], [-1], *2 * [[0.7], [2.5]]]), torch.tensor([[1.0], [2], [0], *2 * [[1], [0.5]]])
    expected = il.load(run).adapt(x, y).predict(torch.tensor([[0.3]]))
    assert float(il.load(task).predict({"x": np.array([0.3])})[0, 0]) == pytest.approx(float(expected), rel=1e-4)


def drawing(path, kind: int) -> None:
    picture = np.zeros((28, 28), np.uint8)
    picture[kind * 9 : kind * 9 + 9] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_new_classes_of_pictures(tmp_path, capsys):
    run = tmp_path / "run"
    line = "train protonet glyphs --train-ways 3 --steps 1 --num-tasks 1 --valid-tasks 1 --validate-every 0 --quiet"
    assert main([*line.split(), "--model", "conv4", "--model-filters", "4", "--out", str(run)]) == 0
    for kind, name in enumerate(("top", "middle")):
        drawing(tmp_path / "first" / name / "1.png", kind)
    drawing(tmp_path / "more" / "bottom" / "1.png", 2)
    drawing(tmp_path / "more" / "top" / "1.png", 0)
    bare, held = tmp_path / "bare.il", tmp_path / "held.il"
    for path, flags in ((bare, []), (held, ["--with-examples"])):
        words = ["adapt", str(run), str(tmp_path / "first"), "--valid-tasks", "0", "--no-judge", "--out", str(path)]
        assert main([*words, *flags]) == 0
    capsys.readouterr()
    assert main(["adapt", str(run), str(tmp_path / "more"), "--onto", str(bare)]) == 2
    assert "the new class 'bottom' needs the support set" in capsys.readouterr().err
    assert main(["adapt", str(run), str(tmp_path / "more"), "--onto", str(held)]) == 0
    assert "new classes: bottom" in capsys.readouterr().out
    assert il.load(held).classes_ == ["bottom", "middle", "top"] and il.load(held).num_examples == 4


def test_a_method_that_cannot_take_new_classes_says_so(tmp_path, capsys):
    run, task = tmp_path / "run", tmp_path / "task.il"
    line = "train maml glyphs --ways 2 --queries 1 --steps 1 --num-tasks 1 --valid-tasks 1 --validate-every 0 --quiet"
    assert main([*line.split(), "--out", str(run)]) == 0
    for kind, name in enumerate(("top", "middle")):
        drawing(tmp_path / "first" / name / "1.png", kind)
    drawing(tmp_path / "more" / "bottom" / "1.png", 2)
    words = ["adapt", str(run), str(tmp_path / "first"), "--valid-tasks", "0", "--no-judge", "--with-examples"]
    assert main([*words, "--out", str(task)]) == 0
    capsys.readouterr()
    assert main(["adapt", str(run), str(tmp_path / "more"), "--onto", str(task)]) == 2
    error = capsys.readouterr().err
    assert "the model has 2 outputs, got 3 classes; train with ways=3" in error and error.count("\n") == 1


def test_what_does_not_go_together(road, tmp_path, capsys):
    folder, *_ = road
    task = tmp_path / "task.il"
    assert adapt(folder, folder / "first.csv", "--target", "d_speed,d_side,d_yaw", "--out", task) == 0
    other = tmp_path / "sine"
    assert main([*SINE.split(), str(other)]) == 0
    capsys.readouterr()
    run, more = str(folder / "run"), str(folder / "more.csv")
    cases = [
        ([run, more], "expected --out, the task file to write, got none"),
        (
            [run, more, "--onto", str(tmp_path / "none.il")],
            "--onto expected a task file of `innerloop adapt`, got nothing at",
        ),
        ([run, more, "--onto", run], "--onto expected a task file of `innerloop adapt`, got a folder"),
        (
            [str(other), more, "--onto", str(task)],
            "--onto expected a task of this run's learner, maml, got one of alpaca",
        ),
        ([run, more, "--onto", str(task), "--target", "speed"], "--target expected d_speed,d_side,d_yaw"),
        ([run, more, "--onto", str(task), "--invert"], "--invert expected a new task, got --onto"),
    ]
    for words, message in cases:
        assert main(["adapt", *words]) == 2, words
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    short = write(tmp_path / "short.csv", [[0.1] * 8], NAMES[:-1])
    assert main(["adapt", run, short, "--onto", str(task)]) == 2
    assert "d_yaw" in capsys.readouterr().err
