"""Least squares without a bias: tasks whose meta-gradients have closed forms, and the closed forms.

With the mean squared error of a linear model without a bias, a side of a task is L(theta) = theta'H theta / 2
- b'theta + constant, H = 2 X'X / n, b = 2 X'y / n. One SGD step is affine, theta -> (I - lr H) theta + lr b,
so k steps are a matrix power. So MAML, first-order MAML, Reptile and implicit MAML have exact answers here: from
`parabola` on, functions are batched over tasks, work in float64 and use no autograd, which is tested against them.
``theta`` has shape (dim,); an answer has shape (tasks, dim), and its mean over tasks is the outer gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.errors import InputError
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.split_sizes import family_of_examples

_OPTIMUM, _SUPPORT, _QUERY, _SUPPORT_NOISE, _QUERY_NOISE, _NOISE = range(1, 7)


class QuadraticTasks(TaskDistribution):
    """Tasks y = x . c, each with its c: x (tasks, examples, dim), y (tasks, examples, 1)."""

    on_device = True
    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    output_size = 1
    name = "quadratics"
    split: str
    dim: int
    shots: int
    queries: int
    center: float
    spread: float
    noise: float
    dtype: torch.dtype | None

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
        self.input_shape: tuple[int, ...] = (dim,)

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
    """Least-squares tasks; this module's other functions give their meta-gradients in closed form.

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
    return family_of_examples(
        "quadratics", QuadraticTasks, given, (shots, queries), (train_shots, train_queries), dtype
    )


class Parabola(NamedTuple):
    """L(theta) = theta'H theta / 2 - b'theta + constant, one a task."""

    hessian: Float64[Tensor, "tasks dim dim"]
    linear: Float64[Tensor, "tasks dim"]
    constant: Float64[Tensor, " tasks"]

    def loss(self, theta: Tensor) -> Tensor:
        """(tasks,) for theta (tasks, dim) or (dim,)."""
        theta = theta.expand_as(self.linear)
        curved = 0.5 * torch.einsum("ti,tij,tj->t", theta, self.hessian, theta)
        return curved - (self.linear * theta).sum(-1) + self.constant

    def gradient(self, theta: Tensor) -> Tensor:
        """(tasks, dim) for theta (tasks, dim) or (dim,)."""
        return torch.einsum("tij,tj->ti", self.hessian, theta.expand_as(self.linear)) - self.linear


def parabola(examples: Examples) -> Parabola:
    """The mean squared error of x (tasks, examples, dim), y (tasks, examples, 1) as a parabola."""
    x, y = examples.x.double(), examples.y.double()
    n = x.shape[1]
    return Parabola(hessian=2 * x.mT @ x / n, linear=(2 * x.mT @ y / n).squeeze(-1), constant=y.square().mean((1, 2)))


def adapted(side: Parabola, theta: Tensor, inner_lr: float, steps: int) -> Float64[Tensor, "tasks dim"]:
    """The parameters after ``steps`` SGD steps from ``theta``."""
    tasks, dim = side.linear.shape
    # The affine step in homogeneous coordinates, so that its k-th iterate is one matrix power.
    step = torch.zeros(tasks, dim + 1, dim + 1, dtype=torch.float64)
    step[:, :dim, :dim] = _contraction(side, inner_lr)
    step[:, :dim, dim] = inner_lr * side.linear
    step[:, dim, dim] = 1
    start = torch.cat([theta.double(), torch.ones(1, dtype=torch.float64)])
    return (torch.linalg.matrix_power(step, steps) @ start)[:, :dim]


def _contraction(side: Parabola, inner_lr: float) -> Tensor:
    return torch.eye(side.hessian.shape[-1], dtype=torch.float64) - inner_lr * side.hessian


def maml_loss(task: Task, theta: Tensor, inner_lr: float, steps: int) -> Float64[Tensor, " tasks"]:
    """The query loss after ``steps`` SGD steps on the support set."""
    return parabola(task.query).loss(adapted(parabola(task.support), theta, inner_lr, steps))


def fomaml_gradient(task: Task, theta: Tensor, inner_lr: float, steps: int) -> Float64[Tensor, "tasks dim"]:
    """The first-order meta-gradient: the query gradient at the adapted parameters."""
    return parabola(task.query).gradient(adapted(parabola(task.support), theta, inner_lr, steps))


def maml_gradient(task: Task, theta: Tensor, inner_lr: float, steps: int) -> Float64[Tensor, "tasks dim"]:
    """The exact meta-gradient of `maml_loss`: (I - lr H)^steps times the first-order one."""
    power = torch.linalg.matrix_power(_contraction(parabola(task.support), inner_lr), steps)
    return torch.einsum("tji,tj->ti", power, fomaml_gradient(task, theta, inner_lr, steps))


def reptile_gradient(side: Examples, theta: Tensor, inner_lr: float, steps: int) -> Float64[Tensor, "tasks dim"]:
    """Reptile's direction, theta minus the adapted parameters (Nichol et al. 2018, arXiv:1803.02999)."""
    return theta.double() - adapted(parabola(side), theta, inner_lr, steps)


def proximal_solution(side: Examples, theta: Tensor, strength: float) -> Float64[Tensor, "tasks dim"]:
    """The minimum of the support loss + strength / 2 |phi - theta|^2 over phi."""
    support = parabola(side)
    eye = torch.eye(support.hessian.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(support.hessian + strength * eye, support.linear + strength * theta.double())


def imaml_gradient(task: Task, theta: Tensor, strength: float) -> Float64[Tensor, "tasks dim"]:
    """The implicit meta-gradient at the proximal solution, (I + H / strength)^-1 times the query gradient.

    Source: Rajeswaran et al. (2019), arXiv:1909.04630, equation 6.
    """
    hessian = parabola(task.support).hessian
    eye = torch.eye(hessian.shape[-1], dtype=torch.float64)
    outer = parabola(task.query).gradient(proximal_solution(task.support, theta, strength))
    return torch.linalg.solve(eye + hessian / strength, outer)
