"""Least squares without a bias: a task's loss is a parabola in the parameters; answers have closed forms."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.errors import InputError
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import of_split

_OPTIMUM, _SUPPORT, _QUERY, _SUPPORT_NOISE, _QUERY_NOISE, _NOISE = range(1, 7)


class QuadraticTasks(TaskDistribution):
    """Tasks y = x . c, each with its c: x (tasks, examples, dim), y (tasks, examples, 1)."""

    on_device = True
    objective = "mse"
    metrics = ("mse",)
    output_size = 1
    name = "quadratics"

    def __init__(
        self,
        *,
        split: str,
        dim: int,
        shots: int,
        queries: int,
        center: float,
        spread: float,
        noise: float,
        dtype: torch.dtype | None = None,
    ) -> None:
        for what, value in (("dim", dim), ("shots", shots), ("queries", queries)):
            if value < 1:
                raise InputError(f"quadratics ({split}): {what} expected at least 1, got {value}; raise {what}")
        self.split, self.dim, self.shots, self.queries = split, dim, shots, queries
        self.center, self.spread, self.noise, self.dtype = center, spread, noise, dtype
        self.input_shape = (dim,)

    def optima(self, keys: Int64[Tensor, " tasks"]) -> Float[Tensor, "tasks dim"]:
        """The parameters that each task's examples were made with."""
        return self.center + self.spread * random_keys.normal(keys, (self.dim,), _OPTIMUM, self.dtype)

    def _examples(self, keys: Tensor, count: int, salt: int, noise_salt: int) -> Examples:
        # Variance 1/2: the Hessian of the mean squared error, 2 X'X / n, is then the identity on average.
        x = random_keys.normal(keys, (count, self.dim), salt, self.dtype) * 0.5**0.5
        y = x @ self.optima(keys)[..., None]
        if self.noise > 0:
            y = y + self.noise * random_keys.normal(keys, (count, 1), noise_salt, self.dtype)
        return Examples(x=x, y=y)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys: x (tasks, examples, dim), y (tasks, examples, 1)."""
        return Task(
            support=self._examples(keys, self.shots, _SUPPORT, _SUPPORT_NOISE),
            query=self._examples(keys, self.queries, _QUERY, _QUERY_NOISE),
            objective=self.objective,
            noise=random_keys.fold(keys, _NOISE),
        )

    def default_model(self) -> nn.Module:
        """One linear layer without a bias: its weight (1, dim) is the whole of the parameters."""
        from innerloop import models

        return models.mlp(self.dim, 1, hidden=(), bias=False)


def quadratics(
    *,
    dim: int = 3,
    shots: int = 8,
    queries: int = 8,
    train_shots: int | None = None,
    train_queries: int | None = None,
    center: float = 1.0,
    spread: float = 1.0,
    noise: float = 0.0,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Least-squares tasks; `quadratic_answers` gives their meta-gradients in closed form.

    Args:
        dim: number of parameters.
        shots, queries: rows of the support and of the query set.
        train_shots, train_queries: those of training tasks, where they differ.
        center, spread: mean and standard deviation of each coordinate of a task's optimum.
        noise: standard deviation of what is added to every y.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: a dim, shots or queries below 1.
    """
    given = {"dim": dim, "center": center, "spread": spread, "noise": noise}

    def distribution(split: str) -> QuadraticTasks:
        return QuadraticTasks(
            split=split,
            dim=dim,
            shots=of_split(split, shots, train_shots),
            queries=of_split(split, queries, train_queries),
            center=center,
            spread=spread,
            noise=noise,
            dtype=dtype_named(dtype),
        )

    options = {
        "shots": shots,
        "queries": queries,
        "train_shots": train_shots,
        "train_queries": train_queries,
        "dtype": dtype,
        **given,
    }
    return TaskFamily.by_split("quadratics", distribution, options)
