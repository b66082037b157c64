"""Races: what is read from a training's log, what is written, drawn and shown."""

import json

import pytest

from benchmarks.published import race
from benchmarks.published.__main__ import main
from benchmarks.published.races import RACERS, RACES

LOG = "\n".join(
    json.dumps(record)
    for record in (
        {"step": 10, "split": "train", "loss": 1.0, "seconds": 5.0},
        {"step": 10, "split": "valid", "accuracy": 0.5, "ci95": 0.02, "seconds": 7.0},
        {"step": 20, "split": "train", "loss": 0.9, "seconds": 12.0},
        {"step": 20, "split": "valid", "accuracy": 0.7, "ci95": 0.01, "seconds": 15.0},
    )
)


@pytest.fixture
def found():
    return [
        point
        for i, name in enumerate(RACES["glyphs"])
        for point in race.points(LOG, name, None if i == 2 else 40.06 * (i + 1), 0, "0123456789")
    ]


def test_seconds_of_training_leave_the_validations_out(found):
    first, second = found[:2]
    assert (first.seconds, first.train_seconds, second.train_seconds) == (7.0, 5.0, 10.0)
    assert (second.value, second.ci95, second.metric, second.peak_mib, second.step) == (0.7, 0.01, "accuracy", 40.1, 20)


def test_points_come_back_from_their_file(found, tmp_path):
    race.write(tmp_path / "race_glyphs.csv", found)
    assert race.read(tmp_path / "race_glyphs.csv") == found and race.read(tmp_path / "none.csv") == []


def test_the_page_has_the_picture_and_the_best_of_each(found, tmp_path):
    assert race.described(tmp_path) == []
    race.write(tmp_path / race.FILE.format("glyphs"), found)
    text = "\n".join(race.described(tmp_path))
    assert "](race_glyphs.png)" in text and text.count("| 70 ± 1 % | 20 of 20 | 10 |") == 3
    assert "| 40 |" in text and "| 80 |" in text and "| - |" in text and "stale" not in text
    (tmp_path / "docs").mkdir()
    (picture,) = race.draw(tmp_path, tmp_path / "docs")
    assert picture.name == "race_glyphs.png" and picture.read_bytes().startswith(b"\x89PNG")


def test_a_race_of_a_changed_recipe_is_stale(found, tmp_path, monkeypatch):
    race.write(tmp_path / race.FILE.format("glyphs"), found)
    monkeypatch.setattr(race, "recipe_hash", lambda recipe: "another")
    assert "\n".join(race.described(tmp_path)).count("**stale: the recipe has changed since.**") == 3


def test_racers_log_where_they_validate_and_share_tasks_and_network():
    for names in RACES.values():
        recipes = [RACERS[name] for name in names]
        for recipe in recipes:
            assert recipe.training["log_every"] == recipe.training["validate_every"] >= 1
        assert len({str(recipe.model_options) for recipe in recipes}) == 1
        assert len({recipe.training["valid_tasks"] for recipe in recipes}) == 1
        assert len({(r.task_options["ways"], r.task_options["shots"], r.task_options["queries"]) for r in recipes}) == 1


def test_an_unknown_race_and_two_flags_are_told(capsys):
    assert main(["--race", "glyph"]) == 2
    assert "did you mean 'glyphs'?" in capsys.readouterr().err
    assert main(["--page", "--check"]) == 2
    assert "got more of them; give one" in capsys.readouterr().err
