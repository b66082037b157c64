"""What needs no meta-learner, on ratings: one number for all, means of items and users, matrix factors with ridge per user.

All of it in the unit that tasks hold targets in, scaled by the training users' mean and deviation. Strengths are swept on
validation users.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop import keys
from innerloop.core import Examples, Task

BIAS = "item bias + shrunk user mean"
_ALL = 3000  # nobody has rated so many
_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_FACTORS, _SWEEPS = 8, 8
_PENALTIES = (2.0, 5.0, 10.0)
_SHARES = (0.5, 1.0, 2.0)  # of the penalty in training: a new user's own

Predictor = Callable[[Task], np.ndarray]


class Known(NamedTuple):
    """All ratings of the training users, in row order: numbers of users and films (0: unknown), scaled stars.

    Attributes:
        size: how many films there are, with the unknown one.
        people: how many users.
    """

    users: np.ndarray
    films: np.ndarray
    stars: np.ndarray
    size: int
    people: int

    @classmethod
    def of(cls, tasks: Any) -> Known:
        """Each training user's ratings once, all of them."""
        count = tasks.size
        batch = tasks.resized(0, 1, _ALL).each(keys.task_keys(0, "train", 0, 0, count), torch.arange(count))
        parts = []
        for side in (batch.support, batch.query):
            films, stars, there = _side(side)
            users = np.broadcast_to(np.arange(count)[:, None], there.shape)
            parts.append((users[there], films[there], stars[there]))
        users, films, stars = (np.concatenate(part) for part in zip(*parts, strict=True))
        return cls(users, films, stars, tasks.record.items[0], count)


def _side(side: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(films, scaled stars, which are there), (users, ratings) each."""
    there = np.ones(side.y.shape[:2], dtype=bool) if side.mask is None else side.mask.numpy()
    return side.x[..., 0].long().numpy(), side.y[..., 0].double().numpy(), there


def everyone(known: Known) -> Predictor:
    """The mean of all training ratings."""
    level = float(known.stars.mean())
    return lambda batch: np.full(batch.query.y.shape[:2], level)


def own_mean(batch: Task) -> np.ndarray:
    """The mean of the shown ratings."""
    _, stars, there = _side(batch.support)
    means = (stars * there).sum(1) / there.sum(1)
    return np.repeat(means[:, None], batch.query.y.shape[1], 1)


def film_means(known: Known, strength: float) -> np.ndarray:
    """Each film's sum of differences from the mean rating over their number and a strength."""
    sums = np.bincount(known.films, known.stars - known.stars.mean(), known.size)
    return sums / (np.bincount(known.films, minlength=known.size) + strength)


def bias(known: Known, of_item: float, of_user: float) -> Predictor:
    """The mean rating + the film's shrunk difference from it + the user's shrunk difference from both.

    Each is a sum of differences over their number and a strength.
    """
    level, film = known.stars.mean(), film_means(known, of_item)

    def predict(batch: Task) -> np.ndarray:
        films, stars, there = _side(batch.support)
        off = ((stars - level - film[films]) * there).sum(1, keepdims=True)
        return level + film[_side(batch.query)[0]] + off / (there.sum(1, keepdims=True) + of_user)

    return predict


class Factors(NamedTuple):
    """Films as vectors, by alternating least squares on what biases leave of the ratings.

    Attributes:
        level: of all ratings.
        films: each film's bias.
        vectors: (films, factors); zeros for the unknown one.
        penalty: of the vectors' squares.
    """

    level: float
    films: np.ndarray
    vectors: np.ndarray
    penalty: float


def factors(known: Known, penalty: float, seed: int = 0) -> Factors:
    """Alternating least squares with squared-norm penalties: biases, then vectors (Koren, Bell and Volinsky 2009)."""
    level = float(known.stars.mean())
    users, films = np.zeros(known.people), np.zeros(known.size)
    for _ in range(_SWEEPS):
        for own, others, mine, theirs in (
            (films, users, known.films, known.users),
            (users, films, known.users, known.films),
        ):
            sums = np.bincount(mine, known.stars - level - others[theirs], len(own))
            own[:] = sums / (np.bincount(mine, minlength=len(own)) + 3.0)
    level += float(users.mean())
    left = known.stars - level - films[known.films] - (users - users.mean())[known.users]
    rng = np.random.default_rng(seed)
    of_users, of_films = (0.1 * rng.normal(size=(n, _FACTORS)) for n in (known.people, known.size))
    by_user, by_film = _rows_of(known.users, known.people), _rows_of(known.films, known.size)
    for _ in range(_SWEEPS):
        for own, groups, others, theirs in (
            (of_users, by_user, of_films, known.films),
            (of_films, by_film, of_users, known.users),
        ):
            for i, rows in enumerate(groups):
                z = others[theirs[rows]]
                own[i] = np.linalg.solve(z.T @ z + penalty * np.eye(_FACTORS), z.T @ left[rows])
    of_films[0] = 0.0
    return Factors(level, films, of_films, penalty)


def _rows_of(numbers: np.ndarray, size: int) -> list[np.ndarray]:
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers, minlength=size))[:-1])


def ridge_on(found: Factors, of_user: float, share: float) -> Predictor:
    """A user's bias and vector by ridge regression of the shown ratings on the films' vectors."""
    penalties = np.diag([of_user, *[share * found.penalty] * _FACTORS])

    def design(films: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((*films.shape, 1)), found.vectors[films]], -1)

    def predict(batch: Task) -> np.ndarray:
        films, stars, there = _side(batch.support)
        z = design(films) * there[..., None]
        left = stars - found.level - found.films[films]
        system = np.einsum("unf,ung->ufg", z, z) + penalties
        weights = np.linalg.solve(system, np.einsum("unf,un->uf", z, left)[..., None])
        asked = _side(batch.query)[0]
        return found.level + found.films[asked] + (design(asked) @ weights)[..., 0]

    return predict


def chosen(known: Known, error: Callable[[Predictor], float]) -> dict[str, Predictor]:
    """The baselines by name, with the strengths that have the least ``error`` on the validation users.

    Args:
        known: the training users' ratings.
        error: of a predictor, on the validation users.
    """
    pairs = list(itertools.product(_STRENGTHS, _STRENGTHS))
    of_item, of_user = min(pairs, key=lambda pair: error(bias(known, *pair)))
    fitted = {penalty: factors(known, penalty) for penalty in _PENALTIES}
    penalty, own, share = min(
        itertools.product(_PENALTIES, (1.0, 2.0, 4.0), _SHARES),
        key=lambda given: error(ridge_on(fitted[given[0]], given[1], given[2])),
    )
    told = f"{BIAS} (over {of_item:g} + its ratings, {of_user:g} + theirs, chosen on the validation users)"
    ridge = f"ALS with {_FACTORS} factors + ridge (penalty {penalty:g}, a new user's {share * penalty:g} and {own:g}, likewise)"
    return {
        told: bias(known, of_item, of_user),
        ridge: ridge_on(fitted[penalty], own, share),
        "the mean of the shown ratings": own_mean,
        "the mean of all training ratings": everyone(known),
    }
