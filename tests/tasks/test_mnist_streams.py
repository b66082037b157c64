"""Digits turned or permuted: what a part shows, and that validation streams show none of what they are judged on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.tasks.streams import mnist_streams
from innerloop.tasks.streams.mnist_streams import rotated


@pytest.fixture
def digits(monkeypatch):
    """Small stand-ins for the official files: a picture tells its own number."""
    generator = torch.Generator().manual_seed(0)

    def made(count: int, first: int):
        x = torch.rand(count, 1, 4, 4, generator=generator)
        x[:, 0, 0, 0] = torch.arange(first, first + count) / 1e5
        return il.Examples(x, torch.arange(count) % 10)

    training, test = made(300, 0), made(100, 50_000)
    monkeypatch.setattr(mnist_streams, "mnist_training_examples", lambda size: training)
    monkeypatch.setattr(mnist_streams, "mnist_test_examples", lambda size: test)
    monkeypatch.setattr(mnist_streams, "_HELD_OUT", 100)


def test_parts_have_pixels_in_another_order(digits):
    stream = il.tasks.mnist_permutations(parts=3, examples=50, tested=40)
    first = stream.test(0).x
    for part in (1, 2):
        x = stream.test(part).x
        assert x.sort(1).values.equal(first.sort(1).values) and not x.equal(first)
        assert stream.test(part).y.equal(stream.test(0).y)
    assert not stream.train(1).y.equal(stream.train(0).y), "drawn anew"


def test_validation_shows_nothing_that_is_judged(digits):
    stream = il.tasks.mnist_permutations(parts=2, examples=150, tested=60)
    assert stream.valid is not None
    numbers = lambda side: set((side.x[:, 0] * 1e5).round().long().tolist())  # noqa: E731
    shown, judged = numbers(stream.valid.train(0)), numbers(stream.valid.test(0))
    assert max(shown) < 200 <= min(judged) and max(judged) < 300, "training digits alone"
    assert min(numbers(stream.test(0))) >= 50_000


def test_angles_grow_from_part_to_part(digits):
    stream = il.tasks.mnist_rotations(parts=20, examples=10, tested=10)
    angles = [stream.angle(part) for part in range(20)]
    assert all(9 * part <= angle < 9 * part + 9 for part, angle in enumerate(angles))
    assert angles != [il.tasks.mnist_rotations(parts=20, examples=10, tested=10, seed=1).angle(p) for p in range(20)]


def test_a_picture_is_turned():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 4] = 1.0  # to the right
    torch.testing.assert_close(rotated(x, 0), x)
    up = rotated(x, 90)
    assert float(up[0, 0, 0, 2]) == pytest.approx(1.0, abs=1e-5) and float(up.sum()) == pytest.approx(1.0, abs=1e-4)
    assert np.isclose(float(rotated(x, 180)[0, 0, 2, 0]), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"), [({"parts": 0}, "parts"), ({"examples": 301}, "at most"), ({"seed": -1}, "seed")]
)
def test_numbers_out_of_range(digits, options, said):
    with pytest.raises(il.InputError, match=said):
        il.tasks.mnist_rotations(**{"examples": 10, "tested": 10, **options})
