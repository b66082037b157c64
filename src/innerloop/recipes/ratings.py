"""MovieLens: each user a task; what ten ratings of an unseen user say of the films that they have not rated, by method.

ml-latest-small: 100,836 ratings from half a star to five by 610 users of 9,724 films (Harper and Konstan 2015, ACM Transactions
on Interactive Intelligent Systems 5(4); for research, see its README). 368 users to train on, 92 to validate, 150 to test. Ten
ratings of a user are shown, all others are asked, and are the candidates of the ranking; which, the user's key says. Whatever is
known of a film comes from other users' ratings: a user's own among a film's would give the answer away.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop import keys, models
from innerloop.core import Task, TaskFamily
from innerloop.data.locations import data_folder
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import mean_ci95, task_metrics
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.cnp import cnp
from innerloop.methods.melu import melu
from innerloop.methods.r2d2 import r2d2
from innerloop.recipes import rating_baselines as simple
from innerloop.recipes.scratch_folder import scratch_folder
from innerloop.tasks.tables.few_shot import TableTasks
from innerloop.tasks.tables.own_ratings import ratings
from innerloop.training.fit import fit

_FILE = "movielens/ml-latest-small.zip"
_USERS, _TEST_USERS = 610, 150
SHOWN = 10
_DRAWS = 10  # of the shown ratings of each user, whose mean is one number
STEPS = 300
METRICS = {"mae": "mae in stars", "rmse": "rmse in stars", "ndcg": "nDCG@10"}

Predictor = Callable[[Task], np.ndarray]  # stars of the queries, (users, queries)
Judged = Mapping[str, np.ndarray]  # metric -> a value of each user


def run_10_ratings() -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return run()


def mae(predict: Predictor, batches: Sequence[Task], tasks: Any) -> float:
    return float(judged(predict, batches, tasks)["mae"].mean())


def run(steps: int = STEPS, seed: int = 0) -> list[dict[str, Any]]:
    """Errors in stars and nDCG over the test users, beside what needs no learner, and the leads user by user."""
    with files() as folder:
        family = family_of(folder)
        learners = trained(family, tuple(LEARNERS), steps, seed)
        valid, test = drawn(family.valid), drawn(family.test)
        known = simple.Known.of(family.train)
        found = {name: judged(predictor(learner), test, family.test) for name, learner in learners.items()}
        found |= {
            name: judged(predict, test, family.test)
            for name, predict in simple.chosen(known, lambda p: mae(p, valid, family.valid)).items()
        }
    return rows(found, f"{SHOWN} ratings of a new user", dict.fromkeys(learners, steps))


# ---- data ------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def files() -> Iterator[Path]:
    """A folder with ratings.csv and movies.csv.

    Raises:
        InputError: GroupLens' zip is not there.
    """
    path = data_folder() / _FILE
    if not path.is_file():
        raise InputError(
            f"expected MovieLens' ratings at {path}, got nothing; put GroupLens' ml-latest-small.zip there"
        )
    with scratch_folder() as folder, zipfile.ZipFile(path) as archive:
        for name in ("ratings.csv", "movies.csv"):
            (folder / name).write_bytes(archive.read(f"ml-latest-small/{name}"))
        yield folder


def family_of(folder: Path, name: str = "ratings.csv", **options: Any) -> TaskFamily:
    """The users of a table of ratings there, split once and for all by a hash of their ids."""
    given = {"task_column": "userId", "item_column": "movieId", "target": "rating", "test_share": _TEST_USERS / _USERS}
    return ratings(folder / name, items=folder / "movies.csv", shots=SHOWN, **{**given, **options})


def drawn(tasks: Any, draws: int = _DRAWS) -> list[Task]:
    """The users of a side, each with other ratings shown, again and again; the same whoever asks."""
    count, draws = tasks.size, 1 if tasks.one_draw else draws
    each = keys.task_keys(0, tasks.split, 0, 0, count * draws).reshape(draws, count)
    return [tasks.each(own, torch.arange(count)) for own in each]


# ---- methods ---------------------------------------------------------------------------------------------------------
def net(tasks: TableTasks, outputs: int | None, hidden: Sequence[int]) -> torch.nn.Module:
    """A vector for each film beside what is known of it, then layers."""
    return models.items_mlp(tasks.record.width, outputs, items=tasks.record.items, width=16, hidden=hidden)


LEARNERS: dict[str, Callable[[TableTasks], MetaLearner]] = {
    "r2d2": lambda tasks: r2d2(net(tasks, None, (64,)), ridge=0.3, prior=1, loss="torch.l1_loss"),
    "cnp": lambda tasks: cnp(
        net(tasks, None, ()), outputs=1, width=64, encoder_layers=2, decoder_layers=3, loss="torch.smooth_l1_loss"
    ),
    "melu": lambda tasks: melu(net(tasks, 1, (64, 64)), inner_lr=0.03, inner_steps=5),
}


def trained(
    family: TaskFamily, names: Sequence[str], steps: int, seed: int, make: Mapping[str, Any] = LEARNERS
) -> dict[str, MetaLearner]:
    """These learners after so many outer steps, each with the weights that were best on the validation users."""
    found = {}
    for name in names:
        torch.manual_seed(seed)
        learner = make[name](family.train)
        fit(
            learner,
            family,
            steps=steps,
            seed=seed,
            num_tasks=32,
            outer_optimizer="adam",
            outer_optimizer_options={"weight_decay": 1e-3},
            outer_lr=3e-3,
            schedule="cosine",
            validate_every=max(1, steps // 8),
            valid_tasks=200,
            strategy="vmapped",
            quiet=True,
        )
        found[name] = learner
    return found


def predictor(learner: MetaLearner) -> Predictor:
    """A learner's predictions as its tasks hold targets."""
    return lambda batch: learner.predict_queries(batch)[..., 0].double().numpy()


# ---- measures --------------------------------------------------------------------------------------------------------
def judged(predict: Predictor, batches: Sequence[Task], tasks: Any) -> Judged:
    """Each user's errors, of predictions that are cut to the scale of stars, and nDCG@10 by the predictions as they are."""
    record = tasks.record
    scale, offset = (torch.tensor(own, dtype=torch.float64) for own in (record.target_std, record.target_mean))
    low, high = ((star - record.target_mean[0]) / record.target_std[0] for star in record.scale)
    each: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for batch in batches:
        found = torch.as_tensor(predict(batch), dtype=torch.float64)[..., None]
        own = task_metrics(["mae", "rmse"], found.clamp(low, high), batch, scale, offset)
        own |= task_metrics(["ndcg"], found, batch, scale, offset)
        for name, values in own.items():
            each[name].append(values.numpy())
    return {name: np.mean(values, 0) for name, values in each.items()}


class Verdict(NamedTuple):
    mean: float
    ci95: float
    text: str


def verdict(lead: np.ndarray, higher: bool) -> Verdict:
    mean, ci95 = mean_ci95(lead.tolist())
    better = mean > 0 if higher else mean < 0
    return Verdict(mean, ci95, "level with it" if abs(mean) <= ci95 else "better" if better else "worse")


def rows(found: Mapping[str, Judged], setting: str, steps: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row for each number, and for each learner its difference from item bias + user mean, user by user.

    Args:
        found: what each method and baseline reaches, by name.
        setting: in words.
        steps: of the learners, by name; what else is there needs no training.
    """
    base = next(name for name in found if name.startswith(simple.BIAS))
    made = []
    for metric, told in METRICS.items():
        for name, values in found.items():
            mean, ci95 = mean_ci95(values[metric].tolist())
            made.append(row(f"{told}, {setting}: {name}", mean, ci95, len(values[metric]), steps.get(name, 0)))
        for name in found:
            if name != base:
                lead = verdict(found[name][metric] - found[base][metric], metric == "ndcg")
                text = f"{told}, {setting}: {name} less {simple.BIAS} ({lead.text})"
                made.append(row(text, lead.mean, lead.ci95, len(found[name][metric]), steps.get(name, 0)))
    return made


def row(metric: str, mean: float, ci95: float, count: int, steps: int) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": round(ci95, 4),
        "num_tasks": count,
        "transductive": False,
        "steps": steps,
    }
