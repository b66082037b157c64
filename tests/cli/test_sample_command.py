"""The lines of the how-to: train, adapt to a folder without labels, sample; and what goes wrong in one line."""

import json

import numpy as np
import pytest
from PIL import Image

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample")
    rng = np.random.default_rng(0)
    for kind in range(6):
        (path / "kinds" / str(kind)).mkdir(parents=True)
        for i in range(4):
            drawn = np.full((20, 24), 255, np.uint8)
            drawn[2 + kind * 2 : 5 + kind * 2, rng.integers(0, 6) : 18] = 0
            Image.fromarray(drawn).save(path / "kinds" / str(kind) / f"{i}.png")
    line = (
        f"train score_model drawings --folder {path / 'kinds'} --size 8 --shots 2 --queries 2 --steps 2 --num-tasks 2"
    )
    assert main([*line.split(), "--valid-tasks", "2", "--quiet", "--out", str(path / "run")]) == 0
    assert main(["adapt", str(path / "run"), str(path / "kinds" / "0"), "--out", str(path / "task.il")]) == 0
    return path


pytestmark = pytest.mark.filterwarnings("ignore::innerloop.errors.InnerloopWarning")


def test_a_folder_becomes_a_task_and_a_sheet(folder, capsys):
    fitted = il.load(folder / "task.il")
    assert fitted.num_examples == 4 and fitted.support.shape[1:] == (1, 8, 8)
    # Black lines on white paper were read as ink.
    shown = il.load(folder / "run").adapt(str(folder / "kinds" / "0")).support
    assert 0 < float(shown.mean()) < 0.5
    words = ["sample", str(folder / "task.il"), "--n", "6", "--steps", "3", "--out"]
    assert main([*words, str(folder / "sheet.png")]) == 0 and "6 new examples" in capsys.readouterr().out
    sheet = np.asarray(Image.open(folder / "sheet.png"))
    assert sheet.ndim == 2 and sheet.shape == (3 * (2 * 10 + 2), 3 * (3 * 10 + 2))
    assert main([*words, str(folder / "new.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [1, 8, 8]
    made = np.load(folder / "new.npy")
    assert made.shape == (6, 1, 8, 8) and np.allclose(made, il.load(folder / "task.il").sample(6, steps=3).numpy())


def test_vectors_come_from_a_table_and_go_into_one(tmp_path, capsys):
    line = "train score_model mixtures --shots 4 --queries 4 --steps 1 --num-tasks 2 --valid-tasks 2 --quiet --out"
    assert main([*line.split(), str(tmp_path / "run")]) == 0
    (tmp_path / "points.csv").write_text("a,b\n0.5,1\n-1,0.25\n")
    assert main(["adapt", str(tmp_path / "run"), str(tmp_path / "points.csv"), "--out", str(tmp_path / "task.il")]) == 0
    assert "adapted to 2 examples" in capsys.readouterr().out
    out = tmp_path / "new.csv"
    assert main(["sample", str(tmp_path / "task.il"), "--n", "3", "--steps", "2", "--out", str(out)]) == 0
    rows = out.read_text().split()
    assert rows[0] == "x1,x2" and len(rows) == 4
    (tmp_path / "wrong.csv").write_text("a,b,c\n1,2,3\n")
    said = refused(
        ["adapt", str(tmp_path / "run"), str(tmp_path / "wrong.csv"), "--out", str(tmp_path / "x.il")], capsys
    )
    assert "2 columns of numbers, got 3" in said


def refused(words, capsys) -> str:
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_what_cannot_be_is_one_line(folder, capsys, tmp_path):
    run, task = str(folder / "run"), str(folder / "task.il")
    assert "drawings --folder" in refused(["train", "score_model", str(folder / "kinds"), "--steps", "1"], capsys)
    assert "examples without labels" in refused(["train", "score_model", "sinusoid", "--steps", "1"], capsys)
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank").mkdir()
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "blank" / "a.png")
    adapt = ["adapt", run, "PLACE", "--out", str(tmp_path / "t.il")]
    for place, says in (
        (tmp_path / "empty", "expected pictures below"),
        (tmp_path / "blank", "pictures that show something"),
        (folder / "kinds", "pictures of one kind, got one with folders in it"),
        (tmp_path / "nothing", "got nothing at"),
    ):
        assert says in refused([str(place) if word == "PLACE" else word for word in adapt], capsys)
    one = str(folder / "kinds" / "0" / "0.png")  # one picture is enough
    assert main([one if word == "PLACE" else word for word in adapt]) == 0
    assert "--target" in refused([*adapt[:2], one, "--target", "y", "--out", str(tmp_path / "u.il")], capsys)
    assert "expected --out" in refused(["sample", task], capsys)
    assert ".png, .npy, .csv" in refused(["sample", task, "--out", "sheet.gif"], capsys)
    assert ".png or .npy for pictures" in refused(["sample", task, "--out", str(tmp_path / "a.csv")], capsys)
    assert "n expected" in refused(["sample", task, "--n", "0", "--out", str(tmp_path / "a.png")], capsys)
    assert "got a folder" in refused(["sample", run, "--out", str(tmp_path / "a.png")], capsys)
    (tmp_path / "broken.il").write_bytes(b"nothing of the kind")
    assert "broken.il" in refused(["sample", str(tmp_path / "broken.il"), "--out", str(tmp_path / "a.png")], capsys)
