"""`innerloop adapt` says how far its task may be trusted and remembers how pictures are read; `predict --unknown`."""

import csv
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.cli.main import main
from innerloop.data import support_files


def drawings(folder, classes, examples, seed):
    """Dark patterns on light paper, a class being a pattern with a few pixels changed."""
    for c in range(classes):
        pattern = np.random.default_rng(100 * seed + c).random((8, 8)) < 0.4
        for i in range(examples):
            noise = np.random.default_rng(10_000 * seed + 100 * c + i).random((8, 8)) < 0.08
            path = folder / f"c{c:02d}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(pattern ^ noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    drawings(folder / "train", 30, 8, 1)
    drawings(folder / "support", 3, 3, 2)
    drawings(folder / "new", 6, 4, 2)  # of the first three classes and of three others
    family = il.tasks.from_path(folder / "train", size=8, ways=3, shots=2, valid_classes=8, rotations=False)
    net = il.models.mlp((1, 8, 8), 64, hidden=())
    with torch.no_grad():  # pixels are compared: nothing has to be learned
        for p in net.parameters():
            p.copy_(torch.eye(64) if p.ndim == 2 else torch.zeros(64))
    il.fit(
        il.protonet(net),
        family,
        out=folder / "run",
        steps=1,
        num_tasks=1,
        quiet=True,
        valid_tasks=1,
        strategy="vmapped",
    )
    return folder


@pytest.fixture(scope="module")
def adapted(where):
    assert main(["adapt", str(where / "run"), str(where / "support"), "--out", str(where / "task.il")]) == 0
    return where / "task.il"


def predicted(task, inputs, out, *flags):
    assert main(["predict", str(task), str(inputs), "--out", str(out), "--force", *flags]) == 0
    return list(csv.DictReader(out.open()))


def test_what_is_said(where, capsys, tmp_path):
    assert main(["adapt", str(where / "run"), str(where / "support"), "--out", str(tmp_path / "t.il")]) == 0
    said = capsys.readouterr().out
    found = il.load(tmp_path / "t.il").threshold
    assert f"on 100 validation tasks of '{found.problem}' (3 classes, 3 examples of each)" in said
    assert "as far as they are like those" in said and "may not carry over" not in said
    assert "judged on your 9 examples, one of each class left out at a time: this learner" in said
    judged = il.load(tmp_path / "t.il").judged
    assert judged.judged == 9 and all(line in said for line in judged.lines())
    assert f"class mean {100 * judged.baselines['class_mean'].value:.0f} %" in said
    assert f"took {found.false_accept:.1%} of other classes" in said and "--unknown" in said
    one = tmp_path / "one"
    drawings(one, 2, 1, 2)
    assert main(["adapt", str(where / "run"), str(one), "--out", str(tmp_path / "u.il"), "--valid-tasks", "8"]) == 0
    assert "cannot be judged on your examples, as each class has one only" in capsys.readouterr().out
    assert main(["adapt", str(where / "run"), str(one), "--out", str(tmp_path / "v.il"), "--valid-tasks", "0"]) == 0
    said = capsys.readouterr().out
    assert "validated" not in said and "cannot be judged" in said and il.load(tmp_path / "v.il").threshold is None
    assert main(["predict", str(tmp_path / "v.il"), str(one), "--unknown", "--out", str(tmp_path / "p.csv")]) == 2
    assert "a threshold for unknown inputs, got none" in capsys.readouterr().err


def test_json_carries_what_was_judged(where, tmp_path, capsys):
    line = ["adapt", str(where / "run"), str(where / "support"), "--valid-tasks", "0", "--json", "--out"]
    assert main([*line, str(tmp_path / "t.il")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["judged"] == {**il.load(tmp_path / "t.il").judged.to_dict(), "loses_to": ""}
    assert (told["examples"], told["classes"], told["threshold"]) == (9, ["c00", "c01", "c02"], None)
    assert main([*line, str(tmp_path / "u.il"), "--no-judge"]) == 0
    assert json.loads(capsys.readouterr().out)["judged"] is None and il.load(tmp_path / "u.il").judged is None


def test_a_learner_that_loses_says_so_first(where, tmp_path, capsys):
    """One that sees nothing: each of its answers is the first class."""
    net = il.models.mlp((1, 8, 8), 4, hidden=())
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    family = il.tasks.from_path(where / "train", size=8, ways=3, shots=2, valid_classes=8, rotations=False)
    training = {"steps": 1, "num_tasks": 1, "outer_lr": 0.0, "quiet": True, "validate_every": 0, "strategy": "vmapped"}
    il.fit(il.protonet(net), family, out=tmp_path / "run", **training)
    drawings(tmp_path / "s", 3, 6, 2)
    line = ["adapt", str(tmp_path / "run"), str(tmp_path / "s"), "--valid-tasks", "0", "--out", str(tmp_path / "t.il")]
    assert main(line) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("LOSES to ") and "give more examples" in said[0]
    assert il.load(tmp_path / "t.il").judged.loses_to in ("class_mean", "nearest", "ridge")


def test_unknown_is_written_where_the_score_is_low(where, adapted, tmp_path):
    plain = predicted(adapted, where / "new", tmp_path / "p.csv")
    rows = predicted(adapted, where / "new", tmp_path / "q.csv", "--unknown")
    known = [row["label"] for row in rows if row["path"].split("/")[-2] < "c03"]
    others = [row["label"] for row in rows if row["path"].split("/")[-2] >= "c03"]
    assert sum(label == "unknown" for label in known) <= 3  # of 12
    assert sum(label == "unknown" for label in others) >= 6
    for before, after in zip(plain, rows, strict=True):
        assert before | {"label": after["label"]} == after and before["label"] != "unknown"


def test_unknown_is_not_suggested_where_it_cannot_be_told(where, adapted, tmp_path, capsys, monkeypatch):
    from innerloop.evaluation import calibration

    monkeypatch.setattr(calibration, "area", lambda known, unknown: 0.6)
    line = ["adapt", str(where / "run"), str(where / "support"), "--out", str(tmp_path / "t.il")]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "it cannot tell unknown inputs from known ones (AUROC 0.60 on 50 validation tasks of" in said
    assert "INPUTS --out" in said and "INPUTS --unknown" not in said
    assert "its probabilities were off by" in said and "(ECE, 15 bins)" in said
    rows = predicted(tmp_path / "t.il", where / "new", tmp_path / "q.csv", "--unknown")
    assert "note: --unknown: it cannot tell" in capsys.readouterr().err
    assert any(row["label"] == "unknown" for row in rows)  # who wants it gets it
    predicted(adapted, where / "new", tmp_path / "r.csv", "--unknown")
    assert "cannot tell" not in capsys.readouterr().err


def test_a_class_called_unknown(where, tmp_path, capsys):
    drawings(tmp_path / "s", 2, 2, 3)
    (tmp_path / "s" / "c01").rename(tmp_path / "s" / "unknown")
    assert main(["adapt", str(where / "run"), str(tmp_path / "s"), "--out", str(tmp_path / "t.il")]) == 0
    capsys.readouterr()
    line = ["predict", str(tmp_path / "t.il"), str(tmp_path / "s"), "--unknown", "--out", str(tmp_path / "p.csv")]
    assert main(line) == 2
    assert "expected no class of the name 'unknown'" in capsys.readouterr().err


def test_a_zip_of_deep_pictures(where, tmp_path):
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        for path in support_files.pictures_in(where / "support"):
            deep = Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 4)
            with archive.open(f"{path.parent.name}/{path.name}", "w") as file:
                deep.save(file, "PNG")
    line = [
        "adapt",
        str(where / "run"),
        str(tmp_path / "deep.zip"),
        "--valid-tasks",
        "0",
        "--out",
        str(tmp_path / "z.il"),
    ]
    assert main(line) == 0
    assert il.load(tmp_path / "z.il").preprocessing["levels"] == [0, 1023], "what was decided travels with the task"


def test_pictures_are_read_in_predict_as_in_adapt(where, adapted, tmp_path):
    """The training pictures were dark drawings; nobody has to say so again."""
    task, inputs = il.load(adapted), where / "new"
    assert il.load(where / "run").preprocessing == task.preprocessing == support_files.preprocessing_of(True)
    paths = support_files.pictures_in(inputs)
    dark, light = (
        task.predict_proba(support_files.read_pictures(paths, (1, 8, 8), invert)) for invert in (True, False)
    )
    found = np.array(
        [[float(row[f"p_{c}"]) for c in task.classes_] for row in predicted(adapted, inputs, tmp_path / "p.csv")]
    )
    assert np.allclose(found, dark, atol=1e-5) and not np.allclose(found, light, atol=1e-2)
    assert np.allclose(task.predict_proba(inputs), dark)  # from Python too
    again = il.load(where / "run").adapt(where / "support")
    assert np.allclose(again.predict_proba(inputs), dark, atol=1e-5)
    rows = predicted(adapted, inputs, tmp_path / "q.csv", "--no-invert")
    assert np.allclose([float(row[f"p_{task.classes_[0]}"]) for row in rows], light[:, 0], atol=1e-5)


def test_another_problems_number_may_not_carry_over(where, capsys):
    from innerloop.cli import trust

    learner = il.protonet(il.models.mlp((1, 28, 28), 8, hidden=()))
    fitted = learner.adapt(np.random.default_rng(0).random((4, 1, 28, 28), np.float32), [*"aabb"])
    record = {"tasks": {"name": "glyphs", "options": {}}}
    found, lines = trust.measured(fitted, [*"aabb"], record, None, 4, 0.95)
    assert "tasks of the training problem, not of your data: the number may not carry over" in lines[1]
    assert found.threshold.problem == "glyphs"
    record = {
        "tasks": {"name": str(where / "moved"), "options": {}}
    }  # the training data are gone: adapting still works
    found, lines = trust.measured(fitted, [*"aabb"], record, None, 4, 0.95)
    assert lines[0].startswith("the accuracy on new tasks is not known: expected a folder or a file of tasks")
    assert found.threshold is None


@pytest.mark.parametrize(("flags", "said"), [("--valid-tasks 3", "0 or at least 4"), ("--keep 95", "between 0 and 1")])
def test_flags_out_of_range(where, tmp_path, capsys, flags, said):
    line = ["adapt", str(where / "run"), str(where / "support"), "--out", str(tmp_path / "t.il")]
    assert main([*line, *flags.split()]) == 2
    assert said in capsys.readouterr().err


def test_validation_on_training_classes_promises_nothing(where):
    from innerloop.cli import trust

    learner = il.load(where / "run")
    fitted = learner.adapt(where / "support")
    names = [name for name in fitted.classes_ for _ in range(3)]
    options = {"size": [8, 8], "ways": 3, "shots": 2, "rotations": False, "valid_classes": 0, "test_classes": 0}
    record = {"tasks": {"name": str(where / "train"), "options": options}}
    with pytest.warns(il.InnerloopWarning, match="no classes of their own"):
        _, lines = trust.measured(fitted, names, record, None, 4, 0.95)
    assert "classes that training has seen: expect less of new ones" in lines[1]


def test_a_note_is_told_once(capsys):
    import warnings

    from innerloop.cli.boundary import guarded

    def work() -> int:
        for note in ("few classes", "few classes", "grey"):
            warnings.warn(note, il.InnerloopWarning, stacklevel=1)
        return 0

    assert guarded(work) == 0
    assert capsys.readouterr().err.splitlines() == ["innerloop: note: few classes", "innerloop: note: grey"]
