"""Look-alikes are found, and different characters are not."""

import numpy as np
import pytest

from innerloop.data.glyph_fonts import BLOCKS, FACES, SPLITS, characters, drawn
from innerloop.data.glyph_shapes import SIDE, Shapes, correlations, thumbnail


def shapes_of(text: str) -> Shapes:
    return Shapes([[drawn(ord(c), 0, 24)] for c in text])


@pytest.mark.parametrize("alike", ["A\u0391\u0410", "cC", "oO0", "sS", "zZ", "vV", "xX", "lI"])
def test_look_alikes_are_one_class(alike):
    assert shapes_of(alike).representatives(["train"] * len(alike)).tolist() == [0] * len(alike)


@pytest.mark.parametrize("different", ["ABEKM", "<>", "\u2190\u2191\u2192\u2193", "\u1401\u1403\u1405", "pqbd", "fgkm"])
def test_different_and_turned_characters_stay_apart(different):
    found = shapes_of(different).representatives(["train"] * len(different))
    assert found.tolist() == list(range(len(different)))


def test_the_bar_is_lower_between_splits():
    """8 resembles B: two classes of one split, but never one of training and one of test."""
    shapes = shapes_of("B8")
    similar = shapes.similarity(np.array([0]), np.array([1])).item()
    assert 0.80 < similar < 0.92
    assert shapes.representatives(["train", "train"]).tolist() == [0, 1]
    assert shapes.representatives(["train", "test"]).tolist() == [0, 0]


def test_alike_pairs_sees_a_shape_in_two_splits():
    shapes = shapes_of("AB\u0391K")
    everything = np.arange(4)
    assert shapes.alike_pairs(everything, ["train", "train", "test", "test"]) == [(0, 2)]
    assert shapes.alike_pairs(everything[[0, 1, 3]], ["train", "train", "test"]) == []


def test_correlations_are_pearsons():
    generator = np.random.default_rng(0)
    first, second = (generator.integers(0, 128, (n, SIDE, SIDE)).astype(np.uint8) for n in (3, 4))
    expected = np.corrcoef(first.reshape(3, -1), second.reshape(4, -1))[:3, 3:]
    np.testing.assert_allclose(correlations(first, second), expected, atol=1e-6)


def test_a_thumbnail_does_not_depend_on_size():
    small, large = (thumbnail(drawn(ord("R"), 0, least)) for least in (24, 300))
    assert small.max() <= 127
    assert correlations(small[None], large[None]).item() > 0.95


def test_blocks_and_splits_name_the_same_scripts():
    assert {block.script for block in BLOCKS} == set(SPLITS)
    assert set(SPLITS.values()) == {"train", "valid", "test"}


def test_characters_have_ink_and_no_copies():
    found = {character.code: character for character in characters()}
    assert 5000 < len(found) < 6500
    for absent in (
        0x20,
        0xA0,
        0x301,
        0x2800,
        0x1D400,
        0xE000,
        0xFFFD,
        0x1F600,
    ):  # blanks, marks, copies, private
        assert absent not in found
    assert found[0x41].faces == tuple(range(len(FACES)))
    assert found[0x10D0].script == "Georgian"


def test_a_blank_has_no_ink():
    assert drawn(0x20, 0) is None
    comma, tight = drawn(0x2C, 0), drawn(0x2C, 0, 24)
    assert comma is not None and max(comma.shape) < 24
    assert tight is not None and max(tight.shape) >= 22
    assert tight[0].any() and tight[-1].any() and tight[:, 0].any() and tight[:, -1].any()
