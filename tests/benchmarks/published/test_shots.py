"""Accuracy against examples a class: rows become a picture and a table, and say what the page says of them."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest

from benchmarks import ROOT
from benchmarks.published import shots
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import recipe_hash
from innerloop.recipes.result_rows import HEADER
from innerloop.recipes.shots import LOGISTIC, META, SCRATCH, SHOTS


def rows(folder: Path, recipe: str, changed: str = "") -> None:
    """One file with three curves, the first falling behind by two points a step."""
    shared = {"recipe": recipe, "ci95": 1.5, "num_tasks": 7, "seed": 0, "commit": "abc", "command": "innerloop run"}
    with (folder / shots.FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        for i, number in enumerate((1, 10, 100)):
            names = {META: 60 + i, SCRATCH: 50 + 3 * i, f"{META}, less {SCRATCH}, task by task": 10 - 2 * i}
            for name, value in names.items():
                metric = f"accuracy %, {number} a class: {name}"
                writer.writerow(
                    {**shared, "metric": metric, "value": value, "recipe_hash": changed or recipe_hash(RECIPES[recipe])}
                )


def test_rows_become_curves_a_table_and_a_picture(tmp_path):
    rows(tmp_path, "shots-glyphs")
    found = shots.read(tmp_path)
    assert [(p.at, p.value) for p in shots.of(found, "shots-glyphs", META)] == [(1, 60), (10, 61), (100, 62)]
    (picture,) = shots.draw(tmp_path, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = "\n".join(shots.described(tmp_path))
    assert "| 10 | 61.0 ± 1.5 | 53.0 ± 1.5 | - | 8.0 ± 1.5 | - |" in text
    assert "Printed characters, as pictures" in text and "letters" not in text.lower()
    rows(tmp_path, "shots-glyphs", changed="0" * 12)
    assert "stale: the recipe has changed since" in "\n".join(shots.described(tmp_path))


def test_no_rows_no_section(tmp_path):
    assert shots.read(tmp_path) == shots.draw(tmp_path, tmp_path) == shots.described(tmp_path) == []


@pytest.mark.parametrize("recipe", ["shots-tables", "shots-glyphs"])
def test_the_stored_rows_say_few_rows_help_most_and_many_catch_up(recipe):
    found = shots.read(ROOT / "results")
    for other in (SCRATCH, LOGISTIC):
        ahead = shots.of(found, recipe, f"{META}, less {other}, task by task")
        assert [p.at for p in ahead] == list(SHOTS)
        for point in ahead:
            if point.at <= 5:
                assert point.value > point.ci95, point
            if point.at >= 50:
                assert point.value < point.ci95, point
    assert all(math.isfinite(p.value) and not p.doubt.startswith("stale") for p in found)


def test_the_page_quotes_the_stored_rows():
    text = (ROOT / "docs" / "how-to-choose.md").read_text(encoding="utf-8")
    found = {
        p.at: p
        for p in shots.of(shots.read(ROOT / "results"), "shots-tables", f"{META}, less {LOGISTIC}, task by task")
    }
    first, last = re.search(
        r"by (\S+ ± \S+) points, with ten they are level, and with 200 it is\n(\S+ ± \S+) behind", text
    ).groups()
    assert first == f"{found[1].value:.1f} ± {found[1].ci95:.1f}" and abs(found[10].value) < found[10].ci95
    assert last == f"{-found[200].value:.1f} ± {found[200].ci95:.1f}"


@pytest.mark.slow
def test_the_recipe_runs_small():
    from innerloop.recipes.shots import run

    found = run("glyphs", (1, 2), steps=2, tasks=2)
    assert len(found) == 10 and all(row["num_tasks"] == 2 and math.isfinite(row["value"]) for row in found)
    values = {row["metric"]: row["value"] for row in found}
    start = "accuracy %, 2 a class: "
    ahead = values[f"{start}{META}, less {LOGISTIC}, task by task"]
    assert ahead == pytest.approx(values[start + META] - values[start + LOGISTIC], abs=0.02)
