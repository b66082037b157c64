"""`builtin:characters` on printed characters of other scripts, from folders as people have them; nothing else is at hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import innerloop as il
from innerloop.builtin import located
from innerloop.cli.main import main
from innerloop.data.glyph_fonts import drawn


@pytest.fixture(scope="module")
def glyphs():
    """Printed characters of scripts that training has in no font."""
    return il.tasks.glyphs(ways=10, shots=1, queries=5).test


@pytest.mark.parametrize(("changes", "least"), [("none", 0.05), ("brush", 0.10)])
def test_it_beats_the_nearest_picture_on_new_scripts(glyphs, changes, least):
    report = il.evaluate(il.load("builtin:characters"), glyphs.altered(changes=changes), num_tasks=30, seed=3)
    nearest = report.baselines["nearest"]
    assert nearest.lead - nearest.lead_ci95 > least, report
    assert all(one.lead > 0 for one in report.baselines.values()), report


def folder_of(path, letters, faces, dark):
    """Printed letters, each in some fonts, as small pictures of different sizes; ink dark on light paper or light on dark."""
    for letter in letters:
        for number, face in enumerate(faces):
            ink = drawn(ord(letter), face)
            assert ink is not None
            margin = 6 + 3 * number
            picture = np.pad(ink, margin)
            place = path / f"U{ord(letter):04x}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - picture if dark else picture).save(place / f"{number}.png")
    return path


LETTERS = "աբգდე"  # Armenian and Georgian: training has them in no font


@pytest.mark.parametrize("dark", [True, False])
def test_a_folder_of_pictures_on_the_command_line(tmp_path, offline, capsys, dark):
    """Sans serif shown, serif asked; the ink is found, whichever way round, and the task file remembers it."""
    shown = folder_of(tmp_path / "shown", LETTERS, [0, 4], dark)
    asked = folder_of(tmp_path / "asked", LETTERS, [1], dark)
    task, out = tmp_path / "task.il", tmp_path / "predictions.csv"
    assert main(["adapt", "builtin:characters", str(shown), "--out", str(task)]) == 0
    said = capsys.readouterr().out
    assert "adapted to 10 examples (5 classes)" in said and "measured when the learner was made" in said
    assert main(["predict", str(task), str(asked), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    right = [row["label"] in row["path"] for row in rows]
    assert len(right) == 5 and sum(right) >= 4
    found = il.load(task)
    assert found.preprocessing["invert"] is dark
    assert (found.threshold.ways, found.threshold.shots, found.threshold.problem) == (5, 1, "characters")


def test_python_reads_a_folder_in_the_same_way(tmp_path, offline):
    learner = il.load("builtin:characters")
    shown = folder_of(tmp_path / "shown", LETTERS[:4], [0, 4], dark=True)
    light = folder_of(tmp_path / "light", LETTERS[:4], [0, 4], dark=False)
    asked = sorted((tmp_path / "shown").rglob("*.png"))
    one, two = learner.adapt(shown), learner.adapt(light)
    assert one.preprocessing["invert"] is True and two.preprocessing["invert"] is False
    np.testing.assert_allclose(
        one.predict_proba([str(path) for path in asked]),
        two.predict_proba([str(path) for path in sorted((tmp_path / "light").rglob("*.png"))]),
        atol=2e-3,  # made smaller, bytes are rounded one way or the other,
    )


def test_evaluating_it_needs_its_data_and_says_so_in_one_line(offline, capsys):
    before = {file: file.read_bytes() for file in located("builtin:characters").iterdir()}
    assert main(["evaluate", "builtin:characters", "--num-tasks", "5"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "innerloop data fetch omniglot" in said
    assert {file: file.read_bytes() for file in located("builtin:characters").iterdir()} == before
