"""A driven pendulum whose length, mass and friction change in mid-run: predict how its speed changes within the next step."""

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

_LENGTH, _MASS, _FRICTION, _TORQUE, _ANGLE, _NOISE = range(1, 7)
_GRAVITY = 9.81
_STEP, _PARTS = 0.1, 5  # seconds of a step, and how many parts it is integrated in
_TURNS = 4.0  # typical torque, newton metres
_FASTEST = 12.0  # radians a second
_SPEED, _CHANGE = 3.0, 0.8  # typical speed, and change of it within a step: inputs and targets in these units


class PendulumParameters(NamedTuple):
    """The pendulum at each step: metres, kilograms, newton metre seconds."""

    length: Float64[Tensor, "tasks steps"]
    mass: Float64[Tensor, "tasks steps"]
    friction: Float64[Tensor, "tasks steps"]


class PendulumTasks(ChangingTasks):
    """Runs of a pendulum; x (tasks, steps, 4), y (tasks, steps, 1). See `pendulum`."""

    input_shape: tuple[int, ...] = (4,)
    output_size = 1
    name = "pendulum"
    length: tuple[float, float]
    mass: tuple[float, float]
    friction: tuple[float, float]
    noise: float

    def __init__(
        self,
        *,
        length: tuple[float, float],
        mass: tuple[float, float],
        friction: tuple[float, float],
        noise: float,
        **sizes: Any,
    ) -> None:
        super().__init__(**sizes)
        self.length, self.mass, self.friction, self.noise = length, mass, friction, noise

    def parameters(self, keys: Int64[Tensor, " tasks"]) -> PendulumParameters:
        """What the pendulum is at each step of the runs of these keys."""
        ranges = ((self.length, _LENGTH), (self.mass, _MASS), (self.friction, _FRICTION))
        return PendulumParameters(*(self.between(keys, limits, salt) for limits, salt in ranges))

    def stream(self, keys: Int64[Tensor, " tasks"]) -> tuple[Tensor, Tensor]:
        """The examples of each run in their order."""
        steps = self.shots + self.queries
        of = self.parameters(keys)
        torque = _TURNS * smooth(random_keys.normal(keys, (steps,), _TORQUE, torch.float64), 0.8)
        angle = math.pi * (2 * random_keys.uniform(keys, salt=_ANGLE, dtype=torch.float64) - 1)
        speed = torch.zeros_like(angle)
        seen, moved = [], []
        for i in range(steps):
            begun = speed
            given = torque[:, i]
            seen.append(torch.stack([torch.sin(angle), torch.cos(angle), speed / _SPEED, given / _TURNS], -1))
            length, mass, friction = (value[:, i] for value in of)
            for _ in range(_PARTS):
                pull = (given - friction * speed) / (mass * length * length) - _GRAVITY / length * torch.sin(angle)
                speed = (speed + _STEP / _PARTS * pull).clamp(-_FASTEST, _FASTEST)
                angle = angle + _STEP / _PARTS * speed
            moved.append((speed - begun) / _CHANGE)
        y = torch.stack(moved, 1)
        return torch.stack(seen, 1), (y + self.noise * random_keys.normal(keys, (steps,), _NOISE, torch.float64))[
            ..., None
        ]

    def default_model(self) -> nn.Module:
        """A net of 4-64-32 features and a last layer."""
        from innerloop import models

        return models.mlp(4, 1, hidden=(64, 32), activation="tanh")


def pendulum(
    *,
    shots: int = SHOTS,
    queries: int = QUERIES,
    train_shots: int | None = None,
    train_queries: int | None = None,
    change: bool = True,
    length: tuple[float, float] = (0.5, 1.5),
    mass: tuple[float, float] = (0.5, 2.0),
    friction: tuple[float, float] = (0.0, 1.0),
    noise: float = 0.1,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Runs of a pendulum under a random torque; length, mass and friction are drawn for each, and anew in the middle of it.

    An input has four numbers: sine and cosine of the angle, angular speed, torque; the target is how much the speed changes
    within a tenth of a second. All are of about unit size. The splits differ in their keys only.

    Args:
        shots: steps of the support side, the run so far, in their order.
        queries: the steps after these.
        train_shots, train_queries: those of training tasks, where they differ.
        change: whether there is a change in mid-run.
        length: (low, high), metres.
        mass: likewise, kilograms.
        friction: likewise, newton metre seconds.
        noise: standard deviation of what is added to each target, in its scaled unit.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: a range that is not (low, high), a length or mass that is not above 0, a negative friction or noise.
    """
    ranges = expect_ranges(
        "pendulum",
        {"length": length, "mass": mass, "friction": friction},
        {"length": 0.2, "mass": 0.1, "friction": 0.0},
    )
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"pendulum: noise expected a finite standard deviation of at least 0, got {noise}")
    settings = {"change": change, **ranges, "noise": float(noise)}
    return family_of_examples(
        "pendulum", PendulumTasks, settings, (shots, queries), (train_shots, train_queries), dtype
    )
