"""The recipes of plain folders: what they write is what they say, and a folder of Omniglot holds the built-in tasks."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.data.glyph_fonts import Character
from innerloop.data.glyph_images import DRAWINGS, draw
from innerloop.data.omniglot_archive import load_omniglot, omniglot_folder
from innerloop.recipes import own_characters, own_new_classes
from innerloop.recipes.scratch_folder import scratch_folder
from innerloop.tasks import own_data
from innerloop.tasks.pictures.few_shot import few_shot_family
from innerloop.tasks.split_sizes import Sizes

LETTERS = [Character(ord(letter), "Latin", (0, 1)) for letter in "ABCDEFGHIJKLMNO"]


def test_thirty_drawings_begin_with_the_twenty_of_glyphs():
    more = draw(LETTERS[:2], 28, 30)
    assert torch.equal(more[:, :DRAWINGS], draw(LETTERS[:2], 28))
    assert len({bytes(picture.numpy().tobytes()) for picture in more[0]}) == 30


def test_ten_classes_train_and_five_new_ones_are_recognised(monkeypatch):
    small = {**own_new_classes._TASKS, "train_ways": 3, "train_shots": 1, "train_queries": 1}
    monkeypatch.setattr(own_new_classes, "_TASKS", small)
    before = os.environ.get("INNERLOOP_CACHE")
    with scratch_folder() as folder:
        own_new_classes.write_folders(folder, LETTERS[:10], LETTERS[10:])
        counts = {
            part: sorted(len(list(place.iterdir())) for place in (folder / part).iterdir())
            for part in ("train", "new", "asked")
        }
        assert counts == {"train": [30] * 10, "new": [5] * 5, "asked": [15] * 5}
        files = [path.read_bytes() for part in ("new", "asked") for path in (folder / part).rglob("*.png")]
        assert len(set(files)) == 100  # no picture that is asked was shown
        with Image.open(folder / "new" / "U+004B" / "00.png") as picture:
            assert np.asarray(picture)[0, 0] == 255  # paper
        assert own_new_classes.adapted(folder, 1, 0) > 0.4 < own_new_classes.nearest_pixels(folder)
        # Every asked picture is called by another class's name.
        names = sorted(path.name for path in (folder / "asked").iterdir())
        for name in names:
            (folder / "asked" / name).rename(folder / "asked" / f"{name} moved")
        for name, other in zip(names, names[1:] + names[:1], strict=True):
            (folder / "asked" / f"{name} moved").rename(folder / "asked" / other)
        assert own_new_classes.nearest_pixels(folder) < 0.2
    assert not folder.exists() and os.environ.get("INNERLOOP_CACHE") == before


@pytest.mark.skipif(not omniglot_folder().exists(), reason="Omniglot is not in INNERLOOP_DATA/omniglot")
def test_a_folder_of_omniglot_holds_the_tasks_of_the_built_in_problem(tmp_path, monkeypatch):
    images = load_omniglot().images
    splits = {"train": [0, 5, 30, 31], "valid": [100, 101, 102], "test": [964, 970, 1000, 1001]}
    own_characters.unpack(tmp_path / "characters", splits)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    own = own_data.from_path(tmp_path / "characters", ways=3)
    built_in = few_shot_family("omniglot", images, splits, Sizes(3, 1, 15), rotations=True)
    for split in ("train", "valid", "test"):
        ours, theirs = (getattr(family, split).at(0, 0, 5) for family in (own, built_in))
        assert torch.equal(ours.class_ids, theirs.class_ids)
        assert float((ours.support.x - theirs.support.x).abs().mean()) < 0.03  # another filter
        assert float((ours.support.x[:, :1] - theirs.support.x[:, 1:2]).abs().mean()) > 0.1
