"""Covariance functions of one input variable, with hyperparameters that differ from task to task."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

KernelName = Literal["rbf", "matern52", "periodic"]
KERNELS: tuple[str, ...] = get_args(KernelName)


class Hyperparameters(NamedTuple):
    """What makes one Gaussian process differ from another; lengths and periods in units of x, scales in units of y.

    ``period`` counts for the periodic kernel alone, whose ``length`` has no unit.
    """

    length: Float64[Tensor, " tasks"]
    scale: Float64[Tensor, " tasks"]
    period: Float64[Tensor, " tasks"]


def covariance(
    kernel: str,
    of: Hyperparameters,
    a: Float64[Tensor, "tasks first"],
    b: Float64[Tensor, "tasks second"],
) -> Float64[Tensor, "tasks first second"]:
    """The covariance of the curve's values at ``a`` and at ``b``, without noise.

    "rbf": ``s^2 exp(-d^2 / 2 l^2)``; "matern52": ``s^2 (1 + r + r^2 / 3) exp(-r)`` with ``r = sqrt(5) d / l``; "periodic":
    ``s^2 exp(-2 (sin(pi d / p) / l)^2)``; d is the distance of the two points.
    """
    length, scale, period = (value[:, None, None] for value in of)
    distance = (a[:, :, None] - b[:, None, :]).abs()
    if kernel == "rbf":
        shape = torch.exp(-0.5 * (distance / length).square())
    elif kernel == "matern52":
        r = math.sqrt(5.0) * distance / length
        shape = (1 + r + r.square() / 3) * torch.exp(-r)
    else:
        shape = torch.exp(-2 * (torch.sin(math.pi * distance / period) / length).square())
    return scale.square() * shape
