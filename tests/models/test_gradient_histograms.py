"""Gradient histograms of pictures whose gradients are known, and what stays the same when a picture changes."""

from __future__ import annotations

import math

import pytest
import torch

from innerloop import models
from innerloop.errors import ConfigError


def ramp(angle: float, height: int = 16, width: int = 16, slope: float = 0.02) -> torch.Tensor:
    """Brightness that rises in one direction (0 to the right, a quarter turn down), one picture."""
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.5 + slope * (right * math.cos(angle) + down * math.sin(angle))).float()[None, None]


@pytest.mark.parametrize("turn", range(8))
def test_a_ramp_fills_the_bin_of_its_direction(turn):
    """With a constant gradient, all strength s falls into one bin; what is left is sqrt(s / sqrt(s^2 + 0.005))."""
    model = models.oriented_gradients((1, 16, 16), None, cell=2, stride=5)
    maps = model.histograms(ramp(turn * math.pi / 4))[0, :, 1, 1]
    expected = torch.zeros(8)
    expected[turn] = math.sqrt(0.02 / math.sqrt(0.02**2 + 0.005))
    torch.testing.assert_close(maps, expected, atol=3e-3, rtol=1e-3)


def test_between_two_directions_both_count_by_nearness():
    """A ramp at 0.3 of the way from bin 7 to bin 0, across the seam of the full turn: squares are as 0.7 to 0.3."""
    model = models.oriented_gradients((1, 16, 16), None, cell=2, stride=5)
    for from_bin in (7, 3, 1):
        maps = model.histograms(ramp((from_bin + 0.3) * math.pi / 4, slope=5.0))[0, :, 1, 1] ** 2
        both = torch.stack([maps[from_bin], maps[(from_bin + 1) % 8]])
        torch.testing.assert_close(both, torch.tensor([0.7, 0.3]) / math.hypot(0.7, 0.3), atol=1e-3, rtol=1e-3)
        assert maps.sum().item() == pytest.approx(both.sum().item(), abs=2e-3)


def test_features_are_those_of_a_direct_sum_over_pixels():
    x = torch.rand(1, 1, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = models.oriented_gradients((1, 9, 7), None, directions=5, cell=3, stride=4).double()
    found = model(x).reshape(5, 3, 2)
    picture = x[0, 0]
    at = lambda r, c: float(picture[min(max(r, 0), 8), min(max(c, 0), 6)])  # noqa: E731
    strength = torch.zeros(5, 9, 7, dtype=torch.float64)
    for r in range(9):
        for c in range(7):
            right = sum(w * (at(r + d, c + 1) - at(r + d, c - 1)) for d, w in ((-1, 1), (0, 2), (1, 1))) / 8
            down = sum(w * (at(r + 1, c + d) - at(r - 1, c + d)) for d, w in ((-1, 1), (0, 2), (1, 1))) / 8
            place = (math.atan2(down, right) / (2 * math.pi) * 5) % 5
            low = int(place)
            strength[low % 5, r, c] += (1 - (place - low)) * math.hypot(right, down)
            strength[(low + 1) % 5, r, c] += (place - low) * math.hypot(right, down)
    for row, r0 in enumerate((0, 4, 8)):
        for column, c0 in enumerate((0, 4)):
            total, weights = torch.zeros(5, dtype=torch.float64), [0.0, 0.0]
            near_r = [(r, math.exp(-(((r - r0) / 1.5) ** 2) / 2)) for r in range(9) if abs(r - r0) <= 3]
            near_c = [(c, math.exp(-(((c - c0) / 1.5) ** 2) / 2)) for c in range(7) if abs(c - c0) <= 3]
            weights = [sum(w for _, w in near_r), sum(w for _, w in near_c)]
            for r, wr in near_r:
                for c, wc in near_c:
                    total += strength[:, r, c] * wr * wc / (weights[0] * weights[1])
            expected = (total / (total.square().sum() + 0.005).sqrt()).sqrt()
            torch.testing.assert_close(found[:, row, column], expected, atol=2e-4, rtol=1e-3)


def test_light_does_not_matter_and_strong_contrast_hardly():
    model = models.oriented_gradients((3, 12, 10), None)
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x + 0.3), model(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(40 * x), model(20 * x), atol=1e-3, rtol=1e-2)
    grey = models.oriented_gradients((1, 12, 10), None)
    torch.testing.assert_close(model(x), grey(x.mean(1, keepdim=True)))


def test_mirror_images_are_one_with_mirror_and_two_without():
    x = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    both = models.oriented_gradients((1, 12, 10), 4, mirror=True)
    torch.testing.assert_close(both(x.flip(-1)), both(x))
    one = models.oriented_gradients((1, 12, 10), 4)
    assert (one(x.flip(-1)) - one(x)).abs().max() > 1e-3


def test_outputs_have_the_length_asked_for():
    torch.manual_seed(0)
    model = models.oriented_gradients(1, 6, length=4.0)
    z = model(torch.rand(5, 1, 28, 28))
    torch.testing.assert_close(z.norm(dim=1), torch.full((5,), 4.0))
    model.length = None
    torch.testing.assert_close(
        torch.nn.functional.normalize(model(torch.rand(5, 1, 28, 28))).norm(dim=1), torch.ones(5)
    )


def test_a_flat_picture_has_features_and_gradients_that_are_numbers():
    model = models.oriented_gradients((1, 8, 8), 2)
    x = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    model(x).sum().backward()
    assert model(x).isfinite().all() and x.grad is not None and x.grad.isfinite().all()
    assert model.histograms(x.detach()).abs().max() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": 2}, "at least 3, got 2"),
        ({"cell": 0}, "cell expected an integer of at least 1"),
        ({"length": 0.0}, "above 0 or None, got 0.0"),
        ({"length": float("nan")}, "above 0 or None"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message):
        models.oriented_gradients(1, 2, **options)
