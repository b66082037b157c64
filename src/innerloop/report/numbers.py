"""Numbers as a reader wants them: no more digits than the interval supports, times in minutes and hours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def metric_name(metric: str) -> str:
    """What a metric is called in a sentence or above a column."""
    return "mean squared error" if metric == "mse" else metric


def axis_label(metric: str) -> str:
    """What is written beside an axis."""
    return f"{metric} (%)" if is_fraction(metric) else metric_name(metric)


def is_fraction(metric: str) -> bool:
    """Whether values are shown as per cent."""
    return metric == "accuracy"


def _digits(interval: float) -> int:
    """Decimals that leave two figures of the interval."""
    if not math.isfinite(interval) or interval <= 0:
        return 3
    return min(8, max(0, 1 - math.floor(math.log10(interval))))


def with_interval(mean: float, ci95: float | None, metric: str) -> str:
    """A number with its interval where it has one: 98.70 ± 0.31 % for a fraction, 0.352 ± 0.021 for an error."""
    if not math.isfinite(mean):
        return "not finite"
    scale, unit = (100.0, " %") if is_fraction(metric) else (1.0, "")
    mean = mean * scale
    if ci95 is None or not math.isfinite(ci95):
        return (f"{mean:.2f}" if unit else f"{mean:.4g}") + unit
    interval = ci95 * scale
    if unit:
        return f"{mean:.2f} ± {interval:.2f}{unit}"
    if abs(mean) >= 1e5 or 0 < abs(mean) < 1e-4:
        return f"{mean:.3g} ± {interval:.2g}"
    digits = _digits(interval) if interval > 0 else 4
    return f"{mean:.{digits}f} ± {interval:.{digits}f}"


def duration(seconds: float | None) -> str:
    """ "0.4 s", "63 s", "5 min 12 s", "2 h 03 min"; "not recorded" for None."""
    if seconds is None or not math.isfinite(seconds):
        return "not recorded"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def setting(value: Any) -> str:
    """A setting's value, short: 0.01, yes, none, 5 x 5, name = value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {setting(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "(" + ", ".join(setting(item) for item in value) + ")"
    return value if isinstance(value, str) else json.dumps(value, default=str)
