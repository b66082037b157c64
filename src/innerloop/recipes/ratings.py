"""MovieLens: each user a task; what ten ratings of an unseen user say of the films that they have not rated, by method.

ml-latest-small: 100,836 ratings from half a star to five by 610 users of 9,724 films (Harper and Konstan 2015, ACM Transactions
on Interactive Intelligent Systems 5(4); for research, see its README). 368 users to train on, 92 to validate, 150 to test. Ten
ratings of a user are shown, all others are asked. Whatever is known of a film comes from the training users alone: a user's own
ratings among a film's would give the answer away. Ours begins near the baseline, with a film's shrunk mean in its vector.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop import keys, models
from innerloop.core import Task
from innerloop.data.locations import data_folder
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.r2d2 import r2d2
from innerloop.tasks.tables.few_shot import TableTasks
from innerloop.tasks.tables.own import table_family
from innerloop.training.fit import fit

_FILE = "movielens/ml-latest-small.zip"
_USERS, _TEST_USERS = 610, 150
_SHOWN, _ALL = 10, 3000  # nobody has rated so many
_DRAWS = 10  # of the shown ratings of each user, whose mean error is one number
_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_STEPS, _FIRST = 400, 4.0  # and the strength of film means that training begins with
_OURS = "r2d2 on items with a learned prior"
_ITEM_BIAS = "item bias + shrunk user mean"


def run_10_ratings() -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return run()


def run(steps: int = _STEPS, seed: int = 0) -> list[dict[str, Any]]:
    """Mean absolute errors in stars over the test users, beside what needs no learner, and the lead user by user."""
    family = table_family(
        _path(),
        only=["*ratings"],
        target="rating",
        task_column="userId",
        item_column="movieId",
        ignore=["timestamp"],
        support_size=_SHOWN,
        train_queries=100,
        test_share=_TEST_USERS / _USERS,
    )
    train, valid, test = family.train, family.valid, family.test
    assert isinstance(train, TableTasks) and isinstance(valid, TableTasks) and isinstance(test, TableTasks)
    known = ratings_of(train)
    torch.manual_seed(seed)
    net = models.items_mlp(1, None, items=train.record.items, hidden=())
    with torch.no_grad():
        net.vectors *= 0.1
        net.vectors[:, 0] = torch.as_tensor(film_means(known, _FIRST) / train.record.target_std[0])
    learner = r2d2(net, ridge=0.3, prior=1, loss="torch.l1_loss")
    with torch.no_grad():
        learner.rule_by_name()["prior"][0] = 1.0
    done = fit(
        learner,
        family,
        steps=steps,
        seed=seed,
        num_tasks=32,
        outer_optimizer="adam",
        outer_optimizer_options={"weight_decay": 1e-4},
        outer_lr=1e-3,
        schedule="cosine",
        validate_every=max(1, steps // 8),
        valid_tasks=200,
        valid_metric="mae",
        strategy="vmapped",
        quiet=True,
    )
    strengths = min(
        ((of_item, of_user) for of_item in _STRENGTHS for of_user in _STRENGTHS),
        key=lambda pair: float(np.mean(bias_errors(known, valid, *pair))),
    )
    told = "item bias over {:g} + its ratings, user mean over {:g} + theirs, both chosen on the validation users"
    found = {
        _OURS: errors(learner, test),
        f"{_ITEM_BIAS} ({told.format(*strengths)})": bias_errors(known, test, *strengths),
        "the mean of the shown ratings": mean_errors(test),
        "the mean of all training ratings": global_errors(known, test),
    }
    rows = []
    first = found[_OURS]
    for name, values in [*found.items(), *((f"{_OURS} less {name}", first - v) for name, v in list(found.items())[1:])]:
        mean, ci95 = mean_ci95(values.tolist())
        rows.append(
            {
                "metric": f"mae in stars, {_SHOWN} ratings of a new user: {name}",
                "value": round(mean, 4),
                "ci95": round(ci95, 4),
                "num_tasks": len(values),
                "transductive": False,
                "steps": done.steps if name.startswith(_OURS) else 0,
            }
        )
    return rows


class Ratings(NamedTuple):
    """All ratings of the training users, in row order: numbers of films (0: unknown), stars; and how many films there are."""

    films: np.ndarray
    stars: np.ndarray
    size: int


def _path() -> Any:
    path = data_folder() / _FILE
    if not path.is_file():
        raise InputError(
            f"expected MovieLens' ratings at {path}, got nothing; put GroupLens' ml-latest-small.zip there"
        )
    return path


def _stars(y: torch.Tensor, tasks: TableTasks) -> np.ndarray:
    return y[..., 0].double().numpy() * tasks.record.target_std[0] + tasks.record.target_mean[0]


def ratings_of(tasks: TableTasks) -> Ratings:
    """Each training user's ratings once, all of them."""
    batch = tasks.resized(0, _SHOWN, _ALL).each(
        keys.task_keys(0, "train", 0, 0, tasks.size or 0), torch.arange(tasks.size or 0)
    )
    films, stars = [], []
    for side in (batch.support, batch.query):
        there = np.ones(side.y.shape[:2], dtype=bool) if side.mask is None else side.mask.numpy()
        films.append(side.x[..., 0].long().numpy()[there])
        stars.append(_stars(side.y, tasks)[there])
    return Ratings(np.concatenate(films), np.concatenate(stars), tasks.record.items[0])


def drawn(tasks: TableTasks) -> list[Task]:
    """The users of a side, each with other ratings shown, again and again; the same whoever asks."""
    count = tasks.size or 0
    each = keys.task_keys(0, tasks.split, 0, 0, count * _DRAWS).reshape(_DRAWS, count)
    return [tasks.each(own, torch.arange(count)) for own in each]


def _error(predicted: np.ndarray, batch: Task, tasks: TableTasks) -> np.ndarray:
    """Each user's mean absolute error in stars; predictions are cut to the scale of stars."""
    there = np.ones(batch.query.y.shape[:2]) if batch.query.mask is None else batch.query.mask.numpy()
    off = np.abs(predicted.clip(0.5, 5) - _stars(batch.query.y, tasks))
    return (off * there).sum(1) / there.sum(1)


def errors(learner: MetaLearner, tasks: TableTasks) -> np.ndarray:
    """The learner's errors, one a user."""
    return np.mean([_error(_stars(learner.predict_queries(batch), tasks), batch, tasks) for batch in drawn(tasks)], 0)


def film_means(known: Ratings, strength: float) -> np.ndarray:
    """Each film's sum of differences from the mean rating over their number and a strength."""
    sums = np.bincount(known.films, known.stars - known.stars.mean(), known.size)
    return sums / (np.bincount(known.films, minlength=known.size) + strength)


def bias_errors(known: Ratings, tasks: TableTasks, of_item: float, of_user: float) -> np.ndarray:
    """Errors of the mean rating + the film's shrunk difference from it + the user's shrunk difference from both.

    Each is a sum of differences over their number and a strength.
    """
    level, film = known.stars.mean(), film_means(known, of_item)
    found = []
    for batch in drawn(tasks):
        shown, asked = (level + film[side.x[..., 0].long().numpy()] for side in (batch.support, batch.query))
        user = (_stars(batch.support.y, tasks) - shown).sum(1, keepdims=True) / (_SHOWN + of_user)
        found.append(_error(asked + user, batch, tasks))
    return np.mean(found, 0)


def mean_errors(tasks: TableTasks) -> np.ndarray:
    """Errors of the mean of the shown ratings."""
    found = []
    for batch in drawn(tasks):
        level = _stars(batch.support.y, tasks).mean(1, keepdims=True)
        found.append(_error(np.broadcast_to(level, batch.query.y.shape[:2]), batch, tasks))
    return np.mean(found, 0)


def global_errors(known: Ratings, tasks: TableTasks) -> np.ndarray:
    """Errors of one number for all."""
    level = np.array(known.stars.mean())
    return np.mean([_error(np.broadcast_to(level, batch.query.y.shape[:2]), batch, tasks) for batch in drawn(tasks)], 0)
