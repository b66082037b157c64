"""Evaluations take their tasks a few at a time, in order, and big ones fewer at a time."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop.evaluation.evaluate import in_batches


@pytest.mark.parametrize(("queries", "largest"), [(5, 50), (195, 10), (5_000, 1)])
def test_the_same_tasks_in_order_few_enough_at_once(queries: int, largest: int) -> None:
    tasks = il.tasks.sinusoid(shots=5, queries=queries).test
    drawn = list(in_batches(tasks, 12 if largest < 50 else 60, seed=3, first=2))
    assert max(len(batch.support.x) for batch in drawn) == largest
    whole = tasks.at(3, 0, sum(len(batch.support.x) for batch in drawn), 2)
    assert torch.equal(torch.cat([batch.query.x for batch in drawn]), whole.query.x)


def test_no_task_no_batch() -> None:
    assert list(in_batches(il.tasks.sinusoid().test, 0)) == []
