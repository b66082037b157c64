"""What users give wrongly: one line that says what was expected, what came and what to do, exit 2, and nothing made is lost."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.cli.main import main
from innerloop.tasks.tables.own import table_family


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on pictures and one on a table, each with a task file and what belongs to it."""
    where = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    family = il.tasks.from_arrays(
        rng.integers(0, 255, (36, 8, 8), np.uint8), np.repeat(np.arange(12), 3), ways=2, shots=1, queries=1
    )
    options = {"steps": 1, "num_tasks": 1, "valid_tasks": 1, "quiet": True, "strategy": "vmapped"}
    il.fit(il.protonet(il.models.mlp((1, 8, 8), 4, hidden=())), family, out=where / "pictures", **options)
    for folder, count in (("support", 6), ("asked", 6)):
        for label in ("ant", "cat"):
            (where / folder / label).mkdir(parents=True)
            for i in range(count):
                Image.new("L", (9, 9), 200 * (label == "cat") + i).save(where / folder / label / f"{i}.png")
    assert main(["adapt", *words(where, "pictures support --valid-tasks 0 --out pictures.il")]) == 0
    if importable("pandas"):
        lines = ["who,x,colour,y", *(f"w{t},{x},{'rg'[t % 2]},{t + 2.5 * x}" for t in range(8) for x in range(4))]
        (where / "train.csv").write_text("\n".join(lines))
        family = table_family(where / "train.csv", target="y", task_column="who", shots=2, queries=2)
        learner = il.maml(il.models.mlp(family.train.input_shape[0], 1, hidden=(4,)), inner_steps=1)
        il.fit(learner, family, out=where / "table", **options)
        (where / "new.csv").write_text("x,colour,y\n0,r,1\n1,r,3\n")
        assert main(["adapt", *words(where, "table new.csv --valid-tasks 0 --out table.il")]) == 0
    return where


def importable(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def words(where, line: str) -> list[str]:
    """The words of a command line; those that name something in the folder, or a file to write there, as paths."""
    return [str(where / w) if (where / w).exists() or w.endswith((".il", ".csv")) else w for w in line.split()]


def refused(capsys, command: str, where, line: str) -> str:
    """The one line that is said."""
    capsys.readouterr()
    assert main([command, *words(where, line)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("innerloop: error: "), err
    return err


@pytest.mark.parametrize(
    ("command", "line", "said"),
    [
        ("adapt", "pictures support/ant/0.png --out x.il", "got the picture"),
        ("adapt", "pictures train.csv --target y --out x.il", "--target expected a table, got pictures"),
        ("adapt", "pictures train.csv --out x.il", "train.csv"),
        ("adapt", "pictures support/ant --out x.il", "expected one subfolder a class"),
        ("predict", "pictures support --out x.csv", "expected a task file of `innerloop adapt`, got the folder"),
        ("predict", "pictures.il train.csv --out x.csv", "expected pictures, as this task was adapted to pictures"),
        ("predict", "pictures.il asked --unknown --out x.csv", "(`innerloop adapt` said why); leave it out"),
        ("adapt", "table new.csv --target x --out x.il", "--target expected 'y', got 'x', an input of this learner"),
        ("adapt", "pictures support --target y --out x.il", "--target expected a table, got pictures; leave it out"),
        ("predict", "pictures.il asked --encoding latin-1 --out x.csv", "--encoding expected a table, got pictures"),
        ("adapt", "table new.csv --invert --out x.il", "--invert expected pictures, got a table; leave it out"),
        ("predict", "table.il new.csv --no-invert --out x.csv", "--invert expected pictures, got a table"),
        ("predict", "table.il support/ant/0.png --out x.csv", "height, width), got one of inputs"),
    ],
)  # fmt: skip
def test_another_kind_of_input_is_named(made, capsys, command, line, said):
    if "table" in line:
        pytest.importorskip("pandas")
    assert said in refused(capsys, command, made, line)


def test_a_few_unreadable_pictures_are_left_out_and_said(made, tmp_path, capsys):
    import shutil

    for folder in ("support", "asked"):
        shutil.copytree(made / folder, tmp_path / folder)
        (tmp_path / folder / "cat" / "3.png").write_bytes(b"junk")
    task, out = tmp_path / "task.il", tmp_path / "p.csv"
    assert (
        main(["adapt", str(made / "pictures"), str(tmp_path / "support"), "--valid-tasks", "0", "--out", str(task)])
        == 0
    )
    said = capsys.readouterr().out
    assert "left out: 1 of 12 pictures, which cannot be read" in said and "cat/3.png (not a picture" in said
    assert "adapted to 11 examples" in said
    assert main(["predict", str(task), str(tmp_path / "asked"), "--out", str(out)]) == 0
    assert "left out: 1 of 12 pictures" in capsys.readouterr().out
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 11 and all(row["label"] in row["path"] for row in rows)
    before = out.read_bytes()
    (tmp_path / "asked" / "ant" / "3.png").write_bytes(b"junk")  # now two of twelve
    assert "at most 10% of its pictures to be unreadable, got 2 of 12" in refused(
        capsys, "predict", tmp_path, "task.il asked --out p.csv --force"
    )
    assert out.read_bytes() == before


def test_separators_and_encodings_are_said_or_given(made, tmp_path, capsys):
    pytest.importorskip("pandas")
    table = tmp_path / "rows.csv"
    table.write_text("x:colour:y:größe\n0:r:1:2\n1:r:3:2\n", encoding="latin-1")
    run, task, out = str(made / "table"), tmp_path / "t.il", tmp_path / "p.csv"
    assert "(--encoding latin-1)" in refused(capsys, "adapt", tmp_path, f"{run} rows.csv --out t.il")
    said = refused(capsys, "adapt", tmp_path, f"{run} rows.csv --encoding latin-1 --out t.il")
    assert "has no column 'y': its one column is 'x:colour:y:größe'; say what separates the cells" in said
    text = ["--separator", ":", "--encoding", "latin-1"]
    assert main(["adapt", run, str(table), *text, "--valid-tasks", "0", "--out", str(task)]) == 0
    said = refused(capsys, "predict", tmp_path, "t.il rows.csv --encoding latin-1 --out p.csv")
    assert "got none named 'x', 'colour' (its one column is" in said
    assert main(["predict", str(task), str(table), *text, "--out", str(out)]) == 0
    assert len(list(csv.DictReader(out.open()))) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"w{i},{i},r," for i in range(8)], "got 0 (left out: 8 rows without a target, 8 tasks with "),
        (
            [f"w{i},{i},r,{i}.5" for i in range(8)],
            "got 0 (left out: 8 tasks with fewer than 2 rows with a target: 'w0', ",
        ),
    ],
)
def test_a_table_without_tasks_says_why(tmp_path, capsys, lines, said):
    pytest.importorskip("pandas")
    (tmp_path / "t.csv").write_text("\n".join(["who,x,colour,y", *lines]))
    line = "check t.csv --target y --task-column who"
    found = refused(capsys, "data", tmp_path, line)
    assert said in found and "give more rows or another rule: --task-column NAME" in found
