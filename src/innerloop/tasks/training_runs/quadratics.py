"""The quadratics of Andrychowicz et al. 2016 (arXiv:1606.04474) as training runs: every run has a W and a y of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, TaskFamily
from innerloop.errors import expect_whole
from innerloop.tasks.training_runs.jobs import training_jobs

_W, _Y = 51, 52


class Theta(nn.Module):
    """x -> x theta, theta standard normal: (rows, dim) to (rows,)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta: nn.Parameter = nn.Parameter(torch.randn(dim))

    def forward(self, x: Float[Tensor, "rows dim"]) -> Float[Tensor, " rows"]:
        return x @ self.theta


def sum_of_squares(prediction: Float[Tensor, " rows"], y: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """``|prediction - y|^2``, not divided by the rows."""
    return (prediction - y).square().sum()


def quadratic_jobs(*, dim: int = 10, horizon: int | Sequence[int] = 100) -> TaskFamily:
    """Minimise ``|W theta - y|^2`` over theta; W (dim, dim) and y (dim,) of each run, and where theta begins, standard normal.

    The paper's first experiment. ``end`` and ``curve`` are of the run's own function, there being nothing to hold out.

    Args:
        dim: numbers in theta (the paper's 10).
        horizon: steps of a run (the paper's 100); a pair: log-uniform between the two, while held-out runs have the most.

    Raises:
        ConfigError: a dim or horizon that cannot be.

    Differs from the paper in: it does not say from where theta begins; the authors' code begins at deviation 0.01.
    """
    expect_whole("dim", dim)

    def data(keys: Int64[Tensor, " tasks"]) -> Examples:
        return Examples(random_keys.normal(keys, (dim, dim), _W), random_keys.normal(keys, (dim,), _Y))

    made = training_jobs(lambda: Theta(dim), data, batch=None, horizon=horizon, loss=sum_of_squares)
    for split in made[1:4]:
        split.name = "quadratic_jobs"
    options: dict[str, Any] = {"dim": dim, "horizon": horizon if isinstance(horizon, int) else list(horizon)}
    return made._replace(name="quadratic_jobs", options=options)
