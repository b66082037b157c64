"""Random orders as pure functions of a key: every index once, whatever is asked for, and as random as a sorted one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop import keys
from innerloop.learners import gradient


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 4097, 60_000])
def test_places_are_each_index_once(n):
    key = keys.fold(torch.tensor(5), n)
    found = keys.places(key, torch.arange(n), n)
    assert torch.equal(found.sort().values, torch.arange(n))
    some = torch.tensor([0, n // 2, n - 1])
    assert torch.equal(keys.places(key, some, n), found[some]), "whatever else is asked for"


def test_places_of_many_keys():
    every = keys.task_keys(0, "train", 0, 0, 6)
    at_once = torch.vmap(lambda key: keys.places(key, torch.arange(50), 50))(every)
    assert torch.equal(at_once, torch.stack([keys.places(key, torch.arange(50), 50) for key in every]))
    assert len({tuple(row) for row in at_once.tolist()}) == 6
    own = keys.places(every, torch.full((6,), 3), 50)  # a key for each index
    assert torch.equal(own, at_once[:, 3])


@pytest.mark.parametrize("n", [5, 8, 11])
def test_places_are_as_random_as_a_sorted_order(n):
    """Where an index leads, and where it and the next one do, over 20,000 keys: chi-square within 5 deviations."""
    count = 20_000
    every = keys.task_keys(1, "train", 0, 0, count)
    found = torch.vmap(lambda key: keys.places(key, torch.arange(n), n))(every)
    for first, second in ((0, 1), (0, n - 1), (n // 2, n // 2 + 1)):
        pairs = torch.bincount(found[:, first] * n + found[:, second], minlength=n * n).double().view(n, n)
        assert float(pairs.diagonal().sum()) == 0
        for seen, cells in ((pairs.sum(1), n), (pairs[~torch.eye(n, dtype=torch.bool)], n * (n - 1))):
            expected = count / cells
            chi = float(((seen - expected) ** 2 / expected).sum())
            assert abs(chi - (cells - 1)) < 5 * (2 * (cells - 1)) ** 0.5, (first, second, cells)


@pytest.mark.parametrize("n", [4097, 60_000])
def test_places_in_a_long_order(n):
    """Into which eighth the first indices lead, two and two, over 4,000 keys."""
    count = 4_000
    every = keys.task_keys(2, "train", 0, 0, count)
    index = torch.tensor([0, 1, 2, n // 2, n - 1])
    eighths = torch.vmap(lambda key: keys.places(key, index, n))(every) * 8 // n
    for first in range(5):
        for second in range(first):
            seen = torch.bincount(eighths[:, first] * 8 + eighths[:, second], minlength=64).double()
            chi = float(((seen - count / 64) ** 2 / (count / 64)).sum())
            assert abs(chi - 63) < 5 * (2 * 63) ** 0.5, (first, second)


def rows_of(learner, steps, size, total, as_tensor):
    noise = keys.fold(torch.tensor(3), 1)
    found = [learner._rows(noise, torch.tensor(i) if as_tensor else i, size, total) for i in range(steps)]
    return torch.cat(found)


@pytest.mark.parametrize("total", [4096, 4097])
def test_a_pass_sees_every_row_once_and_batches_span_passes(total):
    learner = il.maml(nn.Linear(1, 1), inner_lr=0.1).learner
    size, steps = 500, 17
    found = rows_of(learner, steps, size, total, False)
    assert torch.equal(found, rows_of(learner, steps, size, total, True))
    first, second = found[:total], found[total : 2 * total]
    assert torch.equal(first.sort().values, torch.arange(total))
    assert len(set(second.tolist())) == len(second) and not torch.equal(first[: len(second)], second)


def test_orders_of_few_rows_stay_what_they_were(monkeypatch):
    """What runs were made with: the rows in the order of the keys' bits."""
    learner = il.maml(nn.Linear(1, 1), inner_lr=0.1).learner
    monkeypatch.setattr(keys, "places", lambda *_: pytest.fail("not sorted"))
    noise = keys.fold(torch.tensor(3), 1)
    expected = keys.permutation(keys.fold(noise, gradient._BATCHES), gradient._SORTED_ROWS, salt=0)[:7]
    assert torch.equal(learner._rows(noise, 0, 7, 4096), expected) and gradient._SORTED_ROWS == 4096
