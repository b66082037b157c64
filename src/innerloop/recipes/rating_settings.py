"""MovieLens, harder: films that nobody has rated, a user's first ten ratings and all later ones, and one rating after another.

Users, films, measures and baselines are those of `ratings`; so is what may be known of a film.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from innerloop import keys
from innerloop.core import Examples, Task
from innerloop.data.tables import Table, read_table
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.methods.r2d2 import r2d2
from innerloop.recipes import rating_baselines as simple
from innerloop.recipes import ratings as plain
from innerloop.recipes.ratings import SHOWN, STEPS, Predictor
from innerloop.tasks.tables.few_shot import TableTasks

_NEW = 0.2  # of the films
_LONG, _MOST = 100, 300  # ratings of a user whose stream is followed, and of it
_WINDOWS = (20, 50, 100, 200, None)  # last ratings that are kept; None: all
_FROZEN = 0  # the first ten for good
_OF_LATER = ("r2d2", "cnp")
_AT_ONCE = 64


# ---- films that nobody has rated -----------------------------------------------------------------------------------
def run_new_films() -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return new_films()


def _hash(film: str) -> int:
    return int.from_bytes(hashlib.blake2b(film.encode(), digest_size=8).digest(), "big")


def _is_new(film: str) -> bool:
    """One film in five, by a hash of its number."""
    return _hash(film) < _NEW * 2**64


def new_films(steps: int = STEPS, seed: int = 0) -> list[dict[str, Any]]:
    """Training sees no rating of one film in five; then known and new users, who have rated ten others, are asked about them."""
    found: dict[str, dict[str, plain.Judged]] = {}
    with plain.files() as folder:
        with (folder / "ratings.csv").open(newline="") as every, (folder / "old.csv").open("w", newline="") as old:
            rows = list(csv.reader(every))
            csv.writer(old).writerows([rows[0], *(row for row in rows[1:] if not _is_new(row[1]))])
        family = plain.family_of(folder, "old.csv")
        whole = read_table(folder / "ratings.csv")
        learners = plain.trained(family, tuple(plain.LEARNERS), steps, seed)
        known = simple.Known.of(family.train)
        ours = {name: plain.predictor(learner) for name, learner in learners.items()}

        def all_judged(valid: list[Task], asked: list[Task], tasks: Any) -> dict[str, plain.Judged]:
            """Beside the baselines that are best on such questions to the validation users."""
            beside = simple.chosen(known, lambda p: plain.mae(p, valid, family.valid))
            return {name: plain.judged(predict, asked, tasks) for name, predict in {**ours, **beside}.items()}

        new = about_new(whole, family.valid)
        for setting, tasks in (("a known user, new films", family.train), ("a new user, new films", family.test)):
            found[setting] = all_judged(new, about_new(whole, tasks), tasks)
        valid, test = plain.drawn(family.valid), plain.drawn(family.test)
        found["a new user, known films"] = all_judged(valid, test, family.test)
    made = []
    for setting, values in found.items():
        made += plain.rows(values, f"{SHOWN} ratings of {setting}", dict.fromkeys(learners, steps))
    return made


def about_new(whole: Table, tasks: Any) -> list[Task]:
    """The users of a side with ten ratings shown of films that are known, asked for all their ratings of new ones.

    These come in an order that says nothing, in which equal predictions are ranked.
    """
    made = []
    users = whole.texts["userId"].astype(str)
    new = np.array([_is_new(film) for film in whole.texts["movieId"]])
    order = np.argsort([_hash(film) for film in whole.texts["movieId"]], kind="stable")
    own = [order[(users[order] == name) & new[order]] for name in tasks.task_names]
    asked = [i for i, rows in enumerate(own) if len(rows)]
    most = max(len(own[i]) for i in asked)
    x, y = np.zeros((len(asked), most, tasks.record.width)), np.zeros((len(asked), most, 1))
    for i, user in enumerate(asked):
        rows = whole.take(own[user])
        x[i, : rows.rows], y[i, : rows.rows] = tasks.record.encode(rows), tasks.record.values(rows)
    there = np.arange(most) < np.array([len(own[i]) for i in asked])[:, None]
    query = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), torch.tensor(there))
    for batch in plain.drawn(tasks):
        at = torch.tensor(asked)
        side = batch.support
        mask = torch.ones(side.y.shape[:2], dtype=torch.bool) if side.mask is None else side.mask
        shown = Examples(side.x[at], side.y[at], mask[at])
        made.append(
            dataclasses.replace(
                batch, support=shown, query=query, noise=None if batch.noise is None else batch.noise[at]
            )
        )
    return made


# ---- one after another ---------------------------------------------------------------------------------------------
def run_later() -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return later()


def later(steps: int = STEPS, seed: int = 0) -> list[dict[str, Any]]:
    """A user's first ten ratings are shown, all later ones asked for; training users likewise."""
    with plain.files() as folder:
        family = plain.family_of(folder, order_by="timestamp")
        learners = plain.trained(family, _OF_LATER, steps, seed)
        valid, test = plain.drawn(family.valid), plain.drawn(family.test)
        predictors = {name: plain.predictor(learner) for name, learner in learners.items()}
        predictors |= simple.chosen(simple.Known.of(family.train), lambda p: plain.mae(p, valid, family.valid))
        found = {name: plain.judged(predict, test, family.test) for name, predict in predictors.items()}
    return plain.rows(
        found, f"the first {SHOWN} ratings of a new user, then later ones", dict.fromkeys(learners, steps)
    )


def run_streaming() -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return streaming()


STREAMED: Mapping[str, Callable[[TableTasks], Any]] = {
    "r2d2": lambda tasks: r2d2(plain.net(tasks, None, (64,)), ridge=3.0, prior=1, penalty="total", loss="torch.l1_loss")
}


def streaming(steps: int = STEPS, seed: int = 0) -> list[dict[str, Any]]:
    """Each later rating is predicted, then learned: from all ratings so far, from the last ones, or from the first ten for good.

    What `Fitted.learn` would give: adapting to all that it keeps. How many that are is chosen on the validation users.
    """
    with plain.files() as folder:
        family = plain.family_of(folder, order_by="timestamp")
        learners = plain.trained(family, tuple(STREAMED), steps, seed, STREAMED)
        first = plain.drawn(family.valid)
        predictors = {name: plain.predictor(learner) for name, learner in learners.items()}
        predictors |= simple.chosen(simple.Known.of(family.train), lambda p: plain.mae(p, first, family.valid))
        valid, test = streams(family.valid), streams(family.test)
        found: dict[str, np.ndarray] = {}
        taken: dict[str, int] = {}
        base = next(name for name in predictors if name.startswith(simple.BIAS))
        for name, predict in predictors.items():
            if name not in (*learners, base):
                continue
            best = min(_WINDOWS[:-1], key=lambda last: errors(predict, valid, family.valid, last).mean())
            for last, told in ((best, f"the last {best}"), (None, "all so far"), (_FROZEN, "the first 10 for good")):
                found[f"{name}, {told}"] = errors(predict, test, family.test, last)
                taken[f"{name}, {told}"] = steps if name in learners else 0
    against = next(name for name in found if name.startswith(base) and name.endswith("all so far"))
    made = []
    setting = f"mae in stars, test then learn, ratings {SHOWN + 1} to {_MOST} of users with {_LONG}"
    for name, values in found.items():
        made.append(plain.row(f"{setting}: {name}", *mean_ci95(values.tolist()), len(values), taken[name]))
    for name, values in found.items():
        if name != against:
            lead = plain.verdict(values - found[against], higher=False)
            text = f"{setting}: {name} less {simple.BIAS}, all so far ({lead.text})"
            made.append(plain.row(text, lead.mean, lead.ci95, len(values), taken[name]))
    return made


def streams(tasks: Any) -> list[Examples]:
    """The first ratings of each user who has many, in the order of their times."""
    batch = tasks.resized(0, 1, _MOST - 1).each(
        keys.task_keys(0, tasks.split, 0, 0, tasks.size), torch.arange(tasks.size)
    )
    mask = batch.query.mask
    count = torch.full((tasks.size,), _MOST) if mask is None else 1 + mask.sum(1)
    every = [torch.cat([getattr(batch.support, name), getattr(batch.query, name)], 1) for name in ("x", "y")]
    return [Examples(*(side[i, :n] for side in every)) for i, n in enumerate(count.tolist()) if n >= _LONG]


def errors(predict: Predictor, users: Sequence[Examples], tasks: Any, last: int | None) -> np.ndarray:
    """Each user's mean absolute error in stars over the ratings after the first ten, each predicted from those before it.

    Args:
        predict: of a batch of tasks.
        users: their ratings in order.
        tasks: whose record says the scale.
        last: how many of the ratings before are shown; None: all; `_FROZEN`: the first ten for good.
    """
    record = tasks.record
    low, high = record.scale
    found = []
    for own in users:
        asked = torch.arange(SHOWN, len(own.y))
        width = SHOWN if last == _FROZEN else min(last or len(own.y), len(own.y))
        at = torch.arange(width) if last == _FROZEN else asked[:, None] - width + torch.arange(width)
        at = at.expand(len(asked), width)
        said = []
        for i in range(0, len(asked), _AT_ONCE):
            rows, query = at[i : i + _AT_ONCE], asked[i : i + _AT_ONCE, None]
            shown = Examples(own.x[rows.clamp(min=0)], own.y[rows.clamp(min=0)], rows >= 0)
            side = Examples(own.x[query], own.y[query], torch.ones(query.shape, dtype=torch.bool))
            said.append(
                predict(Task(shown, side, tasks.objective, noise=torch.zeros(len(query), dtype=torch.int64)))[:, 0]
            )
        stars, truth = (
            value * record.target_std[0] + record.target_mean[0]
            for value in (np.concatenate(said), own.y[SHOWN:, 0].double().numpy())
        )
        found.append(np.abs(stars.clip(low, high) - truth).mean())
    return np.array(found)
