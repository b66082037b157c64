"""The glyphs problem as a whole; built once, then from the user's cache."""

import numpy as np
import pytest
import torch

from innerloop.data.glyph_fonts import SPLITS, characters, drawn
from innerloop.data.glyph_shapes import Shapes
from innerloop.errors import InputError
from innerloop.tasks.pictures.glyphs import glyphs


@pytest.fixture(scope="module")
def family():
    return glyphs()


def scripts_of(distribution):
    return {distribution.images.groups[number] for number in distribution.classes.tolist()}


def test_numbers_of_classes(family):
    sizes = [len(split.classes) for split in (family.train, family.valid, family.test)]
    total = sum(sizes)
    assert 3000 < total < 4500 and total == family.train.images.num_classes
    assert 0.65 < sizes[0] / total < 0.80
    assert min(sizes) > 250


def test_scripts_are_disjoint(family):
    train, valid, test = (scripts_of(split) for split in (family.train, family.valid, family.test))
    assert not train & valid and not train & test and not valid & test
    assert {"Armenian", "Georgian", "Hebrew", "Arabic", "Tifinagh"} <= test
    assert train | valid | test == set(SPLITS)


@pytest.mark.slow
def test_no_shape_is_in_two_splits(family):
    """Measured again from the fonts; then a Greek Alpha beside the Latin A, which must be seen."""
    codes = [int(name.split()[0][2:], 16) for name in family.train.images.names]
    splits = [SPLITS[group] for group in family.train.images.groups]
    assert 0x41 in codes and 0x391 not in codes and 0x410 not in codes
    faces = {character.code: character.faces[:2] for character in characters()}
    with_alpha = [*codes, 0x391]
    shapes = Shapes([[drawn(code, face, 24) for face in faces[code]] for code in with_alpha])
    numbers = np.arange(len(with_alpha))
    assert shapes.alike_pairs(numbers[:-1], splits) == []
    assert (codes.index(0x41), len(codes)) in shapes.alike_pairs(numbers, [*splits, "valid"])


def test_no_drawing_is_blank_or_full(family):
    images = family.train.images.images
    ink = images.sum((2, 3), dtype=torch.float32) / (255 * 28 * 28)
    assert ink.min() > 0.005 and ink.max() < 0.9
    assert images.amax((2, 3)).min() > 200
    flat = images.flatten(2)
    assert not (flat[:, 1:] == flat[:, :1]).all(-1).any()


def test_no_two_classes_have_the_same_drawings(family):
    first = family.train.images.images[:, 0].flatten(1)
    assert len(torch.unique(first, dim=0)) == len(first)


def test_tasks(family):
    task = family.test.at(0, 0, 4)
    assert task.support.x.shape == (4, 5, 1, 28, 28) and task.query.x.shape == (4, 75, 1, 28, 28)
    assert task.support.x.min() >= 0 and task.support.x.max() <= 1
    assert task.num_classes == len(family.test.classes)
    again = glyphs(**family.options).test.at(0, 0, 4)
    assert torch.equal(task.query.x, again.query.x)


def test_nearest_neighbour_in_pixels_is_neither_lost_nor_done(family):
    task = family.test.at(0, 0, 300)
    distance = torch.cdist(task.query.x.flatten(2), task.support.x.flatten(2))
    right = (task.support.y.gather(1, distance.argmin(-1)) == task.query.y).float().mean()
    assert 0.55 < right < 0.70


def test_options(family):
    other = glyphs(ways=3, train_ways=7, shots=2, queries=4, rotations=True, dtype="float64")
    assert other.train.ways == 7 and other.test.ways == 3
    assert other.train.num_classes == 4 * len(family.train.classes)
    assert other.test.num_classes == len(family.test.classes)
    assert other.train.at(0, 0, 1).support.x.dtype == torch.float64
    with pytest.raises(InputError, match="at most 20"):
        glyphs(shots=10, queries=11)
