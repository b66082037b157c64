"""A path in the place of a problem's name: train, resume, evaluate, compare, doctor, data check."""

import json
import sys
from pathlib import Path

import pytest

from innerloop.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
import own_folders


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return own_folders.alike(tmp_path / "my pictures", 12, 5)


SMALL = ["--steps", "4", "--num-tasks", "1", "--quiet", "--model", "mlp", "--model-hidden", "8"]


def test_train_resume_and_evaluate_find_the_path_again(folder, capsys, monkeypatch):
    assert (
        main(["train", "protonet", "my pictures", "--ways", "3", "--queries", "2", *SMALL, "--valid-tasks", "3"]) == 0
    )
    run = Path("runs/protonet-my-pictures-seed0")
    record = json.loads((run / "config.json").read_text())["tasks"]
    assert record["name"] == str(folder.resolve()) and record["options"]["ways"] == 3
    (folder.parent / "elsewhere").mkdir()
    monkeypatch.chdir(folder.parent / "elsewhere")
    run = folder.parent / run
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--num-tasks", "5", "--shots", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_tasks"] == 5
    assert main(["evaluate", str(run), "--ways", "30"]) == 2
    assert "ways expected at most" in capsys.readouterr().err
    folder.rename(folder.with_name("moved"))
    assert main(["evaluate", str(run)]) == 2
    assert "got nothing at" in capsys.readouterr().err


@pytest.mark.slow
def test_compare_and_doctor_take_a_path(folder, capsys):
    line = [
        "compare",
        "protonet,scratch",
        str(folder),
        "--ways",
        "3",
        "--steps",
        "2",
        "--num-tasks",
        "4",
        "--quiet",
        "--json",
    ]
    assert main([*line, "--model", "mlp"]) == 0
    assert set(json.loads(capsys.readouterr().out)["results"]) == {"protonet", "scratch"}
    assert main(["doctor", "mlp", "--algorithm", "protonet", "--tasks", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["right"]


def test_data_check_says_what_is_there(folder, capsys):
    (folder / "c00" / "9.png").write_bytes((folder / "c11" / "0.png").read_bytes())
    (folder / "c01" / "8.png").write_bytes((folder / "c01" / "0.png").read_bytes())
    (folder / "c02" / "7.png").write_text("no picture")
    (folder / "notes.txt").write_text("x")
    assert main(["data", "check", str(folder), "--json", "--out", "sheet.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == 12 and found["pictures"] == 62 and found["shape"] == [1, 12, 12]
    assert found["duplicates"]["within a class"]["first"] == [["c01/0.png", "c01/8.png"]]
    assert sum(found["duplicates"][k]["count"] for k in ("between classes", "between splits")) == 1
    assert [name for name, _ in found["unreadable"]] == ["c02/7.png"] and found["other files"] == 1
    assert sorted(name for names in found["splits"].values() for name in names) == [f"c{i:02}" for i in range(12)]
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    assert main(["data", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "c02/7.png (not a picture of a known format)" in said and "12 classes, 62 pictures" in said


def test_the_suggested_command_runs(folder, capsys):
    import shlex

    assert main(["data", "check", str(folder), "--ways", "3", "--invert", "--json"]) == 0
    words = shlex.split(json.loads(capsys.readouterr().out)["command"])
    assert words[0] == "innerloop" and "--invert" in words
    if "--model" in words:  # with the extra photos; its network takes seconds to open
        at = words.index("--model")
        assert words[at : at + 2] == ["--model", "photos"]
        del words[at : at + 2]
    assert main([*words[1:], *SMALL, "--validate-every", "0"]) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["train", "protonet", "./nowhere"], "got nothing at './nowhere'"),
        (["train", "protonet", "nowhere"], "unknown problem 'nowhere'"),
        (["data", "check", "nowhere"], "got nothing at 'nowhere'"),
        (["data", "check"], "expected PATH"),
        (["data", "check", "one"], "at least two classes"),
        (["data", "check", "my pictures", "--way", "3"], "--ways"),
        (["data", "check", "my pictures", "--channels", "2"], "channels expected 1"),
        (["train", "protonet", "my pictures", "--shots", "9"], "shots + queries expected at most 5"),
    ],
)
def test_one_line_and_exit_code_two(folder, capsys, line, said):
    own_folders.make(folder.parent / "one", {"cat": 3})
    assert main(line) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and "\n" not in err, err
