"""A user's own pictures."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from innerloop.data import support_files
from innerloop.errors import InputError

GREY = (1, 8, 8)


def read_classes(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these pictures show nothing, and that is said
        return support_files.read_classes(*args, **options)


def picture(path, value, size=(16, 16), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def test_classes_come_from_subfolders(tmp_path):
    picture(tmp_path / "cat" / "b.png", 255)
    picture(tmp_path / "cat" / "a.jpg", 0)
    picture(tmp_path / "ant" / "c.png", 51)
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    x, y, *_ = read_classes(tmp_path, GREY)
    assert x.shape == (3, *GREY)
    assert y == ["ant", "cat", "cat"]
    np.testing.assert_allclose(x.mean((1, 2, 3)), [0.2, 0.0, 1.0], atol=1e-6)


def test_invert_takes_dark_for_ink_also_behind_transparency(tmp_path):
    path = picture(tmp_path / "a.png", (0, 0, 0, 0), mode="RGBA")
    with pytest.raises(InputError, match=r"a\.png expected a picture, got one that is wholly see-through"):
        support_files.read_pictures([path], GREY)[0]
    drawn = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    drawn.paste((0, 0, 0, 255), (0, 0, 8, 16))
    drawn.save(path)
    assert support_files.read_pictures([path], GREY)[0][0, 0].tolist() == [0] * 4 + [1] * 4
    assert support_files.read_pictures([path], GREY, invert=True)[0][0, 0].tolist() == [1] * 4 + [0] * 4
    dark = picture(tmp_path / "b.png", 0)
    assert support_files.read_pictures([dark], GREY, invert=True)[0].min() == 1


def test_colour_has_three_channels(tmp_path):
    path = picture(tmp_path / "a.png", (255, 0, 0), mode="RGB")
    assert support_files.read_pictures([path], (3, 4, 6))[0][:, 0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("damage", ["text", "half"])
def test_a_damaged_picture_is_named(tmp_path, damage):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(b"hello" if damage == "text" else path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.png expected a (whole )?picture"):
        support_files.read_pictures([path], GREY)[0]


def test_a_bomb_of_a_picture_is_refused_before_it_is_unpacked(tmp_path):
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    packed = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + packed)
    with pytest.raises(InputError, match="got one that is more pixels than the 50,000,000 allowed"):
        support_files.read_pictures([path], GREY)[0]


def test_a_few_unreadable_pictures_are_left_out_and_named(tmp_path):
    for i in range(10):
        picture(tmp_path / ("cat" if i % 2 else "ant") / f"{i}.png", 25 * i)
    (tmp_path / "ant" / "2.png").write_bytes(b"junk")
    left_out: list[str] = []
    x, y, *_ = read_classes(tmp_path, GREY, left_out=left_out)
    assert len(x) == 9 and y == ["ant"] * 4 + ["cat"] * 5
    assert left_out == [f"{tmp_path / 'ant' / '2.png'} (not a picture of a known format)"]
    np.testing.assert_allclose(x[:, 0, 0, 0] * 255, [0, 100, 150, 200, 25, 75, 125, 175, 225], atol=1e-4)
    (tmp_path / "cat" / "5.png").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"at most 10% of its pictures to be unreadable, got 2 of 10 .*2\.png: not a"):
        read_classes(tmp_path, GREY, left_out=[])
    picture(tmp_path / "cat" / "5.png", 0)
    picture(tmp_path / "ant" / "2.png", 0)
    picture(tmp_path / "dog" / "1.png", 0).write_bytes(b"junk")
    with pytest.raises(InputError, match="dog expected pictures that can be read, got none"):
        read_classes(tmp_path, GREY, left_out=[])


def test_an_empty_class_and_no_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match="one subfolder a class"):
        read_classes(tmp_path, GREY)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="one subfolder a class with pictures in it"):
        read_classes(tmp_path, GREY)
