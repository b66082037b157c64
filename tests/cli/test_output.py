"""Places that cannot be written are told before the work, by the name that the user gave."""

import errno

import pytest

from innerloop.cli import output
from innerloop.cli.main import main
from innerloop.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "x.csv").write_text("x,y\n1,2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("adapt folder x.csv --out folder", "--out expected a file, got the folder 'folder'"),
        ("adapt folder x.csv --out folder --force", "--out expected a file, got the folder 'folder'"),
        (
            "adapt folder x.csv --out file/task.il",
            "--out 'file/task.il' expected a folder above it, got the file 'file'",
        ),
        ("predict x.csv x.csv --out folder --force", "--out expected a file, got the folder 'folder'"),
        ("predict x.csv x.csv --out file/deep/p.csv", "--out 'file/deep/p.csv' expected a folder above it"),
        ("train maml sinusoid --out file", "--out expected a folder, got the file 'file'"),
        ("train maml sinusoid --out file/run", "--out 'file/run' expected a folder above it"),
        ("compare maml,reptile sinusoid --out file", "--out expected a folder, got the file 'file'"),
        ("demo --out file", "--out expected a folder, got the file 'file'"),
        ("report folder --out file", "--out expected a folder, got the file 'file'"),
        ("report folder --out file/r.html", "--out 'file/r.html' expected a folder above it"),
        ("run sinusoid-maml --out file", "--out expected a folder, got the file 'file'"),
        ("run sinusoid-maml --results folder", "--results expected a file, got the folder 'folder'"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_on_one_line(here, capsys, line, said):
    from innerloop.recipes import RECIPES

    words = [next(iter(RECIPES)) if word == "sinusoid-maml" else word for word in line.split()]
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err


def test_a_new_file_is_not_an_old_one(here):
    assert output.new_file(here / "new" / "p.csv", force=False) == here / "new" / "p.csv"
    assert output.new_file(here / "file", force=True) == here / "file"
    with pytest.raises(InputError, match="--force"):
        output.new_file(here / "file", force=False)


def test_errors_while_writing_name_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(PermissionError) as found, output.writing(tmp_path / "task.il"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".task.il.x7f"))
    assert found.value.filename == str(tmp_path / "task.il")
