"""Hyperparameter search on tables of what was tried before: each data set searched with all others as the past.

Regret after n trials: (best so far - best of the table) / (median of the table - best of the table), averaged over data sets,
with intervals over data sets. A search tries rows of the data set's table; the ways to search that suggest anything else get the
nearest row that they have not tried, and are told that row. How the past is used is chosen on the past alone
(`innerloop.hpo.fitting.left_out`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from innerloop.data.search_tables import SearchTable, search_table
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.waiting import waiting

MARKS = (1, 2, 5, 10, 25, 50)  # trials
_COMPARED = MARKS[2:]  # where leads are taken
_SEEDS = 2  # searches of a data set; their mean counts
_RANDOM = 200  # of random search, which costs nothing
_OURS = "what the past chose"


def run_xgboost() -> list[dict[str, Any]]:
    """Rows of the recipe for XGBoost."""
    return rows_of(curves(search_table("xgboost")))


def run_deepar() -> list[dict[str, Any]]:
    """Rows of the recipe for DeepAR."""
    return rows_of(curves(search_table("deepar")))


class Curves(dict[str, dict[str, np.ndarray]]):
    """Regret after each trial, by the way to search and by data set.

    Attributes:
        chosen: how the past was used for each data set.
        seconds: processor time of each fit of the past.
    """

    chosen: dict[str, list[str]]
    seconds: list[float]


def curves(
    table: SearchTable,
    *,
    trials: int = MARKS[-1],
    seeds: int = _SEEDS,
    optuna: bool = True,
) -> Curves:
    """All searches of all data sets.

    Args:
        table: what was tried.
        trials: of each search.
        seeds: searches of each data set, whose mean counts.
        optuna: with optuna's own samplers, which need scipy for the GP.
    """
    from innerloop.hpo.fitting import left_out, regret_of
    from innerloop.hpo.past import from_table, joint_space
    from innerloop.hpo.processes import fit_processes
    from innerloop.hpo.search import KINDS, on_table

    columns = dict(zip(table.parameters, table.x.T, strict=True))
    tasks = from_table(
        {**columns, "metric": table.y, "data set": table.data_sets},
        task="data set",
        metric="metric",
        direction="minimize",
    )
    found = Curves()
    found.chosen, found.seconds = {}, []
    by_name: dict[str, dict[str, list[np.ndarray]]] = {}
    for at, task in enumerate(tasks):
        others = [one for one in tasks if one is not task]
        values = task.values
        for seed in range(seeds):
            with waiting(f"searching {task.name} with the others as the past, search {seed + 1} of {seeds}"):
                started = time.process_time()
                space = joint_space(others)
                past = fit_processes(others, space, seed)
                kind = left_out(others, space, past, seed).best
                found.seconds.append(time.process_time() - started)
                found.chosen.setdefault(task.name, []).append(kind)
                rows = torch.as_tensor(space.rows(task.configs))
                known = past.at(rows)
                tried = {
                    name: on_table(name, past, rows, values, trials, _generator(seed, at), known) for name in KINDS
                }
                tried[_OURS] = tried[kind]
                if optuna:
                    tried |= {name: with_optuna(name, task, rows.numpy(), trials, seed) for name in ("TPE", "GP")}
            for name, places in tried.items():
                by_name.setdefault(_label(name), {}).setdefault(task.name, []).append(regret_of(values, places))
        drawn = [regret_of(values, _generator(s, at).permutation(len(values))[:trials]) for s in range(_RANDOM)]
        by_name.setdefault("random search", {})[task.name] = drawn
    for name, own in by_name.items():
        found[name] = {task: np.mean(runs, 0) for task, runs in own.items()}
    return found


def _label(name: str) -> str:
    known = {"cold": "cold GP-EI", "TPE": "optuna TPE", "GP": "optuna GP"}
    return known.get(name, name if name == _OURS else f"{name}, always")


def _generator(seed: int, at: int) -> np.random.Generator:
    return np.random.default_rng([seed, at, 7])


def with_optuna(which: str, task: Any, rows: np.ndarray, trials: int, seed: int) -> list[int]:
    """The places in the table that an optuna sampler tries: the nearest rows to its suggestions that it has not tried."""
    import optuna as library

    library.logging.set_verbosity(library.logging.WARNING)
    if which == "GP":
        try:
            import scipy  # noqa: F401
        except ImportError:
            raise InputError(
                "optuna's GP sampler expected scipy, got none installed; install it: pip install 'innerloop[hpo,sklearn]'"
            ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the GP sampler is experimental, and says so each time
        sampler = library.samplers.TPESampler(seed=seed) if which == "TPE" else library.samplers.GPSampler(seed=seed)
        distributions = {name: own.distribution() for name, own in task.parameters.items()}
        names = sorted(task.parameters)
        history: list[Any] = []
        tried: list[int] = []
        free = np.ones(len(rows), dtype=bool)
        for _ in range(trials):
            study = library.create_study(sampler=sampler)
            study.add_trials(history)
            asked = study.ask(distributions).params
            place = np.array([task.parameters[name].unit(asked[name]) for name in names])
            apart = np.square(rows - place).sum(1)
            at = int(np.where(free, apart, np.inf).argmin())
            free[at] = False
            tried.append(at)
            history.append(
                library.trial.create_trial(
                    params=task.configs[at], distributions=distributions, value=float(task.values[at])
                )
            )
    return tried


def rows_of(found: Curves, marks: Sequence[int] = MARKS, compared: Sequence[int] = _COMPARED) -> list[dict[str, Any]]:
    """Mean regret of each way to search, and its lead over the others, data set by data set (above 0: ours is lower)."""
    rows = []
    for mark in marks:
        for name, own in found.items():
            if mark in compared or not name.endswith("always"):
                rows.append(_row(f"regret after {mark} trials: {name}", {t: c[mark - 1] for t, c in own.items()}))
        if mark not in compared:
            continue
        ours = found[_OURS]
        for name, own in found.items():
            if name != _OURS and not name.endswith("always"):
                lead = {t: own[t][mark - 1] - curve[mark - 1] for t, curve in ours.items()}
                rows.append(_row(f"regret after {mark} trials: {name} less {_OURS}", lead))
    of = [kind for kinds in found.chosen.values() for kind in kinds]
    for kind in sorted(set(of)):
        rows.append(_row(f"share of fits that chose {kind}", {str(i): float(own == kind) for i, own in enumerate(of)}))
    rows.append(_row("seconds of processor time to learn from the past", dict(enumerate(found.seconds))))
    return rows


def _row(metric: str, values: Mapping[Any, float]) -> dict[str, Any]:
    mean, ci95 = mean_ci95([float(value) for value in values.values()])
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": round(ci95, 4),
        "num_tasks": len(values),
        "transductive": False,
    }
