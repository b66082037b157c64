"""A user's pictures: what names a class, what is read, what is left out and why."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from innerloop.data import own_classes, picture_decoding, picture_sources
from innerloop.data.picture_decoding import Unreadable, opened, pixels
from innerloop.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))


def saved(path, value=0, size=(12, 10), mode="L", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)
    return path


def classes(path, **options):
    return {name: len(members) for name, members in picture_sources.open_source(path, **options).classes.items()}


def test_a_class_is_named_by_the_folders_above_its_highest_picture(tmp_path):
    for name in (
        "faces/cat/a.png",
        "faces/cat/more/b.png",
        "faces/dog/c.png",
        "faces/dog/notes.txt",
        "faces/.hidden/x.png",
    ):
        path = tmp_path / name
        saved(path) if path.suffix == ".png" else (path.parent.mkdir(parents=True, exist_ok=True), path.write_text("x"))
    assert classes(tmp_path) == {"cat": 2, "dog": 1}
    assert picture_sources.open_source(tmp_path).other == 1


def test_alphabets_of_characters_are_two_levels_and_may_be_one(tmp_path):
    for alphabet in "AB":
        for letter in "xy":
            saved(tmp_path / alphabet / letter / "1.png")
    assert classes(tmp_path) == {"A/x": 1, "A/y": 1, "B/x": 1, "B/y": 1}
    assert classes(tmp_path, levels=1) == {"A": 2, "B": 2}
    with pytest.raises(InputError, match="levels expected 1 to 2"):
        classes(tmp_path, levels=3)


def test_split_folders_are_taken_unless_all_classes_are_in_all(tmp_path):
    for name in ("train/a", "train/b", "val/c", "val/d", "test/e", "test/f"):
        saved(tmp_path / name / "1.png")
    source = picture_sources.open_source(tmp_path)
    assert source.splits == {"a": "train", "b": "train", "c": "valid", "d": "valid", "e": "test", "f": "test"}
    saved(tmp_path / "test" / "a" / "2.png")
    with pytest.raises(InputError, match=r"each class in one of the folders .* got 'a' in test and train"):
        picture_sources.open_source(tmp_path)
    for name in ("train", "test"):
        for label in "xy":
            saved(tmp_path / "supervised" / name / label / f"{name}.png")
    source = picture_sources.open_source(tmp_path / "supervised")
    assert not source.splits and len(source.classes["x"]) == 2
    assert "put together" in " ".join(source.notes)


def test_a_zip_reads_as_the_folder_it_was_made_of(tmp_path):
    for name in ("cat", "dog"):
        for i in range(2):
            saved(tmp_path / "all" / name / f"{i}.png", 50 * i)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted((tmp_path / "all").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/all/cat/._0.png", b"junk")
    folder, packed = (picture_sources.open_source(tmp_path / name) for name in ("all", "all.zip"))
    assert list(folder.classes) == list(packed.classes) == ["cat", "dog"]
    a, b = (own_classes.read_classes(source, (1, 10, 12)) for source in (folder, packed))
    assert a.images.equal(b.images) and a.counts == b.counts == (2, 2)
    assert sorted(set(a.images.flatten().tolist())) == [0, 50]


def test_a_csv_names_files_beside_it(tmp_path):
    saved(tmp_path / "p" / "1.png"), saved(tmp_path / "p" / "2.png")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\np/1.png,cat\np/2.png,dog\np/2.png,dog\np/3.png,dog\n")
    assert picture_sources.lists_pictures(table)
    source = picture_sources.open_source(table)
    assert source.classes == {"cat": ["p/1.png"], "dog": ["p/2.png", "p/3.png"]}
    with pytest.raises(Unreadable, match="not there"):
        source.read("p/3.png")
    table.write_text("path,label\np/1.png,cat\np/1.png,dog\n")
    with pytest.raises(InputError, match=r"one label a picture, got 'cat' and 'dog' for p/1\.png"):
        picture_sources.open_source(table)
    table.write_text("age,label\n3,cat\n")
    assert not picture_sources.lists_pictures(table)


def test_unreadable_pictures_are_named_and_too_many_refused(tmp_path):
    for name in ("cat", "dog"):
        for i in range(6):
            saved(tmp_path / name / f"{i}.png")
    whole = saved(tmp_path / "dog" / "6.png", size=(64, 64)).read_bytes()
    (tmp_path / "dog" / "6.png").write_bytes(whole[:60])
    found = own_classes.read_classes(picture_sources.open_source(tmp_path), (1, 8, 8))
    assert found.counts == (6, 6)
    assert [name for name, _ in found.left_out] == ["dog/6.png"]
    again = own_classes.read_classes(picture_sources.open_source(tmp_path), (1, 8, 8))
    assert again.left_out == found.left_out, "the cache remembers what was left out"
    (tmp_path / "cat" / "7.png").write_text("text")
    with pytest.raises(
        InputError, match=r"at most 10% .* got 2 of 14 \(cat/7.png: not a picture of a known format; dog/6.png"
    ):
        own_classes.read_classes(picture_sources.open_source(tmp_path), (1, 8, 8))


def test_a_changed_file_is_read_again(tmp_path):
    for name in ("cat", "dog"):
        saved(tmp_path / name / "0.png", 10)
    first = own_classes.read_classes(picture_sources.open_source(tmp_path), (1, 4, 4))
    saved(tmp_path / "dog" / "0.png", 200, size=(13, 10))
    second = own_classes.read_classes(picture_sources.open_source(tmp_path), (1, 4, 4))
    assert first.images[1].float().mean() == 10 and second.images[1].float().mean() == 200


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    buffer = io.BytesIO()
    Image.new("1", (3000, 3000)).save(buffer, "PNG")
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("decoded"), raising=False)
    with pytest.raises(Unreadable, match="3000 x 3000 pixels, more than the 1,000,000"):
        opened(buffer.getvalue(), most_pixels=1_000_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_format_gives_the_same_picture(kind, mode):
    values = np.linspace(0, 255, 16 * 16).reshape(16, 16).astype(np.uint8)
    picture = Image.fromarray(values).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    found = pixels(opened(buffer.getvalue()), (1, 16, 16))
    assert np.abs(found[0].astype(int) - values).max() <= (6 if kind in ("JPEG", "WEBP") else 0)


def test_sixteen_bits_are_scaled_not_cut():
    levels = np.array([[0, 32768, 65535]], np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    assert pixels(opened(buffer.getvalue()), (1, 1, 3)).tolist() == [[[0, 128, 255]]]


def test_programs_and_other_formats_are_never_tried(tmp_path):
    with pytest.raises(Unreadable, match="known format"):
        opened(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "EPS" not in picture_decoding._formats()


def test_sizes_and_kinds_are_guessed_from_the_data(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for i in range(3):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(30, 220, (240, 320, 3), np.uint8)).save(path)
            strokes = np.where(rng.random((105, 105)) < 0.1, 0, 255).astype(np.uint8)
            path = tmp_path / "signs" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(strokes).convert("1").save(path)
    photos, signs = (own_classes.look(picture_sources.open_source(tmp_path / kind)) for kind in ("photos", "signs"))
    assert (photos.size, photos.channels, photos.drawings) == ((60, 80), 3, False)
    assert (signs.size, signs.channels, signs.drawings, signs.dark_ink) == ((28, 28), 1, True, True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "got nothing at"),
        (lambda p: p.mkdir(), "got no pictures"),
        (lambda p: saved(p / "a.png"), "outside of any"),
        (lambda p: p.write_text("x"), "another kind of file"),
    ],
)
def test_what_is_no_folder_of_classes_is_told_in_one_line(tmp_path, make, said):
    path = tmp_path / "mine"
    make(path)
    with pytest.raises(InputError, match=said) as caught:
        picture_sources.open_source(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_zip_is_told(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="damaged"):
        picture_sources.open_source(tmp_path / "a.zip")
