"""`innerloop train melu`, `adapt` and `recommend` on ratings: the line of the how-to, and what goes wrong in one line."""

import csv
import json

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run and a task file, made by the commands of the page."""
    path = tmp_path_factory.mktemp("recommend")
    rng = np.random.default_rng(0)
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(30):
        rows += [
            f"{user},{f},{rng.integers(1, 11) / 2},{10**9 + rng.integers(10**8)}" for f in rng.permutation(25)[:12]
        ]
    (path / "ratings.csv").write_text("\n".join(rows))
    genres = ["Action|Comedy", "War", "Action", "Comedy|War"]
    films = [f"{f},Film {f} ({1970 + f}),{genres[f % 4]}" for f in range(27)]
    (path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    (path / "mine.csv").write_text("movieId,rating\n1,5\n2,0.5\n3,4\n")
    line = f"train melu {path / 'ratings.csv'} --task-column userId --item-column movieId --item-table {path / 'movies.csv'}"
    line += f" --target rating --order-by timestamp --shots 4 --queries 4 --steps 2 --quiet --valid-tasks 2 --out {path / 'run'}"
    assert main(line.split()) == 0
    made = f"adapt {path / 'run'} {path / 'mine.csv'} --out {path / 'task.il'} --valid-tasks 0 --no-judge"
    assert main(made.split()) == 0
    return path


def test_the_best_ones_come_first_and_none_that_was_seen(folder, capsys):
    assert main(["recommend", str(folder / "task.il"), "--top", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["items"]
    fitted = il.load(folder / "task.il")
    assert [one["item"] for one in found] == fitted.rank(k=5) and not {1, 2, 3} & {one["item"] for one in found}
    stars = [one["prediction"] for one in found]
    assert stars == sorted(stars, reverse=True)
    x = {"movieId": [one["item"] for one in found if one["item"] < 25]}
    known = [one["prediction"] for one in found if one["item"] < 25]
    assert np.ravel(fitted.predict(x)).tolist() == pytest.approx(known, abs=1e-4)
    assert main(["recommend", str(folder / "task.il"), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item", "prediction"] and lines[1].split()[:2] == ["1", str(found[0]["item"])]


def test_among_some_items_into_a_file(folder, tmp_path, capsys):
    (tmp_path / "some.csv").write_text("movieId\n1\n7\n8\n")
    out = tmp_path / "best.csv"
    line = ["recommend", str(folder / "task.il"), "--items", str(tmp_path / "some.csv"), "--out", str(out)]
    assert main(line) == 0
    rows = list(csv.DictReader(out.open()))
    assert {row["item"] for row in rows} == {"7", "8"} and [row["rank"] for row in rows] == ["1", "2"]
    assert main([*line, "--with-seen", "--force"]) == 0
    assert {row["item"] for row in csv.DictReader(out.open())} == {"1", "7", "8"}
    assert main(line) == 2 and "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["{run}"], "expected a task file"),
        (["nowhere.il"], "no file at 'nowhere.il'"),
        (["{task}", "--top", "0"], "k expected"),
        (["{task}", "--items", "nothing.csv"], "--items expected a table"),
        (["{task}", "--items", "{mine}"], "that the user has not rated, got 3 that are"),
    ],
)
def test_what_cannot_be_is_one_line(folder, words, match, capsys):
    places = {"run": folder / "run", "task": folder / "task.il", "mine": folder / "mine.csv"}
    assert main(["recommend", *(word.format(**places) for word in words)]) == 2
    error = capsys.readouterr().err.strip()
    assert match in error and "\n" not in error


@pytest.mark.parametrize(
    ("rows", "code", "match"),
    [
        ("", 2, "at least one row"),
        ("1,7\n", 2, "'rating' expected 0.5 to 5"),
        ("1,5\nunheard of,3\n", 0, "hold an item that the learner does not know"),
        ("1,5\n2,3\n1,0.5\n", 0, "the last rating of each counts"),
    ],
)
def test_odd_ratings_of_a_user_are_one_line(folder, tmp_path, rows, code, match, capsys):
    (tmp_path / "odd.csv").write_text("movieId,rating\n" + rows)
    line = f"adapt {folder / 'run'} {tmp_path / 'odd.csv'} --out {tmp_path / 'odd.il'} --valid-tasks 0 --no-judge"
    assert main(line.split()) == code
    said = [text for text in capsys.readouterr().err.splitlines() if match in text]
    assert len(said) == 1
