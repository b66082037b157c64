"""Sine curves whose amplitude and phase drift from example to example."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import InputError
from innerloop.tasks.changing.sequences import QUERIES, SHOTS, ChangingTasks, expect_ranges, smooth
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.split_sizes import family_of_examples

_AMPLITUDE, _PHASE, _INPUT, _NOISE = range(1, 5)


class DriftingSineParameters(NamedTuple):
    """The curve at each step; phase in radians."""

    amplitude: Float64[Tensor, "tasks steps"]
    phase: Float64[Tensor, "tasks steps"]


class DriftingSineTasks(ChangingTasks):
    """Streams of points on drifting sine curves; x and y (tasks, steps, 1). See `drifting_sines`."""

    input_shape: tuple[int, ...] = (1,)
    output_size = 1
    name = "drifting_sines"
    amplitude: tuple[float, float]
    phase: tuple[float, float]
    drift: float
    noise: float

    def __init__(
        self,
        *,
        amplitude: tuple[float, float],
        phase: tuple[float, float],
        drift: float,
        noise: float,
        **sizes: Any,
    ) -> None:
        super().__init__(**sizes)
        self.amplitude, self.phase, self.drift, self.noise = amplitude, phase, drift, noise

    def parameters(self, keys: Int64[Tensor, " tasks"]) -> DriftingSineParameters:
        """Amplitude and phase at each step of the streams of these keys, each uniform over its range at any one step."""
        steps = self.shots + self.queries
        found = []
        for (low, high), salt in ((self.amplitude, _AMPLITUDE), (self.phase, _PHASE)):
            walk = smooth(random_keys.normal(keys, (steps,), salt, torch.float64), 1 - self.drift)
            if self.change:  # another curve goes on from there
                other = smooth(random_keys.normal(keys, (steps,), salt + 10, torch.float64), 1 - self.drift)
                walk = torch.where(torch.arange(steps, device=keys.device) >= self.changes(keys)[:, None], other, walk)
            found.append(low + (high - low) * 0.5 * (1 + torch.erf(walk / math.sqrt(2))))
        return DriftingSineParameters(*found)

    def stream(self, keys: Int64[Tensor, " tasks"]) -> tuple[Tensor, Tensor]:
        """The points of each stream in their order."""
        steps = self.shots + self.queries
        of = self.parameters(keys)
        x = 10 * random_keys.uniform(keys, (steps,), _INPUT, torch.float64) - 5
        y = of.amplitude * torch.sin(x - of.phase)
        y = y + self.noise * random_keys.normal(keys, (steps,), _NOISE, torch.float64)
        return x[..., None], y[..., None]

    def default_model(self) -> nn.Module:
        """The sine's network, 1-40-40-1 with ReLU."""
        from innerloop import models

        return models.mlp(1, 1)


def drifting_sines(
    *,
    shots: int = SHOTS,
    queries: int = QUERIES,
    train_shots: int | None = None,
    train_queries: int | None = None,
    change: bool = False,
    amplitude: tuple[float, float] = (0.1, 5.0),
    phase: tuple[float, float] = (0.0, math.pi),
    drift: float = 0.01,
    noise: float = 0.1,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Points on y = A sin(x - phase) + noise, one after another, x in [-5, 5], while amplitude and phase drift.

    Both are random walks that are pulled back, transformed to be uniform over their ranges at any one step, so a stream has no
    beginning that is unlike its end. The splits differ in their keys only.

    Args:
        shots: points of the support side, in their order.
        queries: the points after these.
        train_shots, train_queries: those of training tasks, where they differ.
        change: whether there is also a jump to another curve in mid-stream.
        amplitude, phase: (low, high); radians.
        drift: how much of a walk is lost from one point to the next; after 1 / drift points it is another. 0: nothing drifts.
        noise: standard deviation of what is added to y.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: a range that is not (low, high), a drift outside 0 to 1, a negative noise.
    """
    ranges = expect_ranges("drifting_sines", {"amplitude": amplitude, "phase": phase}, {})
    if not (math.isfinite(drift) and 0 <= drift <= 1):
        raise InputError(f"drifting_sines: drift expected a share from 0 to 1, got {drift}; 0.01, say")
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"drifting_sines: noise expected a finite standard deviation of at least 0, got {noise}")
    settings = {"change": change, **ranges, "drift": float(drift), "noise": float(noise)}
    return family_of_examples(
        "drifting_sines", DriftingSineTasks, settings, (shots, queries), (train_shots, train_queries), dtype
    )
