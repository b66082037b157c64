"""Readers of pictures against foreign bytes: an answer or one of our errors, never another one.

`make fuzz` runs ten thousand inputs of each; the suite a few dozen.
"""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzzing import fuzzed
from innerloop.data import own_classes, picture_sources
from innerloop.data.picture_decoding import Unreadable, opened, pixels
from innerloop.errors import InputError

MODES = {"PNG": "RGBA", "JPEG": "RGB", "WEBP": "RGB", "BMP": "RGB", "PPM": "L", "TIFF": "L", "GIF": "P"}


def whole(kind: str) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (20, 17, 3), np.uint8)
    Image.fromarray(values).convert(MODES[kind]).save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: whole(kind) for kind in MODES}


@st.composite
def damaged(draw):
    """A picture with some bytes changed, cut out or put in, maybe cut off."""
    data = bytearray(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        change = draw(st.sampled_from(["set", "cut", "put", "number"]))
        if change == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif change == "put":
            data[at:at] = draw(st.binary(max_size=12))
        elif change == "number":
            data[at : at + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0"])
            )
        elif data:
            data[at] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@fuzzed(40)
@given(data=st.one_of(st.binary(max_size=200), damaged()), shape=st.sampled_from([(1, 8, 8), (3, 5, 9)]))
def test_bytes_are_a_picture_or_unreadable(data, shape):
    try:
        picture = opened(data, most_pixels=1 << 20)
    except Unreadable as error:
        assert "\n" not in str(error)
        return
    found = pixels(picture, shape)
    assert found.shape == shape and found.dtype == np.uint8


NAMES = st.text(st.sampled_from("ab/.é \\~\0"), min_size=1, max_size=8)


@st.composite
def archives(draw):
    """A zip with folders and files of odd names, maybe damaged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for i in range(draw(st.integers(0, 8))):
            name = draw(
                st.one_of(
                    NAMES, st.sampled_from(["a/1.png", "a/2.png", "b/1.png", "../x/1.png", "/c/d.png", "train/a/1.png"])
                )
            )
            data = WHOLE["PNG"] if draw(st.booleans()) else draw(st.binary(max_size=30))
            if name not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(name or f"{i}"), data)
    data = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@fuzzed(40)
@given(data=archives())
@pytest.mark.filterwarnings("ignore")
def test_a_zip_is_classes_or_one_clear_error(data, tmp_path, monkeypatch):
    monkeypatch.setattr(own_classes, "cached_pictures", lambda folder, name, key, make, old: make())
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    try:
        source = picture_sources.open_source(path)
        own_classes.look(source)
        found = own_classes.read_classes(source, (1, 6, 6))
        assert sum(found.sizes) == len(found.images)
    except InputError as error:
        assert "\n" not in str(error)


@fuzzed(40)
@given(
    text=st.one_of(
        st.binary(max_size=80), st.text(st.sampled_from('path,label\n"a/1.png;\t\0é'), max_size=60).map(str.encode)
    )
)
def test_a_csv_is_classes_or_one_clear_error(text, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,label\n" + text)
    picture_sources.lists_pictures(path)
    try:
        source = picture_sources.open_source(path)
        for name in [n for members in source.classes.values() for n in members]:
            with pytest.raises(Unreadable):
                source.read(name)
    except InputError:
        pass
