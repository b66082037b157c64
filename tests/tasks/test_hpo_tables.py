"""Tables of searches as tasks: data sets apart, ranks within each, one line for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.search_tables import SearchTable
from innerloop.tasks.searches import hpo_tables


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """Eight data sets of 30 rows; the first number of a row names its data set."""
    random = np.random.default_rng(0)
    names = np.repeat([f"set {i}" for i in range(8)], 30)
    x = np.stack([np.repeat(np.arange(8.0), 30), random.random(240)], 1)
    made = SearchTable("error", ("hp_a", "hp_b"), x, 1000 * x[:, 0] + x[:, 1], names)
    monkeypatch.setattr(hpo_tables, "search_table", lambda name: made)
    return made


def test_a_data_set_is_a_task_of_its_own_ranks():
    family = il.tasks.hpo_tables(shots=4, queries=10)
    splits = [set(split.data_sets) for split in (family.train, family.valid, family.test)]
    assert [len(own) for own in splits] == [4, 2, 2] and len(set.union(*splits)) == 8
    task = family.train.at(0, 0, 6)
    assert task.support.x.shape == (6, 4, 2) and task.query.y.shape == (6, 10, 1)
    x, y = torch.cat([task.support.x, task.query.x], 1), torch.cat([task.support.y, task.query.y], 1)[..., 0]
    assert bool((x[..., 0] == x[:, :1, 0]).all()), "rows of one data set"
    assert bool((x[..., 1].argsort(1) == y.argsort(1)).all()) and y.abs().max() < 2.5, "its ranks, in any scale"
    each = family.test.each(torch.arange(2), torch.arange(2))
    names = {f"set {round(float((v + 1) * 3.5))}" for v in each.support.x[:, 0, 0]}
    assert names == splits[2]


def test_any_method_learns_from_them():
    family = il.tasks.hpo_tables(shots=5, queries=10)
    learner = il.anp(il.models.mlp(2, 1, hidden=(16,)))
    il.fit(learner, family, steps=2, num_tasks=2, validate_every=0, quiet=True)
    report = il.evaluate(learner, family.test)
    assert report.num_tasks == 2 and np.isfinite(report.mean)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"valid_data_sets": 4, "test_data_sets": 4}, "leave some of 8 for training"),
        ({"shots": 25, "queries": 10}, "at most 30 together"),
        ({"shots": 0}, "at least 1"),
        ({"test_data_sets": 0}, "test_data_sets expected"),
    ],
)
def test_what_cannot_be_is_one_line(options, said):
    with pytest.raises(il.InputError, match=said):
        il.tasks.hpo_tables(**options)
