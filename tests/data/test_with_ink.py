"""Where nobody said what is ink, the paper does: what most of the pictures' edges are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from innerloop.data import support_files


def cross(dark: bool, side: int = 20) -> np.ndarray:
    ink = np.zeros((side, side), np.uint8)
    ink[side // 2 - 2 : side // 2 + 2, :] = 230  # it runs to the edges, and the paper is still most of them
    ink[:, side // 2 - 2 : side // 2 + 2] = 230
    return 255 - ink if dark else ink


@pytest.mark.parametrize("dark", [True, False])
def test_the_edges_decide_and_ink_is_bright(tmp_path, dark):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(cross(dark)).save(tmp_path / name / "1.png")
    found = support_files.read_classes(tmp_path, (1, 20, 20), None)
    assert found.invert is dark
    np.testing.assert_allclose(found.images[0, 0], cross(False) / np.float32(255), atol=1e-6)
    said = support_files.read_classes(tmp_path, (1, 20, 20), not dark)
    assert said.invert is (not dark) and said.images[0, 0, 0, 0] == 1.0, "whoever says it is believed"


def test_a_record_keeps_it_open_or_says_it():
    assert support_files.inverts(support_files.preprocessing_of(None)) is None
    assert support_files.inverts(support_files.preprocessing_of(True)) is True
    assert support_files.inverts(support_files.preprocessing_of(False)) is False
    assert support_files.inverts(None) is False and support_files.inverts({"kind": "tables"}) is False
