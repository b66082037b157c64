"""Exact answers for `gaussian_process` tasks: the posterior of a Gaussian process whose hyperparameters are known.

No learner that sees the points alone can have a higher expected log-likelihood. All functions are batched over tasks, work in
float64, and leave out what a mask leaves out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Task
from innerloop.losses import masked_mean
from innerloop.tasks.gaussian_curves import GaussianProcessTasks
from innerloop.tasks.kernels import Hyperparameters, covariance


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
        kernel: see `kernels.covariance`.
        of: the hyperparameters of each task.
        noise: standard deviation.
        task: a batch of tasks with x and y (tasks, examples, 1).
    """
    support, query = task.support, task.query
    x, y, asked = (value.squeeze(-1).to(torch.float64) for value in (support.x, support.y, query.x))
    counts = torch.ones_like(x) if support.mask is None else support.mask.to(torch.float64)
    # A point that does not count becomes noise of variance 1 that nothing goes along with.
    given = covariance(kernel, of, x, x) * counts[:, :, None] * counts[:, None, :]
    given = given + torch.diag_embed(counts * noise**2 + (1 - counts))
    across = covariance(kernel, of, x, asked) * counts[:, :, None]
    factor = torch.linalg.cholesky(given)
    both = torch.cat([across, (y * counts)[:, :, None]], -1)
    solved = torch.linalg.solve_triangular(factor, both, upper=False)
    weights, values = solved[..., :-1], solved[..., -1:]
    prior = of.scale.square()[:, None] + noise**2
    return Posterior((weights * values).sum(1), prior - weights.square().sum(1))


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
