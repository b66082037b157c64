"""Closed forms for least-squares tasks: what MAML, first-order MAML, Reptile and implicit MAML must compute.

With the mean squared error of a linear model without a bias, a side of a task is L(theta) = theta'H theta / 2
- b'theta + constant, H = 2 X'X / n, b = 2 X'y / n. One SGD step is affine, theta -> (I - lr H) theta + lr b,
so k steps are a matrix power. All functions are batched over tasks, work in float64 and use no autograd: they
are what autograd is tested against. ``theta`` has shape (dim,); an answer has shape (tasks, dim), and its
mean over tasks is the outer gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from innerloop.core import Examples, Task


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
