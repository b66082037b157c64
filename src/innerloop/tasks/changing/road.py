"""A car whose road, load and steering change in mid-drive: predict how its motion changes within the next step."""

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

_GRIP, _MASS, _LATENCY, _SLOPE, _PACE, _WHEEL, _PEDAL, _BEGIN, _NOISE = range(1, 10)
_GRAVITY = 9.81
_STEP, _PARTS = 0.1, 5  # seconds of a step, and how many parts it is integrated in
_FRONT, _REAR = 1.2, 1.4  # metres from the centre of mass to the axles
_GYRATION = 1.6  # yaw inertia over mass, square metres
_STIFFNESS = 80_000.0  # of an axle's tyres against slip, newtons a radian
_FORCE = 8_000.0  # of the motor or the brakes at full pedal, newtons
_DRAG = 4e-4  # of the air, a metre
_SLOWEST, _FASTEST = 3.0, 40.0  # metres a second
_STEERS = 0.06  # typical angle of the wheels, radians
_CATCHES = 0.7  # how much of the angle of a slide drivers steer against
_LOCK = 0.4  # the wheels turn no further, radians
_PACES = (8.0, 16.0)  # speeds that drivers keep, metres a second
# Scales that make inputs and targets of about unit size over all drives.
_INPUTS = ((12.0, 2.5), (0.0, 0.7), (0.0, 0.2), (0.0, 0.07), (0.0, 0.07), (0.0, 0.5))
_TARGETS = (0.18, 0.1, 0.08)


class RoadParameters(NamedTuple):
    """The car and its road at each step.

    Attributes:
        grip: friction of tyres and road; 1 is dry asphalt, 0.1 ice.
        mass: kilograms.
        latency: how much of a step passes before the wheels turn as steered, 0 to 1.
        slope: sine of the road's angle; above 0 it rises.
    """

    grip: Float64[Tensor, "tasks steps"]
    mass: Float64[Tensor, "tasks steps"]
    latency: Float64[Tensor, "tasks steps"]
    slope: Float64[Tensor, "tasks steps"]


class RoadTasks(ChangingTasks):
    """Drives; x (tasks, steps, 6), y (tasks, steps, 3). See `road`."""

    input_shape: tuple[int, ...] = (6,)
    output_size = 3
    name = "road"
    grip: tuple[float, float]
    mass: tuple[float, float]
    latency: tuple[float, float]
    slope: tuple[float, float]
    noise: float

    def __init__(
        self,
        *,
        grip: tuple[float, float],
        mass: tuple[float, float],
        latency: tuple[float, float],
        slope: tuple[float, float],
        noise: float,
        **sizes: Any,
    ) -> None:
        super().__init__(**sizes)
        self.grip, self.mass, self.latency, self.slope, self.noise = grip, mass, latency, slope, noise

    def parameters(self, keys: Int64[Tensor, " tasks"]) -> RoadParameters:
        """What the car and its road are at each step of the drives of these keys."""
        return RoadParameters(
            self.between(keys, self.grip, _GRIP),
            self.between(keys, self.mass, _MASS),
            self.between(keys, self.latency, _LATENCY),
            self.between(keys, self.slope, _SLOPE),
        )

    def stream(self, keys: Int64[Tensor, " tasks"]) -> tuple[Tensor, Tensor]:
        steps = self.shots + self.queries
        of = self.parameters(keys)
        pace = _PACES[0] + (_PACES[1] - _PACES[0]) * random_keys.uniform(keys, salt=_PACE, dtype=torch.float64)
        wheel, pedal = (
            smooth(random_keys.normal(keys, (steps,), salt, torch.float64), keep)
            for salt, keep in ((_WHEEL, 0.8), (_PEDAL, 0.7))
        )
        wanted = _STEERS * wheel.clamp(-2.5, 2.5)
        speed = pace * (0.8 + 0.4 * random_keys.uniform(keys, salt=_BEGIN, dtype=torch.float64))
        motion = torch.stack([speed, torch.zeros_like(speed), torch.zeros_like(speed)])
        before = wanted[:, 0]
        seen, moved = [], []
        for i in range(steps):
            wheel = wanted[:, i] + _CATCHES * torch.atan(motion[1] / motion[0])  # drivers steer into a slide
            wheel = wheel.clamp(-_LOCK, _LOCK)
            given = (0.3 * (pace - motion[0]) + 0.5 * pedal[:, i]).clamp(-1, 1)
            seen.append(torch.stack([*motion, wheel, before, given], -1))
            turned = of.latency[:, i] * before + (1 - of.latency[:, i]) * wheel
            after = _driven(motion, turned, given, RoadParameters(*(value[:, i] for value in of)))
            moved.append((after - motion).T)
            motion, before = after, wheel
        centre, scale = torch.tensor(_INPUTS, dtype=torch.float64, device=keys.device).T
        y = torch.stack(moved, 1) / torch.tensor(_TARGETS, dtype=torch.float64, device=keys.device)
        noise = random_keys.normal(keys, tuple(y.shape[1:]), _NOISE, torch.float64)
        return (torch.stack(seen, 1) - centre) / scale, y + self.noise * noise

    def default_model(self) -> nn.Module:
        """A net of 6-64-32 features and a last layer."""
        from innerloop import models

        return models.mlp(6, 3, hidden=(64, 32), activation="tanh")


def _driven(motion: Tensor, turned: Tensor, pedal: Tensor, of: RoadParameters) -> Float64[Tensor, "3 tasks"]:
    """Speed, sideways speed and yaw rate after one step of a bicycle model with tyres that let go at the limit of grip."""
    load = of.grip * of.mass * _GRAVITY  # what all tyres together can hold
    front, rear = load * (_REAR / (_FRONT + _REAR)), load * (_FRONT / (_FRONT + _REAR))
    along = load * torch.tanh(pedal * _FORCE / load) / of.mass - _GRAVITY * of.slope
    for _ in range(_PARTS):
        speed, side, yaw = motion
        slip = torch.stack(
            [turned - torch.atan((side + _FRONT * yaw) / speed), -torch.atan((side - _REAR * yaw) / speed)]
        )
        limit = torch.stack([front, rear])
        ahead, behind = limit * torch.tanh(_STIFFNESS * slip / limit)
        rates = torch.stack([
            along - _DRAG * speed * speed + side * yaw - ahead * torch.sin(turned) / of.mass,
            (ahead * torch.cos(turned) + behind) / of.mass - speed * yaw,
            (_FRONT * ahead * torch.cos(turned) - _REAR * behind) / (_GYRATION * of.mass),
        ])  # fmt: skip
        motion = motion + _STEP / _PARTS * rates
        motion = torch.stack([motion[0].clamp(_SLOWEST, _FASTEST), *motion[1:]])
    return motion


def road(
    *,
    shots: int = SHOTS,
    queries: int = QUERIES,
    train_shots: int | None = None,
    train_queries: int | None = None,
    change: bool = True,
    grip: tuple[float, float] = (0.1, 1.0),
    mass: tuple[float, float] = (800.0, 2_400.0),
    latency: tuple[float, float] = (0.0, 1.0),
    slope: tuple[float, float] = (-0.15, 0.15),
    noise: float = 0.15,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Drives of a car; grip, mass, latency and slope are drawn for each, and anew at one step in the middle of it.

    A bicycle model with tyres that saturate, ten steps a second, at a random pace with random steering. An input has six numbers:
    speed, sideways speed, yaw rate, steering now, steering one step before, pedal; the target has three: how much speed, sideways
    speed and yaw rate change within the step. All are scaled to about unit size. The splits differ in their keys only. The change
    comes between 40 and 60 % of a drive; `RoadTasks.changes` says at which step.

    Args:
        shots: steps of the support side, the drive so far, in their order.
        queries: the steps after these.
        train_shots, train_queries: those of training tasks, where they differ.
        change: whether there is a change in mid-drive; False: a drive has one car and one road.
        grip: (low, high) of the friction; 1 is dry asphalt, 0.1 ice.
        mass: of the car's, kilograms.
        latency: of the steering's, in steps, 0 to 1.
        slope: of the sine of the road's angle.
        noise: standard deviation of what is added to each target, in its scaled unit.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: a range that is not (low, high), a grip or mass that is not above 0, a latency beyond a step,
            a negative noise.
    """
    ranges = expect_ranges(
        "road",
        {"grip": grip, "mass": mass, "latency": latency, "slope": slope},
        {"grip": 0.05, "mass": 100.0, "latency": 0.0, "slope": -0.5},
    )
    for what, most in (("latency", 1.0), ("slope", 0.5)):
        if ranges[what][1] > most:
            raise InputError(f"road: {what} expected numbers of at most {most:g}, got {ranges[what][1]:g}; lower it")
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"road: noise expected a finite standard deviation of at least 0, got {noise}")
    settings = {"change": change, **ranges, "noise": float(noise)}
    return family_of_examples("road", RoadTasks, settings, (shots, queries), (train_shots, train_queries), dtype)
