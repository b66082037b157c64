"""Reading Omniglot's archives: pixels, names, the cache, and files that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_archives import TINY, drawing, write_tiny_omniglot

from innerloop.data import omniglot_archive
from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import CONTENTS, Contents, omniglot_folder, read_archives
from innerloop.errors import InnerloopWarning, InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path):
    return write_tiny_omniglot(tmp_path / TINY.file)


def read_archive(path: Path, contents: Contents, size: int = 28) -> ClassImages:
    return read_archives([(path, contents)], size)


def only_cache_file(cache: Path) -> Path:
    (file,) = [path for path in cache.rglob("*") if path.is_file()]
    return file


def test_full_size_pixels_names_and_groups(archive):
    images = read_archive(archive, TINY, size=105)
    assert images.names == (
        "Alpha/character01",
        "Alpha/character02",
        "Alpha/character03",
        "Beta/character01",
        "Beta/character02",
    )
    assert images.groups == ("Alpha", "Alpha", "Alpha", "Beta", "Beta")
    # Beta was written first, so its first drawing is number 0; Alpha's first is number 6.
    assert torch.equal(images.images[3, 0], torch.from_numpy(drawing(0) * np.uint8(255)))
    assert torch.equal(images.images[0, 1], torch.from_numpy(drawing(7) * np.uint8(255)))


def test_smaller_pictures_keep_ink_and_place(archive):
    small = read_archive(archive, TINY, size=28).images[3, 0].float() / 255
    assert small.shape == (28, 28)
    full = torch.from_numpy(drawing(0)).float()
    assert float(small.mean()) == pytest.approx(float(full.mean()), rel=0.05)
    assert ((small > 0) & (small < 1)).any(), "grey levels at the edges: not the nearest pixel"
    rows = (torch.arange(28) * small.sum(1)).sum() / small.sum()
    assert float(rows) == pytest.approx(15 * 28 / 105 - 0.5, abs=0.3)


def test_second_reading_comes_from_the_cache(archive, monkeypatch):
    first = read_archive(archive, TINY)
    monkeypatch.setattr(omniglot_archive, "decode_drawing", lambda data, size: pytest.fail("decoded again"))
    assert torch.equal(read_archive(archive, TINY).images, first.images)


def test_cache_knows_sizes_and_contents_apart(archive, tmp_path, cache):
    read_archive(archive, TINY)
    read_archive(archive, TINY, size=14)
    assert len(list(cache.rglob("*.safetensors"))) == 2
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / TINY.file
    copy.write_bytes(archive.read_bytes())
    read_archive(copy, TINY)
    assert len(list(cache.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("damage", ["truncated", "text", "another file", "empty"])
def test_damaged_cache_is_made_again(archive, cache, damage):
    expected = read_archive(archive, TINY).images.clone()
    file = only_cache_file(cache)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "text":
        file.write_text("not an array")
    elif damage == "another file":
        with file.open("wb") as stream:
            np.save(stream, np.zeros((2, 2), np.uint8))
    else:
        file.write_bytes(b"")
    assert torch.equal(read_archive(archive, TINY).images, expected)
    mended = only_cache_file(cache).read_bytes()
    read_archive(archive, TINY)
    assert only_cache_file(cache).read_bytes() == mended and len(mended) > 5 * 3 * 28 * 28


def test_changing_loaded_pictures_leaves_the_cache_alone(archive):
    read_archive(archive, TINY)
    mapped = read_archive(archive, TINY)
    mapped.images.zero_()
    assert read_archive(archive, TINY).images.any()


def test_no_room_for_the_cache_is_a_warning_only(archive, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "file"))
    with pytest.warns(InnerloopWarning, match="could not keep decoded pictures"):
        images = read_archive(archive, TINY)
    assert images.images.any()


def test_missing_archive_names_the_command_and_the_folder(tmp_path):
    with pytest.raises(InputError) as caught:
        read_archive(tmp_path / "nowhere" / TINY.file, TINY)
    assert "innerloop data fetch omniglot" in str(caught.value)
    assert str(tmp_path / "nowhere") in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_archive(archive, keep):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=f"{archive}.*damaged"):
        read_archive(archive, TINY)


def test_archive_damaged_in_the_middle(archive):
    data = bytearray(archive.read_bytes())
    at = data.find(b"IHDR") if b"IHDR" in data else len(data) // 3
    for offset in range(at, at + 40):
        data[offset] ^= 0xFF
    archive.write_bytes(bytes(data))
    with pytest.raises(InputError, match=str(archive)):
        read_archive(archive, TINY)
    with pytest.raises(InputError, match=str(archive)):
        omniglot_archive.check_archive(archive, TINY)


def test_wrong_counts_are_shown(tmp_path):
    path = write_tiny_omniglot(tmp_path / "short.zip", skip=3)
    with pytest.raises(InputError, match=r"2 alphabets, 5 characters, 15 drawings .*, got 2, 4, 12"):
        read_archive(path, TINY)


def test_uneven_drawings_are_refused(tmp_path):
    path = write_tiny_omniglot(tmp_path / "uneven.zip", skip=1)
    with pytest.raises(InputError, match="equally many"):
        read_archive(path, TINY._replace(drawings=14))


def test_pictures_of_another_size_are_refused(tmp_path):
    path = write_tiny_omniglot(tmp_path / "big.zip", side=120)
    with pytest.raises(InputError, match="105 x 105 pixels, got a picture of 120 x 120"):
        read_archive(path, TINY)


@pytest.mark.parametrize("size", [0, 106])
def test_sizes_out_of_range(archive, size):
    with pytest.raises(InputError, match=f"1 to 105 pixels, got {size}"):
        read_archive(archive, TINY, size)


@pytest.mark.skipif(
    not (os.environ.get("INNERLOOP_DATA") and all((omniglot_folder() / c.file).is_file() for c in CONTENTS.values())),
    reason="needs INNERLOOP_DATA/omniglot with the two official archives",
)
@pytest.mark.parametrize("part", list(CONTENTS))
def test_the_real_archives_have_the_published_contents(part):
    contents = CONTENTS[part]
    omniglot_archive.check_archive(omniglot_folder() / contents.file, contents)
