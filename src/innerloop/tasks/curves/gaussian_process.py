"""Regression on curves drawn from a Gaussian process, the problem of neural processes and of prior-fitted networks.

Its exact answers are here too: the posterior of a process whose hyperparameters are known. No learner that sees the points alone
can have a higher expected log-likelihood. `posterior` and what is built on it are batched over tasks, work in float64, and leave
out what a mask leaves out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.functional.gaussian_process import KERNELS as COVARIANCES
from innerloop.functional.gaussian_process import observe
from innerloop.objectives.losses import masked_mean
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.split_sizes import family_of_examples

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
    shape = COVARIANCES[kernel].between(a[..., None], b[..., None], {"length": length, "period": period})
    return scale.square() * shape


_LENGTH, _SCALE, _PERIOD, _SUPPORT, _QUERY, _VALUES, _SHOTS, _QUERIES, _NOISE = range(1, 10)
_LEAST_NOISE = 1e-3  # below it the covariance of many close points has no Cholesky factor in double precision


class GaussianProcessTasks(TaskDistribution):
    """Tasks of points on random curves; x and y (tasks, examples, 1), masks where their number is random.

    See `gaussian_process`.
    """

    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    input_shape: tuple[int, ...] = (1,)
    output_size = 1
    name = "gaussian_process"
    split: str
    kernel: str
    shots: int | None
    queries: int | None
    fewest: int
    max_points: int
    length: tuple[float, float]
    scale: tuple[float, float]
    period: tuple[float, float]
    noise: float
    input_range: tuple[float, float]
    dtype: torch.dtype | None

    def __init__(
        self,
        *,
        split: str,
        kernel: str,
        shots: int | None,
        queries: int | None,
        fewest: int,
        max_points: int,
        length: tuple[float, float],
        scale: tuple[float, float],
        period: tuple[float, float],
        noise: float,
        input_range: tuple[float, float],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.split, self.kernel, self.shots, self.queries = split, kernel, shots, queries
        self.fewest, self.max_points = fewest, max_points
        self.length, self.scale, self.period = length, scale, period
        self.noise, self.input_range, self.dtype = noise, input_range, dtype
        for what, count in (("shots", shots), ("queries", queries), ("fewest", fewest)):
            if count is not None and count < 1:
                raise InputError(f"gaussian_process ({split}): {what} expected at least 1, got {count}; raise {what}")
        random = (shots is None) + (queries is None)
        if random and max_points < (shots or fewest) + fewest + random:
            raise InputError(
                f"gaussian_process ({split}): max_points expected at least {(shots or fewest) + fewest + random} for so "
                f"many support points and {fewest} queries, got {max_points}; raise it, or give shots and queries"
            )
        self.most_shots: int = max_points - fewest - 1 if shots is None else shots
        self.most_queries: int = max_points - 1 - (shots or fewest) if queries is None else queries

    def hyperparameters(self, keys: Int64[Tensor, " tasks"]) -> Hyperparameters:
        """The true hyperparameters of the tasks of these keys, in double precision."""

        def between(limits: tuple[float, float], salt: int) -> Tensor:
            return limits[0] + (limits[1] - limits[0]) * random_keys.uniform(keys, salt=salt, dtype=torch.float64)

        return Hyperparameters(
            between(self.length, _LENGTH), between(self.scale, _SCALE), between(self.period, _PERIOD)
        )

    def sizes(self, keys: Int64[Tensor, " tasks"]) -> tuple[Int64[Tensor, " tasks"], Int64[Tensor, " tasks"]]:
        """How many support points and queries of each task count."""
        if self.shots is None:
            shots = self.fewest + random_keys.integers(keys, self.most_shots - self.fewest + 1, salt=_SHOTS)
        else:
            shots = torch.full_like(keys, self.shots)
        if self.queries is not None:
            return shots, torch.full_like(keys, self.queries)
        room = self.max_points - shots - self.fewest  # fewest ... max_points - shots - 1, as the benchmark's code draws
        drawn = (random_keys.uniform(keys, salt=_QUERIES, dtype=torch.float64) * room).to(torch.int64)
        return shots, self.fewest + drawn

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys; x and y (tasks, examples, 1)."""
        low, high = self.input_range
        ends = ((self.most_shots, _SUPPORT), (self.most_queries, _QUERY))
        x = torch.cat([random_keys.uniform(keys, (count,), salt, torch.float64) for count, salt in ends], 1)
        x = low + (high - low) * x
        y = self._values(keys, x)
        shots, queries = self.sizes(keys)
        parts = ((slice(0, self.most_shots), shots, self.shots), (slice(self.most_shots, None), queries, self.queries))
        support, query = (self._side(x[:, rows], y[:, rows], count, fixed) for rows, count, fixed in parts)
        return Task(support, query, self.objective, noise=random_keys.fold(keys, _NOISE))

    def _values(self, keys: Tensor, x: Tensor) -> Tensor:
        """Noisy values of each task's curve at its points, (tasks, points)."""
        joint = covariance(self.kernel, self.hyperparameters(keys), x, x)
        joint = joint + self.noise**2 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky(joint)
        normal = random_keys.normal(keys, x.shape[1:], _VALUES, torch.float64)
        return (factor * normal[:, None, :]).sum(-1)  # row by row: the same whatever the number of tasks

    def _side(self, x: Tensor, y: Tensor, count: Tensor, fixed: int | None) -> Examples:
        dtype = self.dtype or torch.get_default_dtype()
        mask = None
        if fixed is None:
            mask = torch.arange(x.shape[1], device=x.device) < count[:, None]
            y = y * mask  # padding knows nothing of the curve
        return Examples(x.to(dtype)[..., None], y.to(dtype)[..., None], mask)

    def posterior_curve(self, key: Int64[Tensor, " one"], x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of a new noisy value at ``x`` (points,), exactly, for the one task of this key."""
        task = self.from_keys(key)
        grid = x.to(torch.float64).reshape(1, -1, 1)
        asked = dataclasses.replace(task, query=Examples(grid, torch.zeros_like(grid)))
        found = posterior(self.kernel, self.hyperparameters(key), self.noise, asked)
        return found.mean[0], found.variance[0].sqrt()

    def default_model(self) -> nn.Module:
        """The sine's network, 1-40-40-1 with ReLU."""
        from innerloop import models

        return models.mlp(1, 1)


def gaussian_process(
    *,
    kernel: KernelName = "rbf",
    shots: int | None = None,
    queries: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    fewest: int = 3,
    max_points: int = 50,
    length: tuple[float, float] = (0.1, 0.6),
    scale: tuple[float, float] = (0.1, 1.0),
    period: tuple[float, float] = (0.1, 0.5),
    noise: float = 0.02,
    input_range: tuple[float, float] = (-2.0, 2.0),
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Regression on curves drawn from a Gaussian process of mean 0, one a task, with hyperparameters of its own.

    The benchmark of Lee et al. 2020, "Bootstrapping neural processes", arXiv:2008.02956, and Nguyen and Grover 2022,
    "Transformer neural processes", arXiv:2207.04179. The splits differ in their keys only. No learner reaches more
    than `exact_log_likelihood`. Ours differs in that each task has numbers of points of its own, where the authors' code
    draws them once for a batch.

    Args:
        kernel: "rbf", "matern52" or "periodic".
        shots, queries: points of the support and of the query set. None: random for each task, with masks: ``fewest`` to
            ``max_points - fewest - 1`` support points (3 to 46), then ``fewest`` to ``max_points - 1 - shots`` queries.
        train_shots, train_queries: those of training tasks, where they differ.
        fewest: fewest points of either set, where their number is random.
        max_points: support and query set together have fewer points, where their number is random.
        length, scale, period: (low, high) of the uniform distributions of the kernel's length scale, of the curve's standard
            deviation and, for "periodic", of its period; two equal numbers for a fixed one.
        noise: standard deviation of what is added to every y, support and query.
        input_range: (low, high) of x, which is uniform.
        dtype: of x and y, "float32" or "float64"; None: torch's default. Curves are drawn in double precision.

    Raises:
        ConfigError: an unknown kernel.
        InputError: a range that is not (low, high), a length, scale or period of 0, a noise below 0.001, too few points.
    """
    if kernel not in KERNELS:
        raise ConfigError(f"unknown kernel {kernel!r} of gaussian_process: {nearest(str(kernel), KERNELS)}")
    ranges = {"length": length, "scale": scale, "period": period, "input_range": input_range}
    for what, given in ranges.items():
        if len(given) != 2:
            raise InputError(f"gaussian_process: {what} expected two numbers, low and high, got {given!r}")
        low, high = ranges[what] = (float(given[0]), float(given[1]))
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InputError(f"gaussian_process: {what} expected two finite numbers, low then high, got {low}, {high}")
        if what != "input_range" and low <= 0:
            raise InputError(f"gaussian_process: {what} expected numbers above 0, got {low}; raise its lower end")
    if not (math.isfinite(noise) and noise >= _LEAST_NOISE):
        raise InputError(
            f"gaussian_process: noise expected a finite standard deviation of at least {_LEAST_NOISE}, got {noise}; raise it"
        )
    shared: dict[str, Any] = {"kernel": kernel, "fewest": fewest, "max_points": max_points, "noise": noise, **ranges}
    return family_of_examples(
        "gaussian_process", GaussianProcessTasks, shared, (shots, queries), (train_shots, train_queries), dtype
    )


class Posterior(NamedTuple):
    """A normal distribution for each query by itself; the variance is of the noisy value."""

    mean: Float64[Tensor, "tasks query"]
    variance: Float64[Tensor, "tasks query"]

    def log_density(self, y: Float64[Tensor, "tasks query"]) -> Float64[Tensor, "tasks query"]:
        """In nats."""
        return -0.5 * ((y - self.mean).square() / self.variance + torch.log(2 * math.pi * self.variance))


def posterior(kernel: str, of: Hyperparameters, noise: float, task: Task) -> Posterior:
    """What the support points say of the queries.

    ``mean = k' (K + noise^2 I)^-1 y`` and ``variance = k(x, x) + noise^2 - k' (K + noise^2 I)^-1 k``, by a Cholesky factor.

    Args:
        kernel: see `covariance`.
        of: the hyperparameters of each task.
        noise: standard deviation.
        task: a batch of tasks with x and y (tasks, examples, 1).
    """
    support, query = task.support, task.query
    x, y, asked = (value.squeeze(-1).to(torch.float64) for value in (support.x, support.y, query.x))
    counts = torch.ones_like(x) if support.mask is None else support.mask.to(torch.float64)
    seen = observe(covariance(kernel, of, x, x), noise**2, y[..., None], counts, jitters=(0.0,)).solved()
    prior = of.scale.square()[:, None].expand_as(asked)
    mean, variance = seen.at(covariance(kernel, of, asked, x), prior)
    return Posterior(mean.squeeze(-1), variance + noise**2)


def exact_log_likelihood(
    tasks: GaussianProcessTasks, keys: Int64[Tensor, " tasks"], batch: Task | None = None
) -> Float64[Tensor, " tasks"]:
    """The mean log density of each task's queries under its own process, in nats a query.

    Args:
        tasks: one split of the problem.
        keys: of the tasks.
        batch: the tasks of these keys, where they are at hand.
    """
    batch = tasks.from_keys(keys) if batch is None else batch
    found = posterior(tasks.kernel, tasks.hyperparameters(keys), tasks.noise, batch)
    densities = found.log_density(batch.query.y.squeeze(-1).to(torch.float64))
    mask = batch.query.mask
    return densities.mean(-1) if mask is None else torch.vmap(masked_mean)(densities, mask)


def exact_on_split(tasks: GaussianProcessTasks, num_tasks: int, seed: int = 0) -> Float64[Tensor, " tasks"]:
    """`exact_log_likelihood` of the tasks that `il.evaluate` judges with this seed, in its order."""
    return exact_log_likelihood(tasks, random_keys.task_keys(seed, tasks.split, 0, 0, num_tasks))
