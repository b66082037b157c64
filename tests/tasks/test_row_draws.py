"""Which rows tasks show: at their own base rate, in order, all the rest asked for."""

import numpy as np
import pytest
import torch

from innerloop import keys
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.row_draws import MOST_TRAINED, DrawSizes, RowDraws, sizes_of, stratified

# Three tasks of two classes: 6 + 30, 20 + 10 and 1 + 3 rows.
POOLS = [
    [np.arange(0, 6), np.arange(6, 36)],
    [np.arange(36, 56), np.arange(56, 66)],
    [np.array([66]), np.arange(67, 70)],
]
CLASS = torch.tensor([0] * 6 + [1] * 30 + [0] * 20 + [1] * 10 + [0] + [1] * 3)


def drawn(draws, number=3, seed=0):
    numbers = torch.arange(number) % len(draws)
    return draws.draw(keys.task_keys(seed, "test", 0, 0, number), numbers)


def by_task(values, mask):
    return [v[m].tolist() for v, m in zip(values, mask, strict=True)]


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([30, 10], 8, [6, 2]),
        ([99, 1], 16, [15, 1]),
        ([10, 10, 10], 4, [2, 1, 1]),
        ([1, 3], 16, [1, 2]),
        ([5], 3, [3]),
        ([2, 2], 1, [1, 0]),
    ],
)
def test_a_support_set_is_shared_out_as_its_task_is(counts, size, expected):
    assert stratified(counts, size) == expected


def test_a_support_set_has_its_tasks_own_base_rate_and_all_the_rest_is_asked_for():
    draws = RowDraws(POOLS, [[0, 1]] * 3, DrawSizes(2, 1, None, support_size=6))
    found = drawn(draws)
    support, query = by_task(found.support, found.support_mask), by_task(found.query, found.query_mask)
    assert [len(s) for s in support] == [6, 6, 3] and [len(q) for q in query] == [30, 24, 1]
    assert [sorted(s + q) for s, q in zip(support, query, strict=True)] == [
        list(range(36)), list(range(36, 66)), list(range(66, 70))
    ]  # fmt: skip
    assert [sum(CLASS[i].item() for i in s) for s in support] == [5, 2, 2]
    for rows, labels, mask in (
        (found.support, found.support_labels, found.support_mask),
        (found.query, found.query_labels, found.query_mask),
    ):
        assert bool((found.classes.gather(1, labels) == CLASS[rows])[mask].all())
    assert found.classes.sort(-1).values.tolist() == [[0, 1]] * 3
    assert (
        len({tuple(c) for seed in range(8) for c in drawn(draws, seed=seed).classes.tolist()}) == 2
    )  # in random order
    other = drawn(draws, seed=1)
    assert not torch.equal(other.support, found.support)
    alone = draws.draw(keys.task_keys(0, "test", 0, 1, 1), torch.tensor([1]))
    assert torch.equal(alone.support[0], found.support[1]) and torch.equal(alone.query[0], found.query[1])


def test_labels_of_tasks_with_other_classes_are_in_random_order():
    pools = [[np.arange(0, 5), np.arange(5, 10)], [np.arange(10, 15), np.arange(15, 20), np.arange(20, 25)]]
    draws = RowDraws(pools, [[0, 1], [1, 2, 3]], DrawSizes(3, 1, 4, support_size=6))
    of_row = torch.tensor([0] * 5 + [1] * 5 + [1] * 5 + [2] * 5 + [3] * 5)
    orders = set()
    for seed in range(8):
        found = drawn(draws, 2, seed)
        for i in range(2):
            there = found.support_mask[i]
            assert bool((found.classes[i][found.support_labels[i]] == of_row[found.support[i]])[there].all())
        orders.add(tuple(found.classes[1].tolist()))
        assert set(found.support_labels[0].tolist()) == {0, 1}
    assert len(orders) > 2


def test_rows_in_order_show_the_first_and_ask_for_later_ones():
    rows = [np.arange(0, 9), np.arange(9, 13)]
    for sizes, query in (
        (DrawSizes(0, 3, 4, ordered=True), [[3, 4, 5, 6], [12]]),
        (DrawSizes(0, 1, None, support_size=3, ordered=True), [[3, 4, 5, 6, 7, 8], [12]]),
    ):
        found = drawn(RowDraws([[own] for own in rows], None, sizes), 2)
        assert by_task(found.support, found.support_mask) == [[0, 1, 2], [9, 10, 11]]
        assert by_task(found.query, found.query_mask) == query and found.classes is None
    mixed = RowDraws(
        [[np.array([0, 3, 4, 6]), np.array([1, 2, 5])]], [[0, 1]], DrawSizes(2, 1, None, support_size=4, ordered=True)
    )
    found = drawn(mixed, 1)
    assert found.support.tolist() == [[0, 1, 2, 3]]
    assert found.classes.gather(1, found.support_labels).tolist() == [[0, 1, 1, 0]]
    assert found.query.tolist() == [[4, 5, 6]]


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="support_size expected at least 1, got 0"):
        DrawSizes(2, 1, None, support_size=0).check("t")
    with pytest.raises(ConfigError, match="expected support_size"):
        DrawSizes(2, 1, 5, ordered=True).check("t")
    with pytest.raises(ConfigError, match=r"support_size expected a whole number, got 6\.5"):
        DrawSizes(2, 1, None, support_size=6.5).check("t")
    with pytest.raises(ConfigError, match="ways expected shots beside it, got support_size=8"):
        sizes_of("test", 2, {"ways": 2, "support_size": 8})
    with pytest.raises(ConfigError, match="got both"):
        sizes_of("test", 2, {"shots": 3, "support_size": 8})


def test_training_tasks_ask_for_some_of_the_rest_where_others_ask_for_all():
    options = {"support_size": 8}
    assert sizes_of("train", 2, options).queries == MOST_TRAINED and sizes_of("test", 2, options).queries is None
    assert sizes_of("train", 2, {**options, "train_shots": 10}).support_size == 20
    assert sizes_of("valid", 0, {}) == DrawSizes(0, 5, 15)


def test_a_class_of_one_row_is_shown_and_not_asked_for():
    draws = RowDraws(POOLS, [[0, 1]] * 3, DrawSizes(2, 1, None, support_size=6)).resized("t", 2, 2, 3)
    found = drawn(draws)
    own = found.classes.gather(1, found.support_labels)[2][found.support_mask[2]]
    asked = found.classes.gather(1, found.query_labels)[2][found.query_mask[2]]
    assert sorted(own.tolist()) == [0, 1, 1] and asked.tolist() == [1]


@pytest.mark.parametrize("numbers", [[[0, 1], [0, 1], [0, 1]], None])
def test_more_queries_than_there_are_rows_are_not_padded_to_their_number(numbers):
    pools = POOLS if numbers else [[np.concatenate(own)] for own in POOLS]
    most, usual = (
        drawn(RowDraws(pools, numbers, DrawSizes(2 if numbers else 0, shots, queries)))
        for shots, queries in ((3, 10**6), (3, 36))
    )
    widest = max(len(rows) for own in pools for rows in own)
    assert most.query.shape == most.query_mask.shape == most.query_labels.shape == (3, (2 if numbers else 1) * widest)
    assert by_task(most.query, most.query_mask) == by_task(usual.query, usual.query_mask)
    assert by_task(most.support, most.support_mask) == by_task(usual.support, usual.support_mask)
    many = drawn(RowDraws(pools, numbers, DrawSizes(2 if numbers else 0, 10**6, 1)))
    assert many.support.shape == (3, (2 if numbers else 1) * widest) and bool((many.query_mask.sum(1) > 0).all())
