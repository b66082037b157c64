"""The commands on the methods' pages work: each is parsed, made into a method and a problem, and takes one tiny outer step."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import innerloop
from innerloop.cli.main import main
from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import Omniglot
from innerloop.evaluation.costs import Cost
from innerloop.methods import NAMED
from innerloop.recipes import RECIPES
from innerloop.tasks.pictures import omniglot
from innerloop.tasks.streams import class_streams

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The `innerloop` lines of a page's code blocks, as words without the program's name."""
    lines = "".join(_BLOCK.findall(page.read_text("utf-8"))).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("innerloop ")]


def random_omniglot(size: int) -> Omniglot:
    """Noise in place of the drawings, which may not be at hand: 11 alphabets, enough for the widest task of a page."""
    background, evaluation = [(f"B{a}", c) for a in range(8) for c in range(10)], [("E0", c) for c in range(60)]
    names = tuple(f"{a}/{c:02d}" for a, c in background + evaluation)
    pictures = torch.randint(0, 256, (len(names), 20, size, size), dtype=torch.uint8)
    groups = tuple(a for a, _ in background + evaluation)
    return Omniglot(ClassImages(pictures, names, groups), len(background))


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """One outer step on one task, no validation, two test tasks; everything else as the page says."""
    fit, compare = innerloop.fit, innerloop.compare
    fitted = []

    def one_step(learner, family, **settings):
        fitted.append((learner.name, Path(family.name).name))
        return fit(learner, family, **{**settings, "steps": 1, "num_tasks": 1, "validate_every": 0, "quiet": True})

    def two_tasks(learners, tasks, **settings):
        return compare(learners, tasks, **{**settings, "num_tasks": 2})

    comparing = importlib.import_module("innerloop.evaluation.compare")  # `innerloop.compare` is its function
    monkeypatch.setattr(comparing, "costs", lambda learners, *_, **__: {label: Cost(1.0, 1) for label in learners})
    monkeypatch.setattr(innerloop, "fit", one_step, raising=False)
    monkeypatch.setattr(innerloop, "compare", two_tasks, raising=False)
    for module in (omniglot, class_streams):
        monkeypatch.setattr(module, "load_omniglot", random_omniglot)
    monkeypatch.chdir(tmp_path)
    made_up_ratings(tmp_path)
    return fitted


def made_up_ratings(folder: Path) -> None:
    """A reader's own tables: 30 users who rate 14 of 25 films."""
    rng = np.random.default_rng(0)
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(30):
        rows += [
            f"{user},{film},{rng.integers(1, 11) / 2},{10**9 + rng.integers(10**8)}"
            for film in rng.permutation(25)[:14]
        ]
    (folder / "ratings.csv").write_text("\n".join(rows))
    genres = ["Action|Comedy", "War", "Action", "Comedy|War"]
    films = [f"{film},Film {film} ({1970 + film}),{genres[film % 4]}" for film in range(25)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))


def test_every_method_has_a_page_with_a_command_for_it():
    assert {page.stem for page in PAGES.glob("*.md")} == set(NAMED)
    for page in PAGES.glob("*.md"):
        said = [words for words in commands(page) if words[0] in ("train", "compare")]
        assert any(page.stem in words[1].split(",") for words in said), page.name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_pages_commands_work(name, tiny, capsys):
    """In the page's order, since a command may go on from a run directory of the one before."""
    for words in commands(PAGES / f"{name}.md"):
        kind, before = words[0], len(tiny)
        if kind == "run":  # minutes to hours: that the recipe is there, and takes the flags that are shown
            assert words[1] in RECIPES
            assert main([*words, "--help"]) == 0
        elif kind == "stream":  # of the run before, shorter than the page says
            few = ["--classes", "3", "--valid-streams", "1"] if "--classes" in words else []
            assert main([*words[:2], *few, "--streams", "2"]) == 0, capsys.readouterr().err
        elif kind == "evaluate":
            assert main([*words, "--num-tasks", "2"]) == 0, capsys.readouterr().err
        else:
            assert main(words) == 0, f"innerloop {shlex.join(words)}: {capsys.readouterr().err}"
        trained = [
            m for m in words[1].split(",") if m in NAMED
        ]  # not what needs no training: known optimizers, and runs
        expected = [(m, words[2]) for m in trained] if kind in ("train", "compare") else []
        assert tiny[before:] == expected
        assert kind in ("train", "compare", "stream", "doctor", "run", "evaluate", "adapt", "play")
