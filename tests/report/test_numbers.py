"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from innerloop.report.numbers import duration, setting, with_interval


@pytest.mark.parametrize(
    ("mean", "ci95", "metric", "expected"),
    [
        (0.987, 0.0031, "accuracy", "98.70 ± 0.31 %"),
        (0.35218, 0.0213, "mse", "0.352 ± 0.021"),
        (12.3456, 3.2, "mse", "12.3 ± 3.2"),
        (0.5, None, "mse", "0.5"),
        (0.5, math.nan, "accuracy", "50.00 %"),
        (math.inf, 0.1, "mse", "not finite"),
        (0.0, 0.0, "mse", "0.0000 ± 0.0000"),
        (2.5e7, 1.5e7, "mse", "2.5e+07 ± 1.5e+07"),
    ],
)
def test_with_interval(mean: float, ci95: float | None, metric: str, expected: str) -> None:
    assert with_interval(mean, ci95, metric) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.44, "0.4 s"), (63.2, "63 s"), (312, "5 min 12 s"), (7380, "2 h 03 min"), (None, "not recorded")],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_settings() -> None:
    assert setting(None) == "none"
    assert setting(True) == "yes"
    assert setting(0.001) == "0.001"
    assert setting([40, 40]) == "(40, 40)"
    assert setting({"a": 1, "b": [0.1, 5.0]}) == "a = 1, b = (0.1, 5)"
