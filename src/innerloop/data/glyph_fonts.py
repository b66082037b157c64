"""The characters of the `glyphs` problem: which there are, their scripts, and how a font draws them.

The fonts are those that matplotlib carries with its data: DejaVu (Sans, Sans Mono, Serif) and STIX General.
Its others are left out: LastResort has placeholder boxes for every character, the Computer Modern fonts
number their glyphs in an order of their own, STIX NonUni and STIX Size hold private code points and larger
brackets.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.errors import InputError

# A character's form is compared in FACES[0] and FACES[1] or, where those lack it, in the next that have it.
FACES: tuple[str, ...] = (
    "DejaVuSans",
    "DejaVuSerif",
    "STIXGeneral",
    "DejaVuSansMono",
    "DejaVuSans-Bold",
    "DejaVuSerif-Bold",
    "STIXGeneralBol",
)


class Block(NamedTuple):
    """A range of code points and what it is counted as."""

    first: int
    last: int
    script: str


# By the blocks of the Unicode standard. Not here, so left out: controls and blanks, private code points,
# combining marks, accents on their own, vowel points, mathematical copies of Arabic letters, and pictures
# whose detail is finer than the pixels of a drawing (faces, dominoes, playing cards).
BLOCKS: tuple[Block, ...] = (
    Block(0x0030, 0x0039, "digits"),
    Block(0x0041, 0x005A, "Latin"),
    Block(0x0061, 0x007A, "Latin"),
    Block(0x0021, 0x00BF, "punctuation"),  # those of the range that the blocks above have not taken
    Block(0x00C0, 0x02AF, "Latin"),
    Block(0x0370, 0x03E1, "Greek"),
    Block(0x03E2, 0x03EF, "Coptic"),
    Block(0x03F0, 0x03FF, "Greek"),
    Block(0x0400, 0x052F, "Cyrillic"),
    Block(0x0531, 0x058A, "Armenian"),
    Block(0x05BE, 0x05F4, "Hebrew"),
    Block(0x0600, 0x06FF, "Arabic"),
    Block(0x07C0, 0x07FA, "N'Ko"),
    Block(0x0E81, 0x0EDD, "Lao"),
    Block(0x10A0, 0x10FC, "Georgian"),
    Block(0x1401, 0x167F, "Canadian syllabics"),
    Block(0x1680, 0x169C, "Ogham"),
    Block(0x1D00, 0x1DBF, "Latin"),
    Block(0x1E00, 0x1EFF, "Latin"),
    Block(0x1F00, 0x1FFF, "Greek"),
    Block(0x2010, 0x205E, "punctuation"),
    Block(0x2070, 0x209C, "digits"),
    Block(0x20A0, 0x20CF, "currency"),
    Block(0x2100, 0x214F, "letterlike"),
    Block(0x2150, 0x218B, "digits"),
    Block(0x2190, 0x21FF, "arrows"),
    Block(0x2200, 0x22FF, "mathematics"),
    Block(0x2300, 0x23FF, "technical"),
    Block(0x2460, 0x24FF, "enclosed"),
    Block(0x2500, 0x259F, "boxes"),
    Block(0x25A0, 0x25FF, "figures"),
    Block(0x2600, 0x26FF, "pictograms"),
    Block(0x2700, 0x27BF, "pictograms"),
    Block(0x27C0, 0x27EF, "mathematics"),
    Block(0x27F0, 0x27FF, "arrows"),
    Block(0x2801, 0x28FF, "Braille"),
    Block(0x2900, 0x297F, "arrows"),
    Block(0x2980, 0x2AFF, "mathematics"),
    Block(0x2B00, 0x2B4F, "arrows"),
    Block(0x2C60, 0x2C7F, "Latin"),
    Block(0x2D00, 0x2D2F, "Georgian"),
    Block(0x2D30, 0x2D7F, "Tifinagh"),
    Block(0x2E00, 0x2E52, "punctuation"),
    Block(0x4DC0, 0x4DFF, "hexagrams"),
    Block(0xA4D0, 0xA4FF, "Lisu"),
    Block(0xA640, 0xA69F, "Cyrillic"),
    Block(0xA708, 0xA7FF, "Latin"),
    Block(0xFB00, 0xFB06, "Latin"),
    Block(0xFB13, 0xFB17, "Armenian"),
    Block(0xFB1D, 0xFB4F, "Hebrew"),
    Block(0xFB52, 0xFDFD, "Arabic"),
    Block(0xFE80, 0xFEFC, "Arabic"),
    Block(0x10300, 0x1032F, "Old Italic"),
    Block(0x1D300, 0x1D356, "tetragrams"),
    Block(0x1D400, 0x1D6A5, "Latin"),
    Block(0x1D6A8, 0x1D7CB, "Greek"),
    Block(0x1D7CE, 0x1D7FF, "digits"),
)

# Whole scripts, by hand: signs and the richest script for training, scripts of their own for the other two.
TRAIN, VALID, TEST = "train", "valid", "test"
SPLITS: dict[str, str] = {
    "Latin": TRAIN,
    "digits": TRAIN,
    "punctuation": TRAIN,
    "currency": TRAIN,
    "letterlike": TRAIN,
    "arrows": TRAIN,
    "mathematics": TRAIN,
    "technical": TRAIN,
    "enclosed": TRAIN,
    "boxes": TRAIN,
    "figures": TRAIN,
    "pictograms": TRAIN,
    "Braille": TRAIN,
    "hexagrams": TRAIN,
    "tetragrams": TRAIN,
    "Greek": VALID,
    "Cyrillic": VALID,
    "Coptic": VALID,
    "Canadian syllabics": VALID,
    "Lao": VALID,
    "Lisu": VALID,
    "Ogham": VALID,
    "Old Italic": VALID,
    "Armenian": TEST,
    "Georgian": TEST,
    "Hebrew": TEST,
    "Arabic": TEST,
    "N'Ko": TEST,
    "Tifinagh": TEST,
}

_EM = 48  # the size at which a character is first drawn, in pixels


class Character(NamedTuple):
    """A character that at least one face can draw."""

    code: int
    script: str
    faces: tuple[int, ...]  # positions in FACES


def character_name(code: int) -> str:
    """Code point and Unicode name, such as ``U+0041 LATIN CAPITAL LETTER A``; unique."""
    return f"U+{code:04X} {unicodedata.name(chr(code), '')}".strip()


def font_path(face: str) -> Path:
    """The file of a face of FACES in the installed matplotlib.

    Raises:
        InputError: it is not there.
    """
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise InputError(
            f"glyphs expected the font {path}, got no such file; reinstall matplotlib with its data "
            "(pip install --force-reinstall matplotlib)"
        )
    return path


@functools.cache
def _font(face: int, size: int):  # PIL.ImageFont.FreeTypeFont, not imported until used
    from PIL import ImageFont

    return ImageFont.truetype(str(font_path(FACES[face])), size, layout_engine=ImageFont.Layout.BASIC)


def drawn(code: int, face: int, least: int = 0) -> NDArray[np.uint8] | None:
    """A character's ink, cropped to it, 255 where it is full; None for a blank.

    Args:
        code: its code point.
        face: position in FACES, of one that has the character.
        least: the longer side in pixels is at least about this; a small character (a comma) is drawn larger.
    """
    from PIL import Image, ImageDraw

    size = _EM
    while True:
        font = _font(face, size)
        left, top, right, bottom = font.getbbox(chr(code))
        width, height = int(right - left), int(bottom - top)
        if width <= 0 or height <= 0:
            return None
        if max(width, height) >= least or size >= 16 * _EM:
            break
        size *= 2
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((-left, -top), chr(code), font=font, fill=255)
    box = image.getbbox()
    return None if box is None else np.asarray(image.crop(box))


def characters() -> list[Character]:
    """All characters of BLOCKS that the fonts hold: training scripts first, then test, then validation.

    Each split is in the order of code points. A mathematical, superscript or subscript letter (Unicode
    decompositions <font>, <super>, <sub>) is its base letter once more, so it is left out where the base
    letter is in BLOCKS.
    """
    from matplotlib.ft2font import FT2Font

    charmaps = [
        {code for code, glyph in FT2Font(str(font_path(face))).get_charmap().items() if glyph} for face in FACES
    ]
    scripts: dict[int, str] = {}
    for block in BLOCKS:
        for code in range(block.first, block.last + 1):
            scripts.setdefault(code, block.script)
    found = []
    for code in sorted(scripts):
        faces = tuple(number for number, charmap in enumerate(charmaps) if code in charmap)
        # Letters, numbers, punctuation and symbols; not accents on their own (Sk), marks, separators.
        kind = unicodedata.category(chr(code))
        if not faces or kind[0] not in "LNPS" or kind == "Sk" or _is_copy(code, scripts):
            continue
        found.append(Character(code, scripts[code], faces))
    rank = {TRAIN: 0, TEST: 1, VALID: 2}
    return sorted(found, key=lambda character: (rank[SPLITS[character.script]], character.code))


def _is_copy(code: int, scripts: dict[int, str]) -> bool:
    kind, *base = unicodedata.decomposition(chr(code)).split() or [""]
    return kind in ("<font>", "<super>", "<sub>") and len(base) == 1 and int(base[0], 16) in scripts
