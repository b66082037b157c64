"""A histogram as a predictive distribution: uniform within a bar, half-normal tails beyond the outermost borders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import ConfigError, InputError

# A half-normal whose median is at distance 1 has this scale: half of a tail's mass lies within its bar.
_HALF_NORMAL_SCALE = 1 / 0.6744897501960817


def normal_borders(buckets: int) -> list[float]:
    """Borders that give each bar the same mass under a standard normal, the outermost those of a half of such a mass."""
    inner = torch.arange(1, buckets, dtype=torch.float64) / buckets
    return _with_ends(torch.special.ndtri(inner), float(-torch.special.ndtri(torch.tensor(0.25 / buckets).double())))


def fitted_borders(y: Float[Tensor, " values"], buckets: int) -> list[float]:
    """Borders that give each bar the same share of values drawn from the prior.

    Raises:
        InputError: fewer different values than bars.
    """
    inner = torch.quantile(y.to(torch.float64), torch.arange(1, buckets, dtype=torch.float64) / buckets)
    if bool((inner.diff() <= 0).any()):
        raise InputError(f"borders of {buckets} bars expected so many different targets, got fewer; use fewer buckets")
    reach = float(y.abs().max())
    return _with_ends(inner, max(reach, float(inner.abs().max()) * 1.01 + 1e-6))


def _with_ends(inner: Tensor, end: float) -> list[float]:
    return [-end, *inner.tolist(), end]


def checked_borders(borders: Sequence[float]) -> tuple[float, ...]:
    """Borders as a tuple; ConfigError unless they are finite, ascending and at least four."""
    found = tuple(float(b) for b in borders)
    ascending = all(a < b for a, b in itertools.pairwise(found))
    if len(found) < 4 or not ascending or not all(math.isfinite(b) for b in found):
        raise ConfigError(
            f"borders expected at least 4 finite numbers that ascend, got {len(found)}; see fitted_borders"
        )
    return found


def bar_log_density(
    logits: Float[Tensor, "*any bars"], borders: Float[Tensor, " borders"], y: Float[Tensor, "*any"]
) -> Float[Tensor, "*any"]:
    """The log density of y: the bar's log probability minus the log of its width; half-normal in the two outermost bars."""
    widths = borders.diff()
    index = torch.searchsorted(borders[1:-1].contiguous(), y.detach().contiguous(), right=True)
    chances = torch.log_softmax(logits, -1)
    inside = -widths.log()
    at = (chances.gather(-1, index[..., None])).squeeze(-1)
    low = _half_normal_log_density(borders[1] - y, widths[0])
    high = _half_normal_log_density(y - borders[-2], widths[-1])
    density = torch.where(index == 0, low, torch.where(index == widths.shape[0] - 1, high, inside[index]))
    return at + density


def _half_normal_log_density(distance: Tensor, width: Tensor) -> Tensor:
    scale = width * _HALF_NORMAL_SCALE
    return 0.5 * math.log(2 / math.pi) - scale.log() - 0.5 * (distance / scale).square()


def bar_moments(
    logits: Float[Tensor, "*any bars"], borders: Float[Tensor, " borders"]
) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    """Mean and variance, exactly."""
    widths = borders.diff()
    scale = widths[[0, -1]] * _HALF_NORMAL_SCALE
    reach = scale * math.sqrt(2 / math.pi)
    means = torch.cat(
        [(borders[1] - reach[0])[None], (borders[1:-2] + borders[2:-1]) / 2, (borders[-2] + reach[1])[None]]
    )
    tails = scale.square() * (1 - 2 / math.pi)
    spreads = torch.cat([tails[:1], widths[1:-1].square() / 12, tails[1:]])
    chances = torch.softmax(logits, -1)
    mean = chances @ means
    apart = (means - mean[..., None]).square()
    return mean, (chances * (spreads + apart)).sum(-1)
