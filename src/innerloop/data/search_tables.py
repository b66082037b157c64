"""Tables of hyperparameter searches: what many configurations of one model reached on several data sets.

The data of Salinas, Shen and Perrone 2020, "A quantile-based approach for hyperparameter transfer learning",
arXiv:1909.13595 (Apache-2.0): every data set with configurations of its own, drawn at random.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from innerloop.data.locations import data_folder
from innerloop.data.tables import read_table
from innerloop.errors import ConfigError, InputError, nearest

# Name -> the file under INNERLOOP_DATA/hpo, and its metric, of which less is better.
SEARCH_TABLES = {"xgboost": ("XGBoost.csv.xz", "metric_error"), "deepar": ("DeepAR.csv.xz", "metric_CRPS")}


class SearchTable(NamedTuple):
    """The evaluated configurations of several data sets.

    Attributes:
        metric: what was measured, lower is better.
        parameters: names of the columns of ``x``.
        x: (rows, parameters) configurations, in the units of the file.
        y: (rows,) the metric.
        data_sets: (rows,) the data set of each row.
    """

    metric: str
    parameters: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    data_sets: np.ndarray


def search_table(name: str) -> SearchTable:
    """A table by its name.

    Raises:
        ConfigError: an unknown name.
        InputError: no file, or another one.
    """
    if name not in SEARCH_TABLES:
        raise ConfigError(f"unknown table {name!r} of searches: {nearest(name, SEARCH_TABLES)}")
    file, metric = SEARCH_TABLES[name]
    path = data_folder() / "hpo" / file
    if not path.is_file():
        raise InputError(
            f"expected the table of searches at {path}, got nothing there; put the file of arXiv:1909.13595 there, packed with xz"
        )
    table = read_table(path)
    parameters = tuple(column for column in table.columns if column.startswith("hp_"))
    table.expect(metric, "task")
    numbers = [metric, *parameters]
    if not parameters or not all(table.is_number(column) for column in numbers):
        raise InputError(f"{path} expected columns of numbers, hp_* and {metric}, got others; get the file again")
    x = np.stack([table.columns[column] for column in parameters], 1)
    return SearchTable(metric, parameters, x, table.columns[metric], np.array(table.texts["task"]))


def copula_scores(values: np.ndarray) -> np.ndarray:
    """A Gaussian copula: each value's rank among all, as the normal quantile of ``(rank - 1/2) / n``; ties share a rank.

    So metrics of any scale are alike: mean about 0, deviation about 1, the order kept.

    Args:
        values: (rows,), not NaN; infinite ones are the largest or least.
    """
    different, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - 0.5 * counts
    quantile = NormalDist().inv_cdf
    quantiles = np.array([quantile(p) for p in middle / max(1, len(values))], dtype=np.float64)
    return quantiles[which.reshape(-1)] if len(different) else np.zeros(0)
