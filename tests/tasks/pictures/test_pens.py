"""Characters drawn again: pictures stay pictures, each pen is its own, and pens and brush are different changes."""

from __future__ import annotations

import pytest
import torch

from innerloop import keys as random_keys
from innerloop.data.class_images import ClassImages
from innerloop.errors import InputError
from innerloop.tasks.pictures.few_shot import FewShotImages
from innerloop.tasks.pictures.pens import redrawn


def strokes(tasks: int = 2, examples: int = 30, side: int = 28) -> torch.Tensor:
    """The same thin cross, a little above the middle, in all pictures."""
    x = torch.zeros(tasks, examples, 1, side, side)
    x[..., side // 2 - 3, 6:22] = 1
    x[..., 5:23, side // 2] = 1
    return x


KEYS = random_keys.task_keys(0, "train", 0, 0, 2)


@pytest.mark.parametrize("kind", ["pens", "brush"])
def test_pictures_stay_pictures_and_each_is_another(kind):
    x = strokes()
    found = redrawn(x, KEYS, kind)
    assert found.shape == x.shape and found.min() >= 0 and found.max() <= 1
    flat = found.flatten(0, 1).flatten(1)
    assert len(torch.unique(flat, dim=0)) == len(flat)
    assert torch.equal(found, redrawn(x, KEYS, kind)), "a function of the keys"
    assert torch.allclose(found[1:], redrawn(x[1:], KEYS[1:], kind), atol=1e-6), "in whatever batch"
    assert found.double().mean() > 0.5 * x.double().mean(), "the ink is still there"


def test_pens_are_thin_and_thick_and_pale_and_full():
    found = redrawn(strokes(), KEYS, "pens").flatten(0, 1).flatten(1)
    ink = (found > 0.5 * found.amax(1, keepdim=True)).double().mean(1)
    assert ink.max() > 2.5 * ink.min()
    assert found.amax(1).min() < 0.75 and found.amax(1).max() > 0.95


def test_a_brush_is_of_the_task_and_thick_in_one_direction():
    """Horizontal and vertical strokes of one task come out of different widths; and another task has another nib."""
    bars = torch.zeros(8, 2, 1, 28, 28)
    bars[:, 0, :, 14, 5:23], bars[:, 1, :, 5:23, 14] = 1, 1
    found = redrawn(bars, random_keys.task_keys(0, "valid", 0, 0, 8), "brush").sum((2, 3, 4))
    ratio = found[:, 0] / found[:, 1]
    assert ratio.max() > 1.3 and ratio.min() < 0.8
    many = bars[:, :1].expand(-1, 20, -1, -1, -1).contiguous()
    found = redrawn(many, random_keys.task_keys(0, "valid", 0, 0, 8), "brush")
    ink = (found > 0.5 * found.amax((3, 4), keepdim=True)).double().mean((2, 3, 4))
    assert ink.mean(1).std() > 0.6 * ink.std(1).mean(), "pictures of a task are more alike than tasks are"


def test_a_thick_stroke_does_not_become_a_blot():
    thick = torch.zeros(1, 40, 1, 28, 28)
    thick[..., 4:24, 4:10], thick[..., 4:24, 18:24] = 1, 1  # two bars with a gap
    found = redrawn(thick, KEYS[:1], "pens")[0, :, 0]
    assert (found.amax((1, 2)) - found.mean((1, 2)) > 0.15).all(), "paper and ink can still be told apart"


def test_pictures_in_colour_are_refused_where_the_tasks_are_made():
    images = ClassImages(torch.zeros(4, 6, 3, 8, 8, dtype=torch.uint8), tuple("abcd"), ("",) * 4)
    with pytest.raises(InputError, match="'pens' expected grey"):
        FewShotImages(images, range(4), ways=2, shots=1, queries=1, changes="pens")
