"""Pictures of every kind that users have: how deep, see-through, turned or coloured they are, each read rightly or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from innerloop.data.picture_decoding import Reading, Unreadable, decided, opened, pixels, read_together, seen_in

LEVELS = np.array([[0, 85, 170, 255]])


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_words(values, kind, key=b""):
    """A PNG of 16 bits a channel, which pillow does not write in colour."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    key = chunk(b"tRNS", key) if key else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read(data, channels=1, invert=False, **kept):
    found = pixels(opened(data), (channels, 1, 4), invert, Reading(**kept))
    return found[0, 0].tolist() if channels == 1 else found[:, 0].tolist()


def grey_and_alpha(grey, alpha):
    return Image.fromarray(np.array([[(v, v, v, a) for v, a in zip(grey, alpha, strict=True)]], np.uint8))


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png grey", "png colour", "png grey alpha", "png colour alpha", "I;16", "I", "F"])
def test_depth_is_what_the_file_holds_not_what_it_could_hold(bits, kind):
    white = 2**bits - 1
    levels = (LEVELS > 127) * white if bits == 1 else np.round(LEVELS / 255 * white).astype(int)
    full = np.full_like(levels, 65535)
    data = {
        "png grey": lambda: png_of_words(levels, 0),
        "png colour": lambda: png_of_words(np.stack([levels] * 3, -1), 2),
        "png grey alpha": lambda: png_of_words(np.stack([levels, full], -1), 4),
        "png colour alpha": lambda: png_of_words(np.stack([levels] * 3 + [full], -1), 6),
        "I;16": lambda: encoded(Image.fromarray(levels.astype(np.uint16)), "TIFF"),
        "I": lambda: encoded(Image.fromarray(levels.astype(np.int32)), "TIFF"),
        "F": lambda: encoded(Image.fromarray(levels.astype(np.float32)), "TIFF"),
    }[kind]()
    right = ((LEVELS > 127) * 255 if bits == 1 else LEVELS)[0].tolist()
    assert read(data) == right
    assert read(data, 3) == [right] * 3


@pytest.mark.parametrize(
    ("levels", "right"),
    [
        ((0, 0.25, 0.5, 1), [0, 64, 128, 255]),
        ((0, 0.8, 1.6, 3.2), [0, 64, 128, 255]),
        ((-1, -0.5, 0, 1), [0, 64, 128, 255]),
        ((-1024, 0, 1024, 3072), [0, 64, 128, 255]),
        ((0, 0.5, 127.5, 254.5), [0, 1, 128, 255]),
        ((np.nan, 0, 0.5, 1), [0, 0, 128, 255]),
    ],
)
def test_floating_and_signed_levels_are_scaled(levels, right):
    assert read(encoded(Image.fromarray(np.array([levels], np.float32)), "TIFF")) == right


def test_pictures_of_one_folder_have_one_scale():
    def picture(white):
        return opened(encoded(Image.fromarray(np.full((1, 4), white, np.uint16)), "PNG"))

    made = [picture(100), picture(4095), Image.new("L", (4, 1), 100)]
    found = read_together(3, made.__getitem__, (1, 1, 4))
    assert found.images[:, 0, 0, 0].tolist() == [6, 255, 100] and found.reading.levels == (0, 4095)
    later = read_together(2, [picture(200), picture(60000)].__getitem__, (1, 1, 4), kept=found.reading)
    assert later.images[:, 0, 0, 0].tolist() == [12]
    assert later.left_out == [(1, "of levels up to 60000, where those of the pictures before end at 4095")]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_see_through_pictures_lie_on_paper_that_their_ink_is_seen_on(kind, mode):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    def of(grey, alpha):
        return encoded(grey_and_alpha(grey, alpha).convert(mode), kind, **options)

    assert read(of((0, 0, 0, 0), (255, 255, 0, 0))) == [0, 0, 255, 255]
    assert read(of((0, 0, 0, 0), (255, 255, 0, 0)), invert=True) == [255, 255, 0, 0]
    assert read(of((255, 255, 0, 0), (255, 255, 0, 0))) == [255, 255, 0, 0]
    assert read(of((0, 85, 170, 255), (255,) * 4)) == LEVELS[0].tolist(), "nothing is see-through"
    with pytest.raises(Unreadable, match="wholly see-through"):
        read(of((0, 85, 170, 255), (0,) * 4))


def test_palettes_and_key_colours_are_see_through_too():
    palette = Image.fromarray(np.array([[0, 0, 1, 1]], np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255] + [0] * 762)
    grey = Image.fromarray(np.array([[0, 0, 255, 255]], np.uint8))
    for made in (
        encoded(palette, "PNG", transparency=1),
        encoded(palette, "PNG", transparency=b"\xff\x00"),
        encoded(palette, "GIF", transparency=1),
        encoded(grey, "PNG", transparency=255),
        encoded(grey.convert("1"), "PNG", transparency=1),
        encoded(grey.convert("RGB"), "PNG", transparency=(255, 255, 255)),
    ):
        assert seen_in(opened(made)) == (None, 0.0)
        assert read(made) == [0, 0, 255, 255]
    words = np.array([[[9], [9], [4095], [4095]]])
    assert read(png_of_words(words, 0, struct.pack(">H", 9))) == [0, 0, 255, 255]
    assert read(png_of_words(words, 0, struct.pack(">H", 4095))) == [1, 1, 255, 255]


def test_pictures_of_one_folder_lie_on_one_paper():
    dark = grey_and_alpha((0, 0, 0, 0), (255, 255, 0, 0))
    half = grey_and_alpha((255, 255, 0, 0), (255, 0, 255, 255))
    light = grey_and_alpha((255, 255, 0, 0), (255, 255, 0, 0))
    found = read_together(4, [dark, half, dark, light].__getitem__, (1, 1, 4))
    assert found.reading.paper == 255 and found.places == [0, 1, 2]
    assert found.images[1].tolist() == [[[255, 255, 0, 0]]]
    assert found.left_out == [(3, "of ink that is not seen on the white paper that suits most others")]
    assert decided([seen_in(light)], found.reading).paper == 255, "what was decided before holds"
    assert decided([seen_in(light)]).paper == 0


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "WEBP"])
def test_pictures_are_turned_as_their_exif_says(kind):
    values = np.array([[0] * 4, [255] * 4], np.uint8).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x112] = 6  # the first row is the right side
    found = pixels(opened(encoded(Image.fromarray(values), kind, exif=exif)), (1, 2, 2))
    assert np.abs(found[0].astype(int) - [[255, 0], [255, 0]]).max() < 10


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("JPEG", "YCbCr"), ("TIFF", "LAB")])
def test_other_colour_spaces_are_the_same_colour(kind, mode):
    colour = Image.new("RGB", (8, 8), (200, 30, 60))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.applyTransform(colour, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        made = colour.convert(mode)
    picture = opened(encoded(made, kind))
    assert np.abs(pixels(picture, (3, 1, 1)).flatten().astype(int) - [200, 30, 60]).max() <= 2
    luma = pixels(opened(encoded(colour, "PNG")), (1, 1, 1))
    assert abs(int(pixels(picture, (1, 1, 1))[0, 0, 0]) - int(luma[0, 0, 0])) <= 2


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read_and_that_is_known(kind):
    frames = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (50, 100, 200)]
    several = opened(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    one = opened(encoded(frames[0], kind))
    found = read_together(2, [several, one].__getitem__, (1, 1, 1))
    assert found.animated == [0] and np.abs(found.images.astype(int) - 50).max() <= 3


def test_an_empty_file_and_odd_proportions_are_known():
    with pytest.raises(Unreadable, match="empty, of 0 bytes"):
        opened(b"")
    sizes = ((40, 10), (160, 10), (170, 10), (9, 10))
    assert read_together(4, lambda i: Image.new("L", sizes[i]), (1, 10, 40)).squeezed == [2, 3]
