"""Every learner that ships with the package: small, with its card, made by a recipe that is there, and opened offline."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

import pytest

import innerloop as il
from innerloop import builtin
from innerloop.builtin import LEARNERS, MOST_BYTES, card, located, located_words, place_for_findings
from innerloop.cli.main import main
from innerloop.errors import ConfigError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import recipe_hash

ROOT = Path(__file__).resolve().parents[2]
each = pytest.mark.parametrize("name", LEARNERS)


@each
def test_it_is_small_and_holds_numbers_and_json_only(name):
    files = list(located(f"builtin:{name}").iterdir())
    assert {file.name for file in files} == {"config.json", "best.safetensors", "card.json"}
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


@each
def test_its_files_are_in_the_wheel(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["innerloop"]
    for file in located(f"builtin:{name}").iterdir():
        inside = f"builtin/{name}/{file.name}"
        assert any(fnmatch.fnmatch(inside, pattern) for pattern in patterns), inside


@each
def test_its_card_says_what_it_is_and_how_it_is_made_again(name):
    told = card(name)
    assert all(told[entry] for entry in ("purpose", "limits", "data", "numbers", "commit"))
    assert all(one["name"] and one["terms"] for one in told["data"])
    recipe = RECIPES[told["recipe"]]
    assert told["recipe_hash"] == recipe_hash(recipe), "the recipe has changed since: python -m benchmarks.builtin NAME"
    assert told["rebuild"] == f"python -m benchmarks.builtin {name}"


@each
def test_it_opens_offline(name, offline):
    learner = il.load(f"builtin:{name}")
    assert isinstance(learner, MetaLearner) and learner.name == RECIPES[card(name)["recipe"]].algorithm


@each
def test_nothing_of_the_machine_travels_with_it(name):
    folder = located(f"builtin:{name}")
    for file in ("config.json", "card.json"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "/home/" not in text and "/work" not in text and "/tmp" not in text and "launch" not in text


def test_they_are_listed_with_their_names_first(capsys):
    assert main(["list", "learners"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(LEARNERS) and all(line.split("\t")[1] for line in lines)


def test_an_unknown_one_is_one_line_with_the_nearest(capsys):
    assert main(["adapt", "builtin:charaters", "x", "--out", "y.il"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "'builtin:characters'" in said
    with pytest.raises(ConfigError, match="did you mean 'builtin:characters'"):
        il.load("builtin:charaters")


def test_words_are_resolved_where_runs_stand_and_nowhere_else():
    place = str(located("builtin:characters"))
    assert located_words(["builtin:characters", "--json"]) == [place, "--json"]
    assert located_words(["builtin:characters,protonet", "glyphs"]) == [f"{place},protonet", "glyphs"]
    assert located_words(["a", "--out", "builtin:characters"]) == ["a", "--out", "builtin:characters"]
    assert located_words(["./builtin:characters", "package.module:name"]) == [
        "./builtin:characters",
        "package.module:name",
    ]
    assert located("runs/x") == Path("runs/x")


def test_what_is_found_out_about_it_is_not_written_into_the_package():
    place = place_for_findings(located("builtin:characters"))
    assert Path(builtin.__file__).parent not in place.absolute().parents
    assert place_for_findings(Path("runs/x")) == Path("runs/x")
