"""Bands of the short recipes: how they are measured, and what the check says."""

import dataclasses

import pytest

from benchmarks.published import bands
from benchmarks.published.__main__ import main
from innerloop.errors import ConfigError, InputError
from innerloop.recipes import RECIPES
from innerloop.recipes.short import NAMES

VALUES = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]  # mean 12.5, standard deviation 1.8708


def fake(value):
    return lambda name, seed: [{"metric": "m", "value": VALUES[seed] if value is None else value}]


@pytest.fixture
def stored():
    return bands.measured(6, fake(None), say=lambda text: None)


def test_a_band_is_three_standard_deviations_wide(stored, tmp_path):
    assert [band.recipe for band in stored] == list(NAMES)
    assert (stored[0].mean, stored[0].low, stored[0].high, stored[0].seeds) == (12.5, 6.8875, 18.1125, 6)
    bands.write(tmp_path / bands.FILE, stored)
    assert bands.read(tmp_path / bands.FILE) == stored


@pytest.mark.parametrize(
    ("value", "inside"), [(6.9, True), (18.1, True), (6.8, False), (18.2, False), (float("nan"), False)]
)
def test_the_check_fails_outside_the_band(stored, value, inside):
    verdicts = bands.check(stored, fake(value))
    assert [verdict.inside for verdict in verdicts] == [inside, inside]
    assert ("ok" if inside else "OUTSIDE") in str(verdicts[0])


def test_bands_of_another_recipe_or_without_a_number_are_refused(stored):
    with pytest.raises(InputError, match="one of an earlier sine-check"):
        bands.check([dataclasses.replace(stored[0], recipe_hash="x"), stored[1]], fake(12.0))
    with pytest.raises(InputError, match="stored band of glyphs-check, m, got none"):
        bands.check(stored[:1], fake(12.0))


def test_few_seeds_make_no_band():
    with pytest.raises(ConfigError, match="--seeds expected at least 6, got 5"):
        bands.measured(5, fake(1.0))


def test_the_command_exits_with_one_when_a_number_has_left_its_band(stored, tmp_path, monkeypatch, capsys):
    bands.write(tmp_path / bands.FILE, stored)
    check = bands.check
    for value, code in ((12.0, 0), (30.0, 1)):
        monkeypatch.setattr(bands, "check", lambda own, value=value: check(own, fake(value)))
        assert main(["--check", "--out", str(tmp_path)]) == code
    assert "30, stored 6.888 to 18.11: OUTSIDE" in capsys.readouterr().out
    assert main(["--check", "--out", str(tmp_path / "none")]) == 2
    assert "--store-bands" in capsys.readouterr().err


def test_the_stored_bands_are_of_todays_recipes():
    from pathlib import Path

    from innerloop.recipes.recipe import recipe_hash

    found = bands.read(Path(__file__).resolve().parents[3] / "results" / bands.FILE)
    assert {band.recipe for band in found} == set(NAMES)
    assert all(band.recipe_hash == recipe_hash(RECIPES[band.recipe]) for band in found), bands.STORE
    assert all(band.seeds >= bands.FEWEST_SEEDS and band.low < band.high for band in found)
