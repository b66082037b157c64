"""What was measured when a learner was made stands in where its problem's data are not; damage in it is told."""

from __future__ import annotations

import dataclasses

import pytest

from innerloop.errors import CheckpointError
from innerloop.evaluation.calibration import Expectation
from innerloop.evaluation.remembered import KEY, all_of, nearest
from innerloop.meta_learner.unknown_inputs import Threshold

LIMIT = Threshold("energy", -3.0, 0.95, 0.94, 0.2, 0.9, 5, 1, 50, "letters")


def entry(ways: int, shots: int, **changes):
    one = Expectation("accuracy", 0.9, 0.01, 100, ways, shots, "letters")
    return {**dataclasses.asdict(one), "threshold": LIMIT.to_dict() if ways else None, **changes}


def test_what_is_written_comes_back():
    (found,) = all_of({KEY: [entry(5, 1)]})
    assert found == Expectation("accuracy", 0.9, 0.01, 100, 5, 1, "letters", threshold=LIMIT)
    assert all_of({}) == []


def test_the_nearest_has_the_nearest_number_of_classes_first():
    found = all_of({KEY: [entry(2, 5), entry(5, 1), entry(5, 10), entry(20, 5)]})
    assert (lambda one: (one.ways, one.shots))(nearest(found, 6, 4)) == (5, 10)
    assert (lambda one: (one.ways, one.shots))(nearest(found, 6, 2)) == (5, 1)
    assert (lambda one: (one.ways, one.shots))(nearest(found, 50, 1)) == (20, 5)
    assert nearest(found, 0, 5) is None, "tasks of classes say nothing of regression"


@pytest.mark.parametrize(
    "damaged",
    [
        [{}],
        [3],
        [entry(5, 1, mean=float("nan"))],
        [entry(5, 0)],
        [entry(5, 1, mean="high")],
        [entry(5, 1, surplus=1)],
        [entry(5, 1, threshold={"version": 99})],
        7,
    ],
)
def test_damage_is_told(damaged):
    with pytest.raises(CheckpointError):
        all_of({KEY: damaged})
