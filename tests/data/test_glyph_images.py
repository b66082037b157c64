"""Drawings of the glyphs problem: they repeat, they differ, none is blank; the cache mends itself."""

import numpy as np
import pytest
import torch

from innerloop.data import glyph_images as module
from innerloop.data.glyph_fonts import characters
from innerloop.data.glyph_images import DRAWINGS, draw, glyph_images
from innerloop.errors import ConfigError, InnerloopWarning


@pytest.fixture(scope="module")
def few():
    wanted = {ord(c) for c in "ABg,\u10d0\u0635\u2190"}
    return [character for character in characters() if character.code in wanted]


@pytest.fixture
def small_cache(tmp_path, monkeypatch, few):
    """The whole way through build and cache, with seven classes; the list of builds is returned."""
    builds = []
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "classes", lambda: builds.append(1) or few)
    module._loaded.cache_clear()
    yield builds
    module._loaded.cache_clear()


def again(size=28):
    module._loaded.cache_clear()
    return glyph_images(size)


def test_a_drawing_depends_on_its_character_alone(few):
    whole = draw(few, 28)
    assert whole.shape == (7, DRAWINGS, 28, 28) and whole.dtype == torch.uint8
    assert torch.equal(whole, draw(few, 28))
    assert torch.equal(whole[2:4], draw(few[2:4], 28))


def test_drawings_of_a_class_differ_but_resemble(few):
    flat = draw(few, 28).flatten(2).float()
    within = torch.cdist(flat, flat)
    within += 1e9 * torch.eye(DRAWINGS)
    assert within.amin() > 100  # of 255 a pixel: no drawing twice
    middles = flat.mean(1)
    nearest = torch.cdist(flat.flatten(0, 1), middles).argmin(1)
    right = nearest == torch.arange(len(few)).repeat_interleave(DRAWINGS)
    assert right.float().mean() > 0.85


def test_every_drawing_has_ink_and_room(few):
    drawings = draw(few, 28).float() / 255
    ink = drawings.mean((2, 3))
    assert ink.min() > 0.01 and ink.max() < 0.6
    assert drawings.amax((2, 3)).min() > 0.8
    edge = torch.cat([drawings[..., 0, :], drawings[..., -1, :], drawings[..., 0], drawings[..., -1]], -1)
    assert (edge.amax(-1) > 0.5).float().mean() < 0.1  # hardly any is cut off


@pytest.mark.parametrize("size", [14, 42])
def test_another_size_is_the_same_drawings(few, size):
    drawings = draw(few, size)
    assert drawings.shape == (7, DRAWINGS, size, size)
    small, usual = (
        torch.nn.functional.interpolate(pictures.float(), (14, 14), mode="area").flatten(2).flatten(0, 1)
        for pictures in (drawings, draw(few, 28))
    )
    nearest = torch.cdist(small, usual).argmin(1)
    assert (nearest == torch.arange(7 * DRAWINGS)).float().mean() > 0.95


@pytest.mark.parametrize("size", [11, 113])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ConfigError, match="12 to 112"):
        glyph_images(size)


def test_built_once_then_read(small_cache):
    first, second = again(), again()
    assert len(small_cache) == 1
    assert torch.equal(first.images, second.images) and first.names == second.names
    assert first.names[0] == "U+002C COMMA" and first.groups[0] == "punctuation"
    assert again(size=20).images.shape[-1] == 20 and len(small_cache) == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "text", "empty"])
def test_a_damaged_cache_is_built_again(small_cache, tmp_path, damage):
    first = again().images.clone()
    (path,) = (tmp_path / "cache").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[-5000] ^= 255
    path.write_bytes({"truncated": content[:-1], "changed": content, "text": b"no array", "empty": b""}[damage])
    assert torch.equal(again().images, first)
    assert len(small_cache) == 2
    again()
    assert len(small_cache) == 2  # and it was mended


def test_another_problem_in_the_file_is_not_taken(small_cache, tmp_path):
    again()
    (path,) = (tmp_path / "cache").iterdir()
    np.save(path, np.zeros((3, 28, 28), np.uint8))
    assert again().num_classes == 7


def test_without_a_folder_to_write_it_goes_on(small_cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(InnerloopWarning, match="could not keep decoded pictures"):
        assert again().num_classes == 7
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
