"""One pass over a stream: the matrix and its numbers, resuming to the same bits, bad examples, the command."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any, cast

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.lifelong.learn import STATE
from innerloop.lifelong.stream_report import StreamReport


def arrays(parts: int = 4, count: int = 60, seed: int = 0):
    """Classes whose means move from part to part."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in range(parts):
        y = torch.randint(3, (count,), generator=generator)
        means = torch.randn(3, 5, generator=generator) * 2
        found.append((means[y] + 0.3 * torch.randn(count, 5, generator=generator) + part, y))
    return found


@pytest.fixture
def stream():
    return il.tasks.stream_from_arrays(arrays())


@pytest.fixture
def learner(stream):
    torch.manual_seed(0)
    return il.lifelong.replay(stream.default_model(), lr=0.1, memory=20)


def test_the_matrix_is_what_the_learner_reaches(stream, learner):
    report = il.learn_stream(learner, stream, batch=7)
    assert report.matrix.shape == (5, 4) and report.examples == 4 * 48
    for row, model in ((0, learner), (-1, report.learner)):
        for part in range(4):
            side = stream.test(part)
            assert report.matrix[row, part] == float((model.predict(side.x).argmax(-1) == side.y).double().mean())
    assert learner.memory.seen == 0, "a copy learns"
    own = learner.restarted()
    for part in range(4):
        shown = stream.train(part)
        for a in range(0, 48, 7):
            own.learn(shown.x[a : a + 7], shown.y[a : a + 7])
    assert own.predict(side.x).equal(report.learner.predict(side.x))


def test_before_learning_it_is_asked(stream, learner):
    report = il.learn_stream(learner, stream, batch=48)
    shown = stream.train(0)
    first = float((learner.predict(shown.x).argmax(-1) == shown.y).double().mean())
    assert report.prequential[0] == pytest.approx(first)


def test_the_numbers_by_hand():
    a = [[0.1, 0.2, 0.3], [0.8, 0.3, 0.2], [0.6, 0.9, 0.4], [0.7, 0.5, 0.95]]
    report = StreamReport("m", "s", ("1", "2", "3"), "accuracy", np.array(a), (0.5, math.nan, 0.7), 9)
    assert report.retained == pytest.approx((0.7 + 0.5 + 0.95) / 3)
    assert report.learned == pytest.approx((0.8 + 0.9 + 0.95) / 3)
    assert report.backward_transfer == pytest.approx((-0.1 - 0.4 + 0) / 3)
    assert report.forward_transfer == pytest.approx(((0.3 - 0.2) + (0.4 - 0.3)) / 2)
    assert report.forgetting == pytest.approx((0.1 + 0.4) / 2)
    assert report.anytime == pytest.approx((0.8 + 0.75 + (0.7 + 0.5 + 0.95) / 3) / 3)
    assert report.numbers["prequential"] == pytest.approx(0.6)
    error = StreamReport("m", "s", ("1", "2", "3"), "mse", np.array(a), (), 9)
    assert error.forgetting == pytest.approx(((0.7 - 0.6) + (0.5 - 0.9)) / 2)
    assert json.dumps(report.to_dict(), allow_nan=False)


def test_it_goes_on_to_the_same_bits(stream, learner, tmp_path, monkeypatch):
    whole = il.learn_stream(learner, stream)
    learned = []

    class Stopped(Exception):
        pass

    plain = type(learner)._learn

    def stops(self, x, y):
        learned.append(1)
        if len(learned) == 8:
            raise Stopped
        plain(self, x, y)

    monkeypatch.setattr("innerloop.lifelong.learn._SAVED_EVERY", 0.0)
    monkeypatch.setattr(type(learner), "_learn", stops)
    with pytest.raises(Stopped):
        il.learn_stream(learner, stream, out=tmp_path)
    monkeypatch.setattr(type(learner), "_learn", plain)
    with pytest.raises(il.CheckpointError, match="resume=True"):
        il.learn_stream(learner, stream, out=tmp_path)
    with pytest.raises(il.CheckpointError, match="batch"):
        il.learn_stream(learner, stream, out=tmp_path, resume=True, batch=5)
    again = il.learn_stream(learner, stream, out=tmp_path, resume=True)
    assert (again.matrix == whole.matrix).all() and again.prequential == whole.prequential
    assert all(v.equal(again.learner.tensors()[n]) for n, v in whole.learner.tensors().items())


def test_a_bad_example_names_its_part_and_keeps_what_was_learned(learner, tmp_path):
    parts = arrays()
    stream = il.tasks.stream_from_arrays(parts)
    x = stream.train(2).x
    x[13, 0] = float("nan")
    with pytest.raises(il.InputError, match="part 3, examples 11 to 20: x of example 3 expected finite"):
        il.learn_stream(learner, stream, out=tmp_path)
    x[13, 0] = 0.0
    report = il.learn_stream(learner, stream, out=tmp_path, resume=True)
    assert (report.matrix == il.learn_stream(learner, stream).matrix).all()


def test_shuffled_has_no_order_to_judge(stream, learner):
    report = il.learn_stream(learner, stream, order="shuffled")
    assert report.matrix.shape == (2, 4) and report.examples == 4 * 48
    assert math.isfinite(report.retained) and math.isnan(report.backward_transfer)


def test_ewc_is_told_where_parts_end(stream):
    torch.manual_seed(0)
    learner = il.lifelong.ewc(stream.default_model(), strength=10.0)
    report = il.learn_stream(learner, stream)
    assert all(bool((v > 0).any()) for v in report.learner.precision.values())


def test_class_means_cannot_be_asked_before(stream):
    report = il.learn_stream(il.lifelong.class_means(torch.nn.Flatten()), stream)
    assert np.isnan(report.matrix[0]).all() and np.isfinite(report.matrix[1:]).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda learner, stream: il.learn_stream(learner, stream, memory=0), r"il\.lifelong\.online"),
        (lambda learner, stream: il.learn_stream(learner, stream, order=cast(Any, "sorted")), "unknown order"),
        (lambda learner, stream: il.learn_stream(learner, stream, batch=0), "batch expected"),
        (lambda learner, stream: il.learn_stream(learner, il.tasks.sinusoid()), "expected a stream"),
        (
            lambda learner, stream: il.learn_stream(il.maml(torch.nn.Linear(5, 3)), stream),
            "expected a learner for streams",
        ),
        (lambda learner, stream: il.learn_stream(learner, stream, resume=True), "resume expected out"),
    ],
)
def test_what_cannot_be_is_refused(learner, stream, call, said):
    with pytest.raises(il.InputError, match=said):
        call(learner, stream)


@pytest.fixture
def table(tmp_path):
    generator = np.random.default_rng(0)
    rows = 200
    hours = generator.permutation(rows)
    x = generator.normal(size=(rows, 2))
    y = np.where(x[:, 0] + 0.01 * hours > 0.5, "up", "down")
    lines = [f"{hours[i]},{x[i, 0]:.4f},{x[i, 1]:.4f},{y[i]}" for i in range(rows)]
    path = tmp_path / "sensor.csv"
    path.write_text("\n".join(["hour,a,b,state", *lines]) + "\n")
    return path


def test_a_table_comes_in_its_order(table):
    stream = il.tasks.own_stream(table, target="state", order_by="hour", parts=4, ignore=["hour"])
    assert len(stream) == 4 and stream.class_names is not None and set(stream.class_names) == {"up", "down"}
    by_hour = il.tasks.own_stream(table, target="state", order_by="hour", parts=4, quantities=["hour"])
    hours = [torch.cat([by_hour.train(p).x[:, 0], by_hour.test(p).x[:, 0]]) for p in range(4)]
    assert all(float(a.max()) <= float(b.min()) for a, b in itertools.pairwise(hours))
    assert all(bool((by_hour.train(p).x[1:, 0] >= by_hour.train(p).x[:-1, 0]).all()) for p in range(4))
    assert float(torch.cat([stream.train(0).x, stream.test(0).x]).mean(0).abs().max()) < 1e-6, (
        "scaled by the first part"
    )


def test_names_that_are_one_class_are_refused(table):
    text = table.read_text().replace("up", "Up ", 1)
    table.write_text(text)
    with pytest.raises(il.InputError, match="expected one name for a class"):
        il.tasks.own_stream(table, target="state")


def test_labels_that_change_their_meaning_are_told():
    x = torch.randn(20, 3)
    y = torch.arange(20) % 2
    with pytest.warns(il.InnerloopWarning, match="come back with another label"):
        il.tasks.stream_from_arrays([(x, y), (x, 1 - y)], test_share=0.1)


def test_the_command(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "stream",
        "replay",
        "sensor.csv",
        "--target",
        "state",
        "--order-by",
        "hour",
        "--parts",
        "4",
        "--memory",
        "30",
    ]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["matrix"]) == 5 and found["metric"] == "accuracy" and 0 <= found["retained"] <= 1
    assert (tmp_path / "runs/stream-replay-sensor/stream.png").stat().st_size > 10_000
    assert (tmp_path / "runs/stream-replay-sensor" / STATE).is_file()
    assert main(words) == 2 and "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert main([*words[:5], "--force", "--order-by", "state"]) == 2
    assert "expected a column of dates, times or numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["la_mam", "mnist_rotations"], "did you mean 'la_maml'"),
        (["la_maml"], "expected a stream after la_maml"),
        (["la_maml", "mnist_rotation"], "did you mean 'mnist_rotations'"),
        (["la_maml", "nothing.csv"], "or give the path of a table or folder that is there"),
        (["online", "sine_stream", "--memory", "5"], "--memory"),
        (["replay", "sine_stream", "--memory", "0"], "memory expected at least 1"),
    ],
)
def test_wrong_words_are_told(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["stream", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_long_stream_has_no_tasks(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "maml", "sine_stream", "--steps", "1"]) == 2
    assert "innerloop stream la_maml sine_stream" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sine_stream", "navigation_stream"])
def test_skills(name):
    stream = getattr(il.tasks, name)(skills=3, examples=20, tested=10)
    assert stream.kind == "regression" and stream.metric == "mse" and len(stream) == 3
    for part in range(3):
        side = stream.train(part)
        assert side.x.shape[0] == 20 and bool((side.x[:, -3:].argmax(1) == part).all())
        assert not stream.test(part).x[:, 0].unsqueeze(1).eq(side.x[:, 0]).any()
    again, valid = getattr(il.tasks, name)(skills=3, examples=20, tested=10), stream.valid
    assert again.train(1).y.equal(stream.train(1).y) and not valid.train(1).y.equal(stream.train(1).y)


def test_an_expert_reaches_its_goal():
    stream = il.tasks.navigation_stream(skills=1, examples=2000)
    x, y = stream.train(0).x, stream.train(0).y
    near = y.norm(dim=1) < 0.999
    goals = x[near, :2] + 0.1 * y[near]
    assert int(near.sum()) > 5 and float(goals.std(0).max()) < 1e-5 and float(y.norm(dim=1).max()) <= 1 + 1e-6
