"""Where to look next: a portfolio first, then expected improvement by what explains the trials so far.

What explains them is a mixture of Gaussian processes, with and without the past as their prior, or a meta-learned surrogate.
Each process of the mixture has its own lengths, its noise, how much the past counts. Their weights are their likelihoods, so a
past that predicts badly fades by itself, and the search goes on as one that began cold.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.data.search_tables import copula_scores
from innerloop.functional.gaussian_process import matern52, observe, square_distances
from innerloop.hpo.learned_surrogates import Learned
from innerloop.hpo.processes import LENGTH, Processes

# All but the first begin with a portfolio: the few configurations that together did best on the past tasks.
KINDS: dict[str, str] = {
    "cold": "a Gaussian process without the past",
    "copula": "then the past tasks' mean as a prior, and a Gaussian process on what it leaves (Salinas 2020)",
    "tasks": "then the past tasks' mean and how they differ as a prior, and a Gaussian process on what they leave",
    "portfolio": "then a cold Gaussian process",
}
PORTFOLIO = 5  # configurations that are tried first
_WORTH = 1e-3  # what a configuration has to add to a portfolio: ranks of the past tasks, of 0 to 1

_LENGTHS = (0.4, 1.0, 2.0)  # in units of the typical ones
_NOISES = (1e-3, 0.05)
_SIZES = (0.5, 1.0, 2.0)  # of the past's scores, in units of the scores of the trials so far
_LEVEL = 9.0  # variance of the level of the scores, which nobody knows beforehand
_KEPT = 12  # likeliest processes
_WARM = 1.0  # the logarithm by which each process with a prior is likelier at first
_FIRST = 3  # random trials of a cold search
_LEFT = {"copula": 1.0, "tasks": 0.3}  # the variance of what a new task has that the past does not show


class Seen(NamedTuple):
    """The trials so far.

    Attributes:
        rows: of all that were tried.
        values: lower is better; infinite ones are the worst. Of the first rows; those after them are under way.
    """

    rows: Float[Tensor, "tried columns"]
    values: np.ndarray


class Prior(NamedTuple):
    """What the past says of the trials so far and of the candidates.

    Attributes:
        tried: what each past task would have scored at each of the trials.
        new: likewise at the candidates.
        typical: length of each column.
    """

    tried: Float[Tensor, "tried tasks"]
    new: Float[Tensor, "new tasks"]
    typical: Float[Tensor, " columns"]


def prior_of(past: Processes, tried: Float[Tensor, "tried columns"], new: Float[Tensor, "new columns"]) -> Prior:
    """The prior at these rows."""
    return Prior(past.at(tried), past.at(new), past.typical)


def acquisition(
    kind: str,
    prior: Prior | None,
    seen: Seen,
    candidates: Float[Tensor, "new columns"],
    learned: Callable[[], Learned] | None = None,
) -> Float[Tensor, " new"] | None:
    """How good each candidate is to try next, the higher the better; None where nothing tells them apart yet.

    Args:
        kind: of `KINDS`, or the method of a learned surrogate.
        prior: what the past says; None: nothing.
        seen: the trials so far.
        candidates: to choose from.
        learned: hands out the surrogate that is trained on the past, where the kind is one; asked when it is needed.
    """
    done, tried = len(seen.values), len(seen.rows)
    fewest = 1 if prior is not None and (learned is not None or kind in _LEFT) else _FIRST
    if prior is not None and kind != "cold" and (tried < PORTFOLIO or done == 0):
        added = _portfolio(prior)
        if float(added.max()) > _WORTH:
            return added
        if done < fewest:  # no other is of use to any past task: what is good on average
            return -torch.special.ndtr(prior.new).mean(1)
    if done < fewest:
        return None
    z = torch.as_tensor(copula_scores(seen.values))
    if prior is None or kind == "cold":
        typical = torch.full((candidates.shape[1],), LENGTH, dtype=torch.float64)
    else:
        typical = prior.typical

    def believed(prior: Prior | None, rows: Tensor, z: Tensor, new: Tensor) -> Mixture:
        if learned is None:
            return mixture(prior, kind, typical, rows, z, new)
        mean, variance = learned().believed(rows, z, new)
        return Mixture(torch.ones(1, dtype=torch.float64), mean[None], variance[None], 1.0)

    return _improvement(believed, prior if kind in _LEFT else None, z, seen.rows, candidates)


def _portfolio(prior: Prior) -> Tensor:
    """What each candidate would add to those tried, in ranks of 0 to 1: the best rank so far of each past task, on average.

    Greedy, as of Wistuba, Schilling and Schmidt-Thieme 2015, "Sequential model-free hyperparameter tuning", on the tasks'
    processes, since tasks need not have tried the same configurations. Ranks, not scores: the best hundredth is a hundredth,
    however far out its score, or a process that exaggerates its best places would win the portfolio for its task alone.
    """
    ranks = torch.special.ndtr(prior.new)
    if not len(prior.tried):
        return 1.0 - ranks.mean(1)
    return (torch.special.ndtr(prior.tried).min(0).values - ranks).clamp(min=0).mean(1)


Believed = Callable[[Prior | None, Tensor, Tensor, Tensor], "Mixture"]  # (prior, rows, their scores, new rows)


def _improvement(believed: Believed, prior: Prior | None, z: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    done = len(z)
    if len(rows) > done:  # under way: believed to come out as expected, so that nothing like them looks new
        first = None if prior is None else Prior(prior.tried[:done], prior.tried[done:], prior.typical)
        known = believed(first, rows[:done], z, rows[done:])
        z = torch.cat([z, (known.weights[:, None] * known.mean).sum(0)])
    found = believed(prior, rows, z, candidates)
    gain = expected_improvement(z[:done].min(), found.mean, found.variance.sqrt())
    return (found.weights[:, None] * gain).sum(0)


class Mixture(NamedTuple):
    """Normal distributions of the scores at new rows, by the likeliest processes.

    Attributes:
        weights: of the processes; they sum to 1.
        mean, variance: of each at each row.
        warm: the share of all processes in which the past counts.
    """

    weights: Float[Tensor, " kept"]
    mean: Float[Tensor, "kept new"]
    variance: Float[Tensor, "kept new"]
    warm: float


@dataclasses.dataclass(frozen=True)
class _Way:
    """One way to explain the scores: whether the past counts, how, and the numbers."""

    warm: bool
    length: float
    noise: float
    size: float = 1.0
    differ: bool = False  # whether the new task differs from the past's mean as past tasks do


def mixture(
    prior: Prior | None, kind: str, typical: Tensor, rows: Tensor, z: Float[Tensor, " tried"], new: Tensor
) -> Mixture:
    """The likeliest processes at new rows, after scores ``z`` at ``rows``."""
    numbers = list(itertools.product(_LENGTHS, _NOISES))
    ways = [_Way(False, *own) for own in numbers]
    if prior is not None:
        differing = (False, True) if kind == "tasks" else (False,)
        ways += [_Way(True, *own, *more) for own in numbers for more in itertools.product(_SIZES, differing)]
    share = torch.tensor([_WARM if way.warm else 0.0 for way in ways], dtype=torch.float64)
    noise = torch.tensor([way.noise for way in ways], dtype=torch.float64)[:, None]
    seen = _Between(prior, kind, typical, rows, rows, prior.tried if prior is not None else None)
    offset = torch.stack([seen.mean(way) for way in ways])
    covariance = torch.stack([seen.covariance(way) for way in ways])
    fitted = observe(covariance, noise, (z - offset)[..., None], jitters=(1e-8,))
    weights = torch.softmax(fitted.log_likelihood()[:, 0] + share, 0)
    kept = weights.argsort(descending=True, stable=True)[:_KEPT]
    chosen = [ways[i] for i in kept.tolist()]
    solved = type(fitted)(*(part[kept] for part in fitted)).solved()
    asked = _Between(prior, kind, typical, rows, new, prior.new if prior is not None else None)
    across = torch.stack([asked.covariance(way).T for way in chosen])
    alone = torch.stack([asked.alone(way) for way in chosen])
    mean, variance = solved.at(across, alone)
    mean = mean[..., 0] + torch.stack([asked.mean(way) for way in chosen])
    warm = float(sum(weight for weight, way in zip(weights.tolist(), ways, strict=True) if way.warm))
    return Mixture(weights[kept] / weights[kept].sum(), mean, variance, warm)


class _Between:
    """Prior means at ``new`` and covariances of ``rows`` with them, by the way to explain them."""

    def __init__(
        self, prior: Prior | None, kind: str, typical: Tensor, rows: Tensor, new: Tensor, known: Tensor | None
    ) -> None:
        square = square_distances(rows, new, typical)
        self.shapes = {length: matern52(square / length**2) for length in _LENGTHS}
        self.count, self.known = len(new), known
        if prior is not None and known is not None:
            self.middle, self.left = known.mean(1), _LEFT[kind]
            # The covariance of the past tasks themselves.
            apart = known - self.middle[:, None]
            tried = prior.tried - prior.tried.mean(1, keepdim=True)
            self.together, self.alike = tried @ apart.T / known.shape[1], apart.square().mean(1)

    def mean(self, way: _Way) -> Tensor:
        return way.size * self.middle if way.warm else torch.zeros(self.count, dtype=torch.float64)

    def covariance(self, way: _Way) -> Tensor:
        shape = self.shapes[way.length]
        if not way.warm:
            return shape + 1.0
        return way.size**2 * (self.left * shape + (self.together if way.differ else 0.0)) + _LEVEL

    def alone(self, way: _Way) -> Tensor:
        if not way.warm:
            return torch.full((self.count,), 2.0, dtype=torch.float64)
        return (way.size**2 * (self.left + (self.alike if way.differ else torch.zeros_like(self.alike)))) + _LEVEL


def expected_improvement(best: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """``E[max(best - value, 0)]`` of normal values (Jones, Schonlau and Welch 1998)."""
    u = (best - mean) / deviation
    return deviation * (u * torch.special.ndtr(u) + torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi))


def on_table(
    kind: str,
    past: Processes | None,
    rows: Float[Tensor, "pool columns"],
    values: np.ndarray,
    trials: int,
    generator: np.random.Generator,
    known: Float[Tensor, "pool tasks"] | None = None,
    learned: Callable[[], Learned] | None = None,
) -> list[int]:
    """A search whose trials are rows of a table: the places of those that were tried, in order, each once.

    Args:
        kind: as of `acquisition`.
        past: of the other tasks.
        rows: the table's configurations.
        values: of each; lower is better. What is not yet tried is not looked at.
        trials: how many.
        generator: of what nothing tells apart.
        known: ``past.at(rows)``, where it is at hand.
        learned: hands out the surrogate that is trained on the other tasks, where the kind is one.
    """
    if past is not None and known is None:
        known = past.at(rows)
    tried: list[int] = []
    free = np.ones(len(rows), dtype=bool)
    for _ in range(min(trials, len(rows))):
        new = np.flatnonzero(free)
        prior = None if past is None or known is None else Prior(known[tried], known[new], past.typical)
        value = acquisition(kind, prior, Seen(rows[tried], values[tried]), rows[new], learned)
        chosen = int(generator.choice(new)) if value is None else int(new[int(value.argmax())])
        tried.append(chosen)
        free[chosen] = False
    return tried
