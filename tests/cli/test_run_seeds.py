"""`innerloop run RECIPE --seeds`: a published setting from several seeds."""

from __future__ import annotations

import json
import math

import pytest

from innerloop.cli.main import main


@pytest.mark.slow
def test_numbers_of_several_seeds_are_their_mean(tmp_path, capsys):
    words = ["run", "sine-grid-cpu", "--seeds", "3,5", "--minutes", "0.03", "--out", str(tmp_path / "runs"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == [3, 5] and found["ci95_over"] == "seeds" and len(found["seeds"]) == 2
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"seed-3", "seed-5"}
    for i, row in enumerate(found["rows"]):
        one, two = (own["rows"][i]["value"] for own in found["seeds"])
        assert row["value"] == pytest.approx((one + two) / 2)
        sd = math.sqrt(2) * abs(one - two) / 2
        assert row["ci95"] == pytest.approx(1.96 * sd / math.sqrt(2))
    assert any(own["rows"][0]["value"] != found["rows"][0]["value"] for own in found["seeds"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sine-grid-cpu --seed 1 --seeds 0,1", "expected --seed or --seeds, got both"),
        ("sine-grid-cpu --seeds 1", "--seeds expected two or more"),
        ("exact-posterior --seeds 0,1", "--seeds expected a recipe that trains"),
    ],
)
def test_mistakes_are_one_line(words, said, capsys):
    from innerloop.recipes import RECIPES

    recipe = words.split()[0]
    if recipe not in RECIPES:
        words = words.replace(recipe, next(name for name, made in RECIPES.items() if made.runner is not None))
    assert main(["run", *words.split()]) == 2
    assert said in capsys.readouterr().err
