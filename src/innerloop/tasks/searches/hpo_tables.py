"""Regression of what hyperparameters are worth: each data set of a table of searches is a task."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.class_images import seeded_order
from innerloop.data.search_tables import SearchTable, copula_scores, search_table
from innerloop.errors import InputError, expect_whole
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.row_draws import DrawSizes, RowDraws
from innerloop.tasks.split_sizes import family_of_examples

_NOISE = 5


class SearchTasks(TaskDistribution):
    """Tasks of configurations of one data set each; x (tasks, examples, parameters), y (tasks, examples, 1).

    See `hpo_tables`.
    """

    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    output_size = 1
    name = "hpo_tables"
    on_device = False
    split: str
    dtype: torch.dtype
    input_shape: tuple[int, ...]
    size: int | None
    x: Tensor
    y: Tensor

    def __init__(
        self,
        *,
        split: str,
        table: str,
        shots: int,
        queries: int,
        valid_data_sets: int,
        test_data_sets: int,
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.split, self.dtype = split, dtype or torch.get_default_dtype()
        found = search_table(table)
        names = seeded_order(sorted(set(found.data_sets.tolist())), seed)
        first, last = test_data_sets, test_data_sets + valid_data_sets
        self.data_sets: tuple[str, ...] = tuple(
            {"test": names[:first], "valid": names[first:last], "train": names[last:]}[split]
        )
        if not self.data_sets:
            raise InputError(
                f"hpo_tables: valid_data_sets and test_data_sets expected to leave some of {len(names)} for training, got "
                f"{last}; lower them"
            )
        self.input_shape, self.size = (len(found.parameters),), len(self.data_sets)
        sizes = DrawSizes(0, shots, queries)
        sizes.check(f"hpo_tables ({split})")
        rows = [np.flatnonzero(found.data_sets == name) for name in self.data_sets]
        least = min(map(len, rows))
        if shots + queries > least:
            raise InputError(
                f"hpo_tables ({split}): shots and queries expected at most {least} together, the rows of the smallest data "
                f"set, got {shots + queries}; lower them"
            )
        self.x, self.y = self._scaled(found, rows)
        self.draws: RowDraws = RowDraws([[own] for own in rows], None, sizes)

    def _scaled(self, found: SearchTable, rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        low, high = found.x.min(0), found.x.max(0)
        x = 2 * (found.x - low) / np.where(high > low, high - low, 1.0) - 1
        y = np.zeros(len(found.y))
        for own in rows:
            y[own] = copula_scores(found.y[own])
        return torch.as_tensor(x).to(self.dtype), torch.as_tensor(y).to(self.dtype)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys."""
        return self.each(keys, self.which(keys))

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        return self.draws.which(keys)

    def each(self, keys: Int64[Tensor, " tasks"], numbers: Int64[Tensor, " tasks"]) -> Task:
        drawn = self.draws.draw(keys, numbers)
        support, query = (Examples(self.x[rows], self.y[rows][..., None]) for rows in (drawn.support, drawn.query))
        return Task(support, query, self.objective, noise=random_keys.fold(keys, _NOISE))

    def default_model(self) -> nn.Module:
        """Two hidden layers of 64."""
        from innerloop import models

        return models.mlp(self.input_shape[0], 1, hidden=(64, 64))


def hpo_tables(
    *,
    table: str = "xgboost",
    shots: int = 10,
    queries: int = 50,
    train_shots: int | None = None,
    train_queries: int | None = None,
    valid_data_sets: int = 2,
    test_data_sets: int = 2,
    seed: int = 0,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Regression on tables of searches: from a few configurations of a data set that were tried, what others would reach.

    A task is a data set, all equally likely, with configurations of it drawn at random: some are shown, others asked for. x are
    the hyperparameters, each from -1 to 1 over the whole table; y is the Gaussian copula of the metric within the data set
    (normal quantiles of its ranks, the best lowest), since the scales of data sets differ. The splits have different data sets.
    The data are those of Salinas et al. 2020, arXiv:1909.13595.

    Args:
        table: "xgboost" (10 data sets of 5,000 configurations, 8 parameters) or "deepar" (11 of about 228, 6 parameters).
        shots, queries: configurations of the support and of the query set.
        train_shots, train_queries: those of training tasks, where they differ.
        valid_data_sets, test_data_sets: of the splits; all others are for training.
        seed: of the split.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        ConfigError: an unknown table, or numbers below 1.
        InputError: no file under INNERLOOP_DATA/hpo, more data sets or configurations than there are.
    """
    expect_whole("valid_data_sets", valid_data_sets)
    expect_whole("test_data_sets", test_data_sets)
    shared = {"table": table, "valid_data_sets": valid_data_sets, "test_data_sets": test_data_sets, "seed": seed}
    return family_of_examples("hpo_tables", SearchTasks, shared, (shots, queries), (train_shots, train_queries), dtype)
