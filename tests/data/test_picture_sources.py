"""A user's pictures: what names a class, what is read, what is left out and why."""

import io
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import own_folders
from innerloop.data import own_classes, picture_decoding, picture_sources, support_files
from innerloop.data.picture_decoding import Unreadable, opened, pixels
from innerloop.errors import InputError
from innerloop.tasks import own_data


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


def two_classes(folder, mark=50):
    for name in ("cat", "dog"):
        for i in range(2):
            saved(folder / name / f"{i}.png", mark * i + (name == "dog"))
    return folder


def test_links_are_followed_and_told_where_they_repeat_or_lead_nowhere(tmp_path):
    real, linked = two_classes(tmp_path / "real"), tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(real / name)
    assert classes(linked) == {"cat": 2, "dog": 2}
    assert picture_sources.open_source(linked).notes == ()
    assert own_data.holds(linked) == "pictures"
    assert [p.name for p in support_files.pictures_in(linked)] == ["0.png", "1.png"] * 2
    (linked / "hound").symlink_to(linked / "dog")
    (linked / "gone").symlink_to(tmp_path / "nowhere")
    (real / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    source = picture_sources.open_source(linked)
    assert source.notes == (
        "gone is a link that leads nowhere",
        "hound is the same folder as dog, by a link, so its pictures are there twice",
    )
    with pytest.raises(Unreadable, match="a link that leads nowhere"):
        source.read("cat/lost.png")


@pytest.mark.parametrize(("link", "to", "said"), [("cat/up", "..", "without end"), ("me", "me", "leads to itself")])
def test_a_loop_of_links_is_refused(tmp_path, link, to, said):
    folder = two_classes(tmp_path / "mine")
    (folder / link).symlink_to(folder / to)
    with pytest.raises(InputError, match=said) as caught:
        picture_sources.open_source(folder)
    assert "\n" not in str(caught.value)


def packed(path, names, flags=None):
    """A zip of pictures under these names; flags: (bits to clear, bits to set) of every member."""
    picture = saved(path.parent / "one.png", 9).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo("x")
            member.filename = name
            archive.writestr(member, picture)
    if flags is not None:
        data = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = data.find(mark)
            while place >= 0:
                word = int.from_bytes(data[place + at : place + at + 2], "little") & ~flags[0] | flags[1]
                data[place + at : place + at + 2] = word.to_bytes(2, "little")
                place = data.find(mark, place + 4)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("names", "flags"),
    [(("all\\é\\1.png", "all\\ö\\1.png"), None), (("é/1.PNG", "ö/1.png", "__MACOSX/é/._1.png"), (0x800, 0))],
)
def test_names_in_a_zip_are_read_as_they_were_meant(tmp_path, names, flags):
    source = picture_sources.open_source(packed(tmp_path / "a.zip", names, flags))
    assert list(source.classes) == ["é", "ö"]
    for members in source.classes.values():
        assert pixels(opened(source.read(members[0])), (1, 1, 1)).item() == 9


def test_an_encrypted_zip_and_zips_in_a_zip_are_told(tmp_path):
    path = packed(tmp_path / "a.zip", ("cat/1.png", "dog/1.png"), (0, 1))
    with pytest.raises(InputError, match="without a password"):
        picture_sources.open_source(path)
    with pytest.raises(InputError, match=r"files that are not read \(2 \.zip\); unpack"):
        picture_sources.open_source(packed(tmp_path / "b.zip", ("cat/1.zip", "dog/1.zip")))


@pytest.mark.parametrize(
    ("header", "separator", "spelled", "encoding"),
    [
        ("path,label", ",", str, "utf-8-sig"),
        ("File Name;Class", ";", lambda n: n.replace("/", "\\"), "utf-8"),
        ("image_path\tspecies", "\t", lambda n: n.replace("a b", "a%20b"), "utf-16"),
        ('"Filepath"|"category"', "|", lambda n: f'"{n}"', "utf-8"),
    ],
)
def test_lists_are_read_however_they_are_written(tmp_path, header, separator, spelled, encoding):
    for name in ("cat", "dog"):
        saved(tmp_path / "a b" / name / "1.PNG"), saved(tmp_path / "a b" / name / "2.jpeg")
    rows = [f"{spelled(f'a b/{n}/{f}')}{separator}{n}" for n in ("cat", "dog") for f in ("1.PNG", "2.jpeg")]
    table = tmp_path / "list.csv"
    table.write_bytes("\r\n".join([header, *rows, ""]).encode(encoding))
    assert own_data.holds(table) == "pictures"
    source = picture_sources.open_source(table)
    assert {name: len(members) for name, members in source.classes.items()} == {"cat": 2, "dog": 2}
    assert all(source.read(name) for members in source.classes.values() for name in members)
    table.write_text("\n".join(f"{tmp_path}/a b/{n}/1.PNG,{n}" for n in ("cat", "dog")))
    assert picture_sources.lists_pictures(table)
    with pytest.raises(InputError, match="write path,label above the first row"):
        picture_sources.open_source(table)


def test_one_file_under_two_spellings_has_one_label(tmp_path):
    saved(tmp_path / "p" / "1.png")
    (tmp_path / "list.csv").write_text("path,label\np/1.png,cat\n./p\\1.png,dog\n")
    with pytest.raises(InputError, match="one label a picture, got 'cat' and 'dog'"):
        picture_sources.open_source(tmp_path / "list.csv")


def test_names_that_look_the_same_are_one_class_and_near_ones_are_told(tmp_path):
    for name in ("e\u0301", "\u00e9", " dog ", "Cat", "cat"):
        saved(tmp_path / name / "1.png")
    source = picture_sources.open_source(tmp_path)
    assert {name: len(members) for name, members in source.classes.items()} == {"Cat": 1, "cat": 1, "dog": 1, "é": 2}
    said = " ".join(source.notes)
    assert "are taken for one, 'é'" in said and "'Cat' and 'cat' differ in case only" in said and "dog" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there alone")
def test_names_that_are_not_utf8_can_be_read_and_told(tmp_path, capsys):
    from innerloop.cli.main import main

    own_folders.alike(tmp_path / "mine", 8, 3)
    (tmp_path / "mine" / "c00").rename(os.fsdecode(os.fsencode(tmp_path) + b"/mine/\xff"))
    (tmp_path / "mine" / "c01" / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    assert main(["data", "check", str(tmp_path / "mine")]) == 0
    assert r"c01/\udcfe.png (empty, of 0 bytes)" in capsys.readouterr().out
    assert r"\udcff" in picture_sources.open_source(tmp_path / "mine").classes


def test_most_pictures_that_show_nothing_or_are_copies_are_told(tmp_path):
    def of(levels):
        folder = tmp_path / str(len(levels)) / str(levels[0])
        for i, level in enumerate(levels):
            path = saved(folder / "ab"[i % 2] / f"{i}.png")
            Image.fromarray(np.linspace(0, level, 64).reshape(8, 8).astype(np.uint8)).save(path)
        return own_classes.read_classes(picture_sources.open_source(folder), (1, 8, 8)).remarks["sameness"]

    assert of([1, 3, 9, 200])[0].startswith("3 of 4 pictures are nearly of one brightness")
    assert of([0, 0, 90, 200]) == []
    assert of([99, 99, 99, 200, 200]) == ["only 2 of 5 pictures are different; look for copies"]


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
