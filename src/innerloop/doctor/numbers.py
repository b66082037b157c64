"""Lengths and differences of gradients by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

Values = Mapping[str, Tensor]


def norm(values: Values) -> Tensor:
    return torch.stack([v.square().sum() for v in values.values()]).sum().sqrt()


def relative(found: Values, reference: Values) -> float:
    """Length of the difference over the reference's length."""
    difference = norm({name: found[name] - value for name, value in reference.items()})
    return float(difference / norm(reference).clamp(min=1e-300))


def apart_by_parameter(first: Values, second: Values, leave_out: Collection[str] = ()) -> tuple[float, str]:
    """The largest relative difference of one parameter, and its name; one that is tiny beside the rest is held to 1e-6 of it."""
    whole = float(norm(first))
    worst, where = 0.0, ""
    for name, value in first.items():
        if name in leave_out:
            continue
        scale = max(float(value.norm()), 1e-6 * whole, 1e-300)
        error = float((second[name] - value).norm()) / scale
        if not error <= worst:
            worst, where = error, name
    return worst, where


def size(values: Values) -> tuple[int, int]:
    return len(values), sum(v.numel() for v in values.values())
