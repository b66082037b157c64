"""pmlb: tables that were never seen, with few rows a class; one learner for all, whatever their columns and classes.

The 103 classification tables of the Penn Machine Learning Benchmarks (Olson et al. 2017, BioData Mining 10:36; MIT) are split
into tables to train on, validate and test; variants of one generator lie on one side. A task shows ``rows`` rows of each of at
most ten classes. Each table keeps its own columns: scaled by the support set, the most telling first; the learner gets 24 of
them at most, the baselines all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop import models
from innerloop.core import Task, TaskFamily
from innerloop.data.locations import data_folder
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.column_evidence import column_evidence
from innerloop.recipes.baselines import sklearn_module
from innerloop.tasks.tables.own import table_family
from innerloop.training.fit import fit

# Variants of one generator, subsets and other codings of one data set.
TOGETHER = (
    "GAMETES*", "monk*", "parity*|mofn*|mux*|xd6|threeOf9|corral", "led*", "all*|dis|*thyroid*", "wine_quality*", "spect*",
    "analcatdata_boxing*", "analcatdata_cyyoung*", "prnn*", "chess|kr_vs_kp", "agaricus_lepiota|mushroom", "dna|splice",
)  # fmt: skip
# Numbers of rows, firms and phones, which are no quantities. The published rows are of learners and baselines that had them.
ROW_NUMBERS = ("Company", "Counter", "Firm", "PERIOD", "Text", "conformation_name", "id", "phone number")
_WAYS, _COLUMNS, _QUERIES, _TEST_TASKS, _STEPS = 10, 24, 15, 300, 100
_AT_ONCE = 5  # a task holds a number for each pair of rows and column
_OURS = "column_evidence"


def run_5_rows() -> list[dict[str, Any]]:
    """Rows of the recipe for 5 rows a class."""
    return run(5)


def run_20_rows() -> list[dict[str, Any]]:
    """Rows of the recipe for 20 rows a class."""
    return run(20)


def run(rows: int, steps: int = _STEPS, test_tasks: int = _TEST_TASKS) -> list[dict[str, Any]]:
    """Mean AUC (one against the rest for more than two classes) over the same draws of the test tables."""
    family, whole = families(rows, _COLUMNS), families(rows, 512)
    torch.manual_seed(0)
    learner = column_evidence(models.mlp(_COLUMNS, None, hidden=()))
    done = fit(
        learner,
        family,
        steps=steps,
        num_tasks=4,
        outer_lr=1e-2,
        schedule="cosine",
        clip_norm=1.0,
        validate_every=max(1, steps // 4),
        valid_tasks=60,
        strategy="vmapped",
        chunk_size=_AT_ONCE,
        quiet=True,
    )
    all_columns = whole.test.at(0, 0, test_tasks)
    found = {
        _OURS: [area for tasks in _few_at_once(family, test_tasks) for area in areas(tasks, _answers(learner, tasks))],
        "logistic regression": areas(
            all_columns, classifier(all_columns, "linear_model", "LogisticRegression", max_iter=500)
        ),
        "random forest": areas(
            all_columns, classifier(all_columns, "ensemble", "RandomForestClassifier", random_state=0)
        ),
    }
    ahead = f"{_OURS} less random forest, task by task"
    found[ahead] = [a - b for a, b in zip(found[_OURS], found["random forest"], strict=True)]
    result = []
    for name, values in found.items():
        mean, ci95 = mean_ci95([100 * v for v in values])
        result.append(
            {
                "metric": f"AUC %, {rows} rows a class: {name}",
                "value": round(mean, 3),
                "ci95": round(ci95, 3),
                "num_tasks": test_tasks,
                "transductive": False,
                "steps": done.steps if name in (_OURS, ahead) else 0,
            }
        )
    return result


def _few_at_once(family: TaskFamily, test_tasks: int) -> Iterator[Task]:
    for start in range(0, test_tasks, _AT_ONCE):
        yield family.test.at(0, 0, min(_AT_ONCE, test_tasks - start), start)


def _answers(learner: MetaLearner, tasks: Task) -> Tensor:
    return torch.softmax(learner.predict_queries(tasks), -1)


def families(rows: int, columns: int) -> TaskFamily:
    """The tables as tasks, with so many columns at most; the draws are the same whatever the columns."""
    folder = data_folder() / "pmlb"
    archive, index = folder / "pmlb_small.zip", folder / "index.csv"
    if not archive.is_file() or not index.is_file():
        raise InputError(f"expected pmlb's tables at {archive} and {index}, got none; put pmlb's data sets there")
    return table_family(
        archive,
        target="target",
        kind="classification",
        only=classification_tables(index),
        together=TOGETHER,
        columns="own",
        quantities=ROW_NUMBERS,
        ranked=True,
        max_columns=columns,
        ways=_WAYS,
        shots=rows,
        queries=_QUERIES,
        train_queries=5,
        valid_share=0.1,
        test_share=0.3,
    )


def classification_tables(index: Path) -> list[str]:
    """Names of the tables whose target is a class, by pmlb's index."""
    with index.open(newline="", encoding="utf-8") as file:
        return [row["name"] for row in csv.DictReader(file) if row["task"] == "classification"]


def classifier(tasks: Task, module: str, name: str, **options: Any) -> Tensor:
    """Probabilities (tasks, queries, ways) of a scikit-learn classifier, fitted to each task's support set alone.

    It gets the columns that vary there: zeros that pad a table would count among those that a tree draws from.
    """
    make = getattr(sklearn_module(module), name)
    found = torch.zeros(*tasks.query.y.shape, _WAYS)
    for t, (x, y, mask) in enumerate(_shown(tasks)):
        varied = x[mask].std(0) > 0
        fitted = make(**options).fit(x[mask][:, varied].numpy(), y[mask].numpy())
        found[t][:, torch.as_tensor(fitted.classes_)] = torch.as_tensor(
            fitted.predict_proba(tasks.query.x[t][:, varied].numpy())
        ).float()
    return found


def _shown(tasks: Task) -> list[tuple[Tensor, Tensor, Tensor]]:
    support = tasks.support
    mask = torch.ones_like(support.y, dtype=torch.bool) if support.mask is None else support.mask
    return list(zip(support.x, support.y, mask, strict=True))


def areas(tasks: Task, probabilities: Tensor) -> list[float]:
    """Each task's area under the ROC curve: of one class against the rest, averaged over the classes that were asked."""
    score = sklearn_module("metrics").roc_auc_score
    mask = torch.ones_like(tasks.query.y, dtype=torch.bool) if tasks.query.mask is None else tasks.query.mask
    found = []
    for p, y, own in zip(probabilities, tasks.query.y, mask, strict=True):
        labels, chances = y[own].numpy(), p[own].numpy()
        found.append(float(np.mean([score(labels == c, chances[:, c]) for c in np.unique(labels)])))
    return found
