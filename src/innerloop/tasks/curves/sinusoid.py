"""Regression on sine curves: the first problem of MAML (Finn et al. 2017, arXiv:1703.03400, section 5.1)."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.split_sizes import family_of_examples

_AMPLITUDE, _PHASE, _FREQUENCY, _SUPPORT, _QUERY, _GRID, _SUPPORT_NOISE, _QUERY_NOISE, _NOISE = range(1, 10)

_FINN: dict[str, Any] = {
    "amplitude": (0.1, 5.0),
    "phase": (0.0, math.pi),
    "frequency": (1.0, 1.0),
    "input_range": (-5.0, 5.0),
    "noise": 0.0,
    "inputs": "random",
    "grid_points": 20,
    "sign": "minus",
}
# y = a sin(x + b) + eps on one fixed grid, cut at random into support and query.
_GRID_OF_POINTS = {"phase": (-math.pi, math.pi), "noise": 0.01, "inputs": "grid", "sign": "plus"}
PRESETS: dict[str, dict[str, Any]] = {"finn": _FINN, "grid": {**_FINN, **_GRID_OF_POINTS}}


class SineParameters(NamedTuple):
    """What makes one sine task differ from another; phase in radians, frequency in radians per unit of x."""

    amplitude: Float[Tensor, " tasks"]
    phase: Float[Tensor, " tasks"]
    frequency: Float[Tensor, " tasks"]


class SineTasks(TaskDistribution):
    """Tasks y = A sin(f x - phase), or + phase; x and y have shape (tasks, examples, 1). See `sinusoid`."""

    on_device = True
    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    input_shape: tuple[int, ...] = (1,)
    output_size = 1
    name = "sinusoid"
    amplitude: tuple[float, float]
    phase: tuple[float, float]
    frequency: tuple[float, float]
    input_range: tuple[float, float]
    noise: float
    grid_points: int
    dtype: torch.dtype | None
    shots: int
    queries: int

    def __init__(
        self,
        *,
        split: str,
        shots: int,
        queries: int,
        amplitude: tuple[float, float],
        phase: tuple[float, float],
        frequency: tuple[float, float],
        input_range: tuple[float, float],
        noise: float,
        inputs: Literal["random", "grid"],
        grid_points: int,
        sign: Literal["minus", "plus"],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.split = split
        self.amplitude, self.phase, self.frequency = amplitude, phase, frequency
        self.input_range, self.noise, self.inputs, self.grid_points = input_range, noise, inputs, grid_points
        self.sign, self.dtype = sign, dtype
        self._set_sizes(shots, queries)
        ranges = {"amplitude": amplitude, "phase": phase, "frequency": frequency, "input_range": input_range}
        for what, (low, high) in ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InputError(f"sinusoid: {what} expected two finite numbers, low then high, got {low}, {high}")
        if not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"sinusoid: noise expected a finite standard deviation of at least 0, got {noise}")

    def _set_sizes(self, shots: int, queries: int) -> None:
        self.shots, self.queries = shots, queries
        for what, value in (("shots", shots), ("queries", queries)):
            if value < 1:
                raise InputError(f"sinusoid ({self.split}): {what} expected at least 1, got {value}; raise {what}")
        if self.inputs == "grid" and shots + queries > self.grid_points:
            raise InputError(
                f"sinusoid ({self.split}): shots + queries expected at most {self.grid_points}, the grid's points, "
                f"got {shots} + {queries}; use fewer, or raise grid_points"
            )

    def resized(self, ways: int, shots: int, queries: int) -> SineTasks:
        """See `TaskDistribution.resized`."""
        del ways
        new = copy.copy(self)
        new._set_sizes(shots, queries)
        return new

    def parameters(self, keys: Int64[Tensor, " tasks"]) -> SineParameters:
        """The true amplitude, phase and frequency of the tasks of these keys."""

        def between(limits: tuple[float, float], salt: int) -> Tensor:
            return limits[0] + (limits[1] - limits[0]) * random_keys.uniform(keys, salt=salt, dtype=self.dtype)

        return SineParameters(
            between(self.amplitude, _AMPLITUDE),
            between(self.phase, _PHASE),
            between(self.frequency, _FREQUENCY),
        )

    def curve(self, keys: Int64[Tensor, " tasks"], x: Float[Tensor, "#tasks points"]) -> Float[Tensor, "tasks points"]:
        """The true curves of the tasks at ``x``, without noise; x of shape (1, points) serves all tasks."""
        amplitude, phase, frequency = (value[:, None] for value in self.parameters(keys))
        shift = phase if self.sign == "plus" else -phase
        return amplitude * torch.sin(frequency * x + shift)

    def _inputs(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.input_range
        if self.inputs == "grid":
            dtype = self.dtype or torch.get_default_dtype()
            grid = torch.linspace(low, high, self.grid_points, dtype=dtype, device=keys.device)
            points = grid[random_keys.permutation(keys, self.grid_points, _GRID)]
            return points[:, : self.shots], points[:, self.shots : self.shots + self.queries]
        support = random_keys.uniform(keys, (self.shots,), _SUPPORT, self.dtype)
        query = random_keys.uniform(keys, (self.queries,), _QUERY, self.dtype)
        return low + (high - low) * support, low + (high - low) * query

    def _examples(self, keys: Tensor, x: Tensor, salt: int) -> Examples:
        y = self.curve(keys, x)
        if self.noise > 0:
            y = y + self.noise * random_keys.normal(keys, x.shape[1:], salt, self.dtype)
        return Examples(x=x[..., None], y=y[..., None])

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys; x and y (tasks, examples, 1)."""
        support, query = self._inputs(keys)
        return Task(
            support=self._examples(keys, support, _SUPPORT_NOISE),
            query=self._examples(keys, query, _QUERY_NOISE),
            objective=self.objective,
            noise=random_keys.fold(keys, _NOISE),
        )

    def default_model(self) -> nn.Module:
        """The network of the paper, 1-40-40-1 with ReLU."""
        from innerloop import models

        return models.mlp(1, 1)


def sinusoid(
    *,
    preset: Literal["finn", "grid"] = "finn",
    shots: int = 10,
    queries: int = 10,
    train_shots: int | None = None,
    train_queries: int | None = None,
    amplitude: tuple[float, float] | None = None,
    phase: tuple[float, float] | None = None,
    frequency: tuple[float, float] | None = None,
    input_range: tuple[float, float] | None = None,
    noise: float | None = None,
    inputs: Literal["random", "grid"] | None = None,
    grid_points: int | None = None,
    sign: Literal["minus", "plus"] | None = None,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Regression on sine curves y = A sin(f x - phase) + noise.

    The splits differ in their keys only: all draw from the same distribution, as in the paper. What is None
    comes from the preset.

    Args:
        preset: "finn": Finn et al. (2017), arXiv:1703.03400: A in [0.1, 5], phase in [0, pi], x drawn from
            [-5, 5], no noise. "grid": y = A sin(x + phase) + noise, phase in [-pi, pi], noise 0.01, 20 grid
            points in [-5, 5] that each task cuts at random into support and query.
        shots, queries: points of the support and of the query set.
        train_shots, train_queries: those of training tasks, where they differ (the paper trains on 10 points
            and also tests on 5).
        amplitude, phase, frequency: (low, high) of uniform distributions; radians.
        input_range: (low, high) of x.
        noise: standard deviation of what is added to every y, support and query.
        inputs: "random" points, or distinct points of a "grid".
        grid_points: how many points the grid has.
        sign: of the phase.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        ConfigError: an unknown preset, inputs or sign.
        InputError: a range that is not (low, high), a negative noise, more points than the grid has.
    """
    given = dict(locals())
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r} of sinusoid: {nearest(preset, PRESETS)}")
    settings = {name: usual if given[name] is None else given[name] for name, usual in PRESETS[preset].items()}
    for name, choices in (("inputs", ("random", "grid")), ("sign", ("minus", "plus"))):
        if settings[name] not in choices:
            raise ConfigError(f"sinusoid: {name} expected {choices[0]!r} or {choices[1]!r}, got {settings[name]!r}")
    for name in ("amplitude", "phase", "frequency", "input_range"):
        if len(settings[name]) != 2:
            raise InputError(f"sinusoid: {name} expected two numbers, low and high, got {settings[name]!r}")
        settings[name] = tuple(float(value) for value in settings[name])
    family = family_of_examples("sinusoid", SineTasks, settings, (shots, queries), (train_shots, train_queries), dtype)
    return family._replace(options={"preset": preset, **family.options})


def moved(
    tasks: TaskDistribution, what: Literal["phase", "amplitude", "input_range"], distance: float
) -> TaskDistribution:
    """Sine tasks in which ``what`` is larger by ``distance`` in every task, all else being as it is for the same keys.

    Raises:
        InputError: phases that cover the whole circle, which no shift leaves.
    """
    assert isinstance(tasks, SineTasks)
    low, high = getattr(tasks, what)
    if what == "phase" and high - low >= 2 * math.pi - 1e-9 and distance:
        raise InputError(
            f"sinusoid: phases from {low:g} to {high:g} cover the whole circle, so no shift of phase leaves it; "
            "shift the amplitude or the range"
        )
    made = copy.copy(tasks)
    setattr(made, what, (low + distance, high + distance))
    return made
