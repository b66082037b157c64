"""Intervals over tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_ci95(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, ``1.96 sd / sqrt(n)`` with the sample sd; the width is 0 for one value."""
    n = len(values)
    if not all(math.isfinite(v) for v in values):
        return math.nan if any(math.isnan(v) for v in values) else math.inf, math.nan
    mean = math.fsum(values) / n
    if n < 2:
        return mean, 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, 1.96 * math.sqrt(variance / n)
