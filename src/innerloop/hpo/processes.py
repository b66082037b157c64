"""Each past task as a Gaussian process of its own, and what a new task is believed to look like before it is seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.data.search_tables import copula_scores
from innerloop.functional.gaussian_process import matern52, observe, square_distances
from innerloop.hpo.past import FEWEST, PastTask
from innerloop.hpo.space import Space

MOST_ROWS = 800  # of a past task, in its process
_FITTED = 120  # of them, in the likelihood by which lengths and noise are chosen
_STEPS, _RATE = 30, 0.2
LENGTH, _NOISE = 0.7, 0.2  # what lengths and noise begin at and are pulled to
_PULL = 0.3
_LEAST_NOISE = 1e-3
_OUTSIDE = 0.5  # ranges beyond an end that still tell something
_AT_ONCE = 2_000_000  # covariances of new rows with all observed ones that are computed together


class Processes(NamedTuple):
    """The scores of all past tasks as functions of a row of numbers (see `Space.rows`); low is good.

    Attributes:
        x: what was tried, padded with zeros.
        weights: of the posterior mean; zeros for padding.
        mean: of each task's scores.
        scale: the variance of each process.
        length: of each task and column; infinite for a parameter that the task never had.
    """

    x: Float[Tensor, "tasks rows columns"]
    weights: Float[Tensor, "tasks rows"]
    mean: Float[Tensor, " tasks"]
    scale: Float[Tensor, " tasks"]
    length: Float[Tensor, "tasks columns"]

    def at(self, rows: Float[Tensor, "new columns"]) -> Float[Tensor, "new tasks"]:
        """What each past task would have scored there."""
        found = []
        size = max(1, _AT_ONCE // max(1, self.x.shape[0] * self.x.shape[1]))
        for part in rows.split(size):
            new = part.expand(len(self.x), -1, -1)
            across = matern52(square_distances(new, self.x, self.length[:, None, :], by_differences=0))
            found.append((self.mean[:, None] + self.scale[:, None] * (across @ self.weights[..., None])[..., 0]).T)
        return torch.cat(found)

    @property
    def typical(self) -> Float[Tensor, " columns"]:
        """The geometric mean of the tasks' lengths, which a new task's process begins with; the default for a new parameter."""
        known = torch.isfinite(self.length)
        logs = torch.where(known, self.length, 1.0).log().sum(0) / known.sum(0).clamp(min=1)
        return torch.where(known.any(0), logs.exp(), LENGTH)

    def only(self, which: Sequence[int]) -> Processes:
        """Those of some tasks."""
        return Processes(*(part[list(which)] for part in self))


def fit_processes(tasks: Sequence[PastTask], space: Space, seed: int = 0) -> Processes:
    """A Matern 5/2 process for each task, with a length for each column, on the copula's scores of its metric.

    Lengths, variance and noise are the likeliest, pulled a little to usual ones, and lengths to those of the other tasks.
    """
    generator = np.random.default_rng(seed)
    kept = [_drawn(one, generator) for one in tasks]
    most = max(len(rows) for rows in kept)
    columns = len(space.owners)
    x = torch.zeros(len(tasks), most, columns, dtype=torch.float64)
    z, counts = torch.zeros(len(tasks), most, dtype=torch.float64), torch.zeros(len(tasks), most, dtype=torch.float64)
    known = torch.zeros(len(tasks), columns, dtype=torch.bool)
    for i, (one, rows) in enumerate(zip(tasks, kept, strict=True)):
        x[i, : len(rows)] = torch.as_tensor(space.rows([one.configs[r] for r in rows]))
        z[i, : len(rows)] = torch.as_tensor(copula_scores(one.values)[rows])
        counts[i, : len(rows)] = 1.0
        had = {name for config in one.configs for name in config}
        known[i] = torch.tensor([owner in had for owner in space.owners])
    mean = (z * counts).sum(1) / counts.sum(1)
    y = (z - mean[:, None]) * counts
    length, scale, noise = _likeliest(x[:, :_FITTED], y[:, :_FITTED], counts[:, :_FITTED], known)
    weights = torch.zeros_like(z)
    for i in range(len(tasks)):  # one by one: a large table's covariance is large
        n = int(counts[i].sum())
        own = matern52(square_distances(x[i, :n], x[i, :n], length[i], by_differences=0))
        solved = observe(scale[i] * own, noise[i], y[i, :n, None], jitters=(0.0,)).solved()
        weights[i, :n] = solved.solution[:, 0]
    return Processes(x, weights, mean, scale, length)


def inside(tasks: Sequence[PastTask], space: Space) -> list[PastTask]:
    """The past tasks that have parameters of a space, without what they tried far outside of its ranges.

    A task of which too little is left has all of it.
    """
    found = []
    for one in tasks:
        shared = [n for n, own in space.parameters.items() if own.kind != "categorical"]
        if not any(n in space.parameters for config in one.configs for n in config):
            continue
        near = [
            i
            for i, config in enumerate(one.configs)
            if all(_near(space.parameters[n].unit(config[n])) for n in shared if n in config)
        ]
        if FEWEST <= len(near) < len(one.configs) and len(np.unique(one.values[near])) > 1:
            one = dataclasses.replace(one, configs=[one.configs[i] for i in near], values=one.values[near])
        found.append(one)
    return found


def _near(unit: float | None) -> bool:
    return unit is not None and -_OUTSIDE <= unit <= 1 + _OUTSIDE


def _drawn(task: PastTask, generator: np.random.Generator) -> np.ndarray:
    """Rows of a task in random order, at most so many, the best of all among them."""
    rows = generator.permutation(len(task.values))[:MOST_ROWS]
    best = int(np.argmin(task.values))
    if best not in rows:
        rows[0] = best
    return rows


def _likeliest(x: Tensor, y: Tensor, counts: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(lengths, variances, noise variances), of all tasks together by Adam."""
    tasks, _, columns = x.shape
    shared = torch.zeros(columns, dtype=torch.float64, requires_grad=True)
    own = torch.zeros(tasks, columns, dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros(tasks, dtype=torch.float64, requires_grad=True)
    log_noise = torch.zeros(tasks, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([shared, own, log_scale, log_noise], lr=_RATE)

    def hyperparameters() -> tuple[Tensor, Tensor, Tensor]:
        length = LENGTH * (shared + own).exp()
        return torch.where(known, length, torch.inf), log_scale.exp(), _LEAST_NOISE + _NOISE * log_noise.exp()

    with torch.enable_grad():
        for _ in range(_STEPS):
            length, scale, noise = hyperparameters()
            covariance = scale[:, None, None] * matern52(square_distances(x, x, length[:, None, :], by_differences=0))
            seen = observe(covariance, noise[:, None], y[..., None], counts, jitters=(0.0,))
            pull = (
                2 * own.square().sum() + shared.square().sum() + 0.5 * (log_scale.square() + log_noise.square()).sum()
            )
            loss = _PULL * pull - seen.log_likelihood().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return hyperparameters()
