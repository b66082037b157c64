"""Decoded pictures in mapped files: opened without being read, mended when damaged, shared, and not piling up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from innerloop.data import class_images
from innerloop.data.class_images import ClassImages, cached_pictures


def make() -> ClassImages:
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ClassImages(images, ("a", "b", "c", "N'Ko ߞ"), ("x", "x", "y", "y"))


def never() -> ClassImages:
    pytest.fail("made again")


def opened(folder: Path, maker=never, key: str = "k") -> ClassImages:
    return cached_pictures(folder, "toys-8", key, maker, "toys-8-*.npy")


def test_what_comes_back_is_what_was_made(tmp_path):
    first, again = opened(tmp_path, make), opened(tmp_path)
    for found in (first, again):
        assert torch.equal(found.images, make().images)
        assert (found.names, found.groups) == (make().names, make().groups)


def test_opening_reads_no_pictures(tmp_path, monkeypatch):
    opened(tmp_path, make)
    monkeypatch.setattr(class_images, "_checksum", lambda pictures: pytest.fail("looked through"))
    assert opened(tmp_path).num_classes == 4


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the kernel's list of mappings")
def test_pictures_are_mapped_from_the_file(tmp_path):
    found = opened(tmp_path, make)
    (path,) = tmp_path.iterdir()
    assert str(path) in Path("/proc/self/maps").read_text()
    assert found.rows(torch.device("cpu")).data_ptr() == found.images.data_ptr()


def test_a_file_with_another_time_is_looked_through_once(tmp_path, monkeypatch):
    opened(tmp_path, make)
    (path,) = tmp_path.iterdir()
    copied = path.read_bytes()
    path.write_bytes(copied)
    os.utime(path, (1, 1))
    looks, checksum = [], class_images._checksum
    monkeypatch.setattr(class_images, "_checksum", lambda pictures: looks.append(1) or checksum(pictures))
    assert opened(tmp_path).num_classes == opened(tmp_path).num_classes == 4
    assert len(looks) == 1


@pytest.mark.parametrize("damage", ["a byte", "short", "long", "text", "empty"])
def test_damage_is_found_and_mended(tmp_path, damage):
    opened(tmp_path, make)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1 if damage == "a byte" else 0
    changed = {"short": content[:-1], "long": content + b"0", "text": b"no pictures", "empty": b""}
    path.write_bytes(changed.get(damage, content))
    builds = []
    found = opened(tmp_path, lambda: builds.append(1) or make())
    assert builds == [1] and torch.equal(found.images, make().images)
    assert torch.equal(opened(tmp_path).images, make().images)


def test_what_one_writes_into_pictures_stays_ones_own(tmp_path):
    opened(tmp_path, make)
    opened(tmp_path).images.zero_()
    assert torch.equal(opened(tmp_path).images, make().images)


def test_old_versions_go_but_not_all_at_once(tmp_path):
    for name in ("toys-8-old.npy", "toys-9-old.npy", "other-8-old.safetensors"):
        (tmp_path / name).write_text("")
    for number in range(5):
        opened(tmp_path, make, str(number))
        os.utime(tmp_path / f"toys-8-{number}.safetensors", (number, number))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"toys-9-old.npy", "other-8-old.safetensors", *(f"toys-8-{n}.safetensors" for n in (2, 3, 4))}


def test_nothing_is_left_of_a_write_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.warns(class_images.InnerloopWarning, match=r"could not keep.*no space left"):
        found = opened(tmp_path, make)
    assert torch.equal(found.images, make().images) and not list(tmp_path.iterdir())
