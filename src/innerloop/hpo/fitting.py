"""From past searches to a search that remembers: which way of remembering does best on past tasks that are left out."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop.errors import ConfigError, InputError, expect_whole, nearest
from innerloop.hpo.learned_surrogates import train, untrained
from innerloop.hpo.past import PastTask, joint_space, past_tasks
from innerloop.hpo.processes import Processes, fit_processes
from innerloop.hpo.search import KINDS, on_table
from innerloop.hpo.space import Space
from innerloop.hpo.transfer import FILE, Transfer
from innerloop.methods import ALGORITHMS

AUTO = "auto"
USUAL_FIRST = ["tasks", *(name for name in KINDS if name != "tasks")]
_RANDOM_SEARCH = "random"  # is shown, not chosen
_LEFT_OUT = 10  # tasks, of more drawn
_POOL = 200  # trials of a task that is left out, of more drawn
_MARKS = (5, 10, 20)  # trials after which the regret counts
_RANDOM = 30  # random searches that are averaged


def fit(
    past: Any,
    *,
    task: str | None = None,
    metric: str | int | None = None,
    direction: str | None = None,
    parameters: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    kind: str | Sequence[str] = AUTO,
    out: str | Path | None = None,
    force: bool = False,
    seed: int = 0,
) -> Transfer:
    """Learn from past searches how to begin the next one.

    Each past task becomes a Gaussian process on its metric's ranks, so scales need not agree. Every way to use them
    (`innerloop.hpo.search.KINDS`) then searches each past task, restricted to what was tried there, with that task left out of
    the past; the best on average is kept. A method of this library that predicts a distribution (``"dkt"``, ``"anp"``, ``"pfn"``,
    ``"cnp"``) may be the surrogate instead: it is meta-trained on the past tasks, some seconds for each task that is left out,
    and some once for each new search, so it is tried where it is named.

    Args:
        past: optuna studies (a list of them, one, or the URL or file of a storage), or one table of trials: a data frame, rows,
            a dictionary of columns, or the path of a CSV, TSV, Parquet or similar file.
        task: of a table, the column that names the task of each row.
        metric: of a table, the column of the metric; of studies with several values a trial, which one: a number from 0 or its
            name.
        direction: "minimize" or "maximize"; None: a study's own, and for a table "minimize".
        parameters: of a table, the columns of parameters; None: all others, but those in ``ignore``.
        ignore: of a table, columns that are no parameters, such as other metrics.
        kind: how to use the past: one of `innerloop.hpo.search.KINDS` or a method; "auto": the best of `KINDS` on tasks left out;
            several: the best of these, where the first is kept unless another leads by more than its standard error.
        out: a folder to keep it in; None: it is not kept.
        force: overwrite what is kept there.
        seed: of which trials of large tasks are used, and of the searches.

    Returns:
        A `Transfer`, which `innerloop.hpo.TransferSampler` takes; its `regret` has the numbers that the choice was made by.

    Raises:
        InputError: no usable task: at least 3 finished trials of different values; a column that is not there.
        ConfigError: an unknown kind or direction, a method that predicts no distribution, or a table whose task column or metric
            is not said.
    """
    expect_whole("seed", seed, 0)
    kinds = _kinds(kind)
    if out is not None and (Path(out) / FILE).exists() and not force:
        raise InputError(f"out expected a new folder, got {str(out)!r}, which has a fit; give another, or force=True")
    started = time.perf_counter()
    tasks = past_tasks(past, task=task, metric=metric, direction=direction, parameters=parameters, ignore=ignore)
    found = LeftOut({}, [])
    if len(kinds) > 1 and len(tasks) > 1:
        space = joint_space(tasks)
        found = left_out(tasks, space, fit_processes(tasks, space, seed), seed, kinds)
    made = Transfer(
        tasks, found.best if found.regret else kinds[0], found.mean, found.marks, seed, time.perf_counter() - started
    )
    if out is not None:
        made.save(out)
    return made


def _kinds(given: str | Sequence[str]) -> list[str]:
    """The ways to choose from, the usual one first."""
    names = USUAL_FIRST if given == AUTO else [given] if isinstance(given, str) else list(dict.fromkeys(given))
    if not names:
        raise ConfigError(f"kind expected a way to use the past, or several, got none; give one, or {AUTO!r}")
    for name in names:
        if name not in KINDS and name not in ALGORITHMS:
            raise ConfigError(f"unknown kind {name!r}: {nearest(str(name), [AUTO, *KINDS, *ALGORITHMS])}")
        if name not in KINDS:
            untrained(name, 1)
    return names


class LeftOut(NamedTuple):
    """Searches of past tasks, each without itself among the past.

    Attributes:
        regret: (tasks, marks) of each kind and of random search; see `regret_of`.
        marks: after how many trials.
    """

    regret: Mapping[str, np.ndarray]
    marks: Sequence[int]

    @property
    def mean(self) -> dict[str, list[float]]:
        """Over tasks."""
        return {name: own.mean(0).tolist() for name, own in self.regret.items()}

    @property
    def best(self) -> str:
        """The kind with the least regret over all marks; the first unless that leads by more than its standard error."""
        kinds = [name for name in self.regret if name != _RANDOM_SEARCH] or USUAL_FIRST
        if not self.regret:
            return kinds[0]
        found, most = kinds[0], 0.0
        for name in kinds[1:]:
            lead = (self.regret[kinds[0]] - self.regret[name]).mean(1)
            if len(lead) > 1 and lead.mean() > max(most, lead.std(ddof=1) / math.sqrt(len(lead))):
                found, most = name, float(lead.mean())
        return found


def left_out(
    tasks: Sequence[PastTask], space: Space, past: Processes, seed: int = 0, kinds: Sequence[str] = USUAL_FIRST
) -> LeftOut:
    """Each way to use the past, and random search, on past tasks that are left out of it.

    Args:
        tasks: the past.
        space: that of all tasks.
        past: their processes in it; each comes from its own task alone but for the pull to common lengths.
        seed: of all draws.
        kinds: the ways, the usual one first.
    """
    generator = np.random.default_rng([seed, 1])
    curves: dict[str, list[np.ndarray]] = {}
    most = _MARKS[-1]
    for i in sorted(generator.permutation(len(tasks))[:_LEFT_OUT].tolist()):
        rows, values = _pool(tasks[i], space, generator)
        if float(np.median(values)) <= float(values.min()):
            continue  # half of its trials are as good as any
        trials = min(_MARKS[-1], max(1, len(values) // 2))
        most = min(most, trials)
        rest = [j for j in range(len(tasks)) if j != i]
        others = past.only(rest)
        known = others.at(rows)
        for name in kinds:
            learned = None
            if name not in KINDS:
                learned = functools.cache(functools.partial(train, name, [tasks[j] for j in rest], space, seed))
            tried = on_table(name, others, rows, values, trials, np.random.default_rng([seed, i]), known, learned)
            curves.setdefault(name, []).append(regret_of(values, tried))
        drawn = [regret_of(values, generator.permutation(len(values))[:trials]) for _ in range(_RANDOM)]
        curves.setdefault(_RANDOM_SEARCH, []).append(np.mean(drawn, 0))
    marks = sorted({min(mark, most) for mark in _MARKS}) if curves else []
    places = [mark - 1 for mark in marks]
    return LeftOut({name: np.stack([curve[places] for curve in own]) for name, own in curves.items()}, marks)


def regret_of(values: np.ndarray, tried: Sequence[int] | np.ndarray) -> np.ndarray:
    """(best so far - best of all) / (median - best of all) after each trial; lower is better."""
    low, middle = float(values.min()), float(np.median(values))
    return (np.minimum.accumulate(values[np.asarray(tried)]) - low) / (middle - low)


def _pool(task: PastTask, space: Space, generator: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
    """Rows and values of a task, of more some drawn, the best among them; infinite values as the worst finite one."""
    rows = generator.permutation(len(task.values))[:_POOL]
    best = int(np.argmin(task.values))
    rows = rows if best in rows else np.append(rows[:-1], best)
    values = task.values[rows]
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.max() if len(finite) else 0.0)
    return torch.as_tensor(space.rows([task.configs[r] for r in rows])), values
