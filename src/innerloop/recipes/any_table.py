"""What a learner of any table reaches on tables that somebody measured, from a few rows of each, beside usual classifiers.

scikit-learn's wine, and the classification tables of pmlb (Olson et al. 2017; MIT) of at most 100 columns and 10 classes, classes
of fewer than 10 rows left out: 8 rows of each class are the support set, the others, at most 200 of them, are asked. A
table's number is the mean over draws; means and intervals are over tables. Wine and half of the tables, by a hash of their
names, may have been looked at while the learner was made; the other half was measured once.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from innerloop.data.locations import data_folder
from innerloop.data.table_files import read_tables
from innerloop.data.tables import Table, as_table
from innerloop.errors import InnerloopWarning, InputError
from innerloop.evaluation import baselines
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.recipes.baselines import sklearn_module

_SHOTS, _QUERIES, _COLUMNS, _WAYS = 8, 200, 100, 10
_WINE_DRAWS, _DRAWS = 50, 8
_TARGET, _OURS = "target", "builtin:tables"


def beside(learner: Any, test: Any) -> list[dict[str, Any]]:
    """Rows of results: accuracy and AUC on wine, mean AUC over pmlb's tables, and the lead over each baseline, table by table."""
    del test
    data = sklearn_module("datasets").load_wine()
    wine = as_table({**dict(zip(data.feature_names, data.data.T, strict=True)), _TARGET: data.target})
    found = [numbers_of(learner, wine, draw, queries=len(data.target)) for draw in range(_WINE_DRAWS)]
    rows = [
        _row(f"{metric} % on wine, {_SHOTS} rows a class: {name}", [one[metric, name] for one in found])
        for metric in ("accuracy", "AUC")
        for name in _names(found[0])
    ]
    by_table: dict[str, dict[str, float]] = {}
    for table in pmlb():
        draws = [numbers_of(learner, table, draw) for draw in range(_DRAWS)]
        by_table[table.name] = {name: float(np.mean([one["AUC", name] for one in draws])) for name in _names(draws[0])}
    return rows + [row for which in ("looked at", "not looked at", "all") for row in _of_tables(by_table, which)]


def _of_tables(by_table: Mapping[str, Mapping[str, float]], which: str) -> list[dict[str, Any]]:
    chosen = [
        own for name, own in by_table.items() if which in ("all", "looked at" if looked_at(name) else "not looked at")
    ]
    what = f"AUC %, {_SHOTS} rows a class, {len(chosen)} pmlb tables ({which})"
    rows = [_row(f"{what}: {name}", [own[name] for own in chosen]) for name in chosen[0]]
    for name in ("logistic regression", "random forest"):
        rows.append(_row(f"{what}: {_OURS} less {name}", [own[_OURS] - own[name] for own in chosen]))
    return rows


def _row(metric: str, shares: list[float]) -> dict[str, Any]:
    mean, ci95 = mean_ci95([100 * share for share in shares])
    return {
        "metric": metric,
        "value": round(mean, 2),
        "ci95": round(ci95, 2),
        "num_tasks": len(shares),
        "transductive": False,
    }


def looked_at(name: str) -> bool:
    """Whether a table is of the half that may have been looked at while the learner was made."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def pmlb() -> Iterator[Table]:
    """The tables, without rows of rare classes."""
    from innerloop.recipes.few_rows import classification_tables

    folder = data_folder() / "pmlb"
    archive, index = folder / "pmlb_small.zip", folder / "index.csv"
    if not archive.is_file() or not index.is_file():
        raise InputError(f"expected pmlb's tables at {archive} and {index}, got none; put pmlb's data sets there")
    for table in read_tables(archive, only=classification_tables(index))[0]:
        classes, counts = np.unique(table.column(_TARGET), return_counts=True)
        kept = classes[counts >= _SHOTS + 2]
        if len(table.columns) - 1 <= _COLUMNS and 2 <= len(kept) <= _WAYS:
            yield table.take(np.flatnonzero(np.isin(table.column(_TARGET), kept)))


def drawn(y: np.ndarray, draw: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """(support rows, queries): so many rows of each class, and others."""
    generator = np.random.default_rng(draw)
    orders = [generator.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
    rest = generator.permutation(np.concatenate([order[_SHOTS:] for order in orders]))
    return np.concatenate([order[:_SHOTS] for order in orders]), rest[:queries]


def numbers_of(learner: Any, table: Table, draw: int, queries: int = _QUERIES) -> dict[tuple[str, str], float]:
    """Accuracy and AUC of the learner and of the baselines, by (metric, name), on one draw of a table's rows."""
    y = table.column(_TARGET)
    rows, asked = drawn(y, draw, queries)
    classes = np.unique(y)
    with warnings.catch_warnings():  # of columns that look like row numbers, say
        warnings.simplefilter("ignore", InnerloopWarning)
        fitted = learner.adapt(table.take(rows), target=_TARGET)
        ours = fitted.predict_proba(table.take(asked).without([_TARGET]))
    order = np.argsort([float(c) for c in fitted.classes_])
    x = np.stack([table.columns[name] for name in table.columns if name != _TARGET], 1)
    scores = {_OURS: np.asarray(ours)[:, order], **_usual(x[rows], np.searchsorted(classes, y[rows]), x[asked])}
    truth = np.searchsorted(classes, y[asked])
    found = {("accuracy", name): float((score.argmax(1) == truth).mean()) for name, score in scores.items()}
    return found | {("AUC", name): area(truth, score) for name, score in scores.items()}


def _usual(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (queries, classes) of usual classifiers, fitted to numbers scaled by the support set; missing ones at its mean."""
    mean = np.nan_to_num(np.nanmean(x, 0))
    x, z = (np.where(np.isnan(v), mean, v) for v in (x, z))
    scale = x.std(0)
    scale[scale < 1e-12] = 1
    x, z = (x - mean) / scale, (z - mean) / scale
    found = {}
    for name, module, kind, options in (
        ("logistic regression", "linear_model", "LogisticRegression", {"max_iter": 500}),
        ("random forest", "ensemble", "RandomForestClassifier", {"random_state": 0}),
    ):
        found[name] = getattr(sklearn_module(module), kind)(**options).fit(x, y).predict_proba(z)
    support, labels, query = (torch.as_tensor(v) for v in (x, np.eye(y.max() + 1)[y], z))
    everyone = torch.ones(len(x), dtype=torch.bool)
    found["class mean"] = baselines.class_mean(support, labels, query, everyone).numpy()
    found["nearest row"] = baselines.nearest(support, labels, query, everyone).numpy()
    return found


def area(truth: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve of each class against the rest, averaged over the classes that were asked."""
    of = sklearn_module("metrics").roc_auc_score
    return float(np.mean([of(truth == c, score[:, c]) for c in np.unique(truth)]))


def _names(found: Mapping[tuple[str, str], float]) -> list[str]:
    return [name for metric, name in found if metric == "AUC"]
