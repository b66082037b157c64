"""Rounds alternate, medians are of rounds, wrong meta-gradients and missing contenders show in the rows."""

import dataclasses
import functools
import math
import sys
import types

import numpy as np
import pytest
from fakes import RIGHT, Fake, FakeClock

from benchmarks.speed.contenders.contender import Turn, timed
from benchmarks.speed.harness import Bound, Timing, Truth, alternate, contest, relative_error
from benchmarks.speed.rows import DEFAULT, KEPT
from benchmarks.speed.settings import Settings
from innerloop.errors import ConfigError

PROBLEM = types.SimpleNamespace(case="made up", kind="gradient")


def rows_of(contenders, clock, rounds=3, bound=None, tolerance=1e-4):
    settings = Settings(rounds=rounds, seconds=1.0)
    truth = Truth(lambda batch: RIGHT, 3, tolerance)
    found = contest("fake", PROBLEM, contenders, settings, truth=truth, bound=bound, clock=clock)
    return {row.contender: row for row in found}


def test_rounds_alternate_and_a_turn_lasts_as_long_as_asked():
    clock, log = FakeClock(), []
    fast, slow = Fake("fast", clock, 0.1, log), Fake("slow", clock, 3.0, log)
    turns = {c.name: functools.partial(c.turn, clock=clock) for c in (fast, slow)}
    alternate(turns, rounds=4, seconds=1.0)
    turns = log[-8:]
    assert [name for name, _ in turns] == ["fast", "slow"] * 4
    assert {steps for name, steps in turns if name == "fast"} == {10}
    assert {steps for name, steps in turns if name == "slow"} == {1}


def test_the_median_is_over_rounds_of_the_mean_step():
    clock = FakeClock()
    # The first call finds out how many steps a turn is: one. Then five rounds.
    uneven = Fake("uneven", clock, [2.0, 5.0, 1.0, 9.0, 3.0, 4.0])
    turns = {"uneven": functools.partial(uneven.turn, clock=clock)}
    timing = alternate(turns, rounds=5, seconds=2.0)["uneven"]
    assert isinstance(timing, Timing) and dataclasses.astuple(timing)[:4] == (5, 4000.0, 1000.0, 9000.0)


def test_faults_are_the_median_of_the_rounds_a_step():
    faults = iter([1000, 40, 20, 600])  # the first turn finds out how many steps a turn is: two
    turns = {"one": lambda steps: Turn(0.5 * steps, next(faults))}
    timing = alternate(turns, rounds=3, seconds=1.0)["one"]
    assert isinstance(timing, Timing) and (timing.median_ms, timing.minor_faults) == (500, 20)
    uncounted = alternate({"one": lambda steps: Turn(0.5 * steps)}, rounds=1, seconds=1.0)["one"]
    assert isinstance(uncounted, Timing) and uncounted.minor_faults is None


@pytest.mark.skipif(sys.platform != "linux", reason="others count otherwise")
def test_minor_faults_are_pages_of_memory_that_were_touched():
    faults = timed(lambda: np.ones(2**24)).minor_faults  # 128 MiB
    assert faults is not None and faults > 30  # 4 KiB each, or 2 MiB
    assert (timed(lambda: None).minor_faults or 0) < 30


def test_ratios_and_the_bound():
    clock = FakeClock()
    ours, other = Fake("ours", clock, 2.0), Fake("other", clock, 7.0)
    found = rows_of([ours, other], clock, bound=Bound(flops=10**9, peak=1e9))
    assert found["ours"].ratio_to_ours == 1 and found["other"].ratio_to_ours == pytest.approx(3.5)
    assert found["other"].bound_ms == pytest.approx(1000) and found["other"].times_bound == pytest.approx(7)
    assert (found["ours"].max_rel_error, found["ours"].note, found["ours"].version) == (0, "", "1.0")


def test_a_wrong_meta_gradient_is_marked_and_keeps_its_time():
    clock = FakeClock()
    off = Fake("off", clock, 2.0, gradient={"w": np.array([3.0, 4.05])})
    near = Fake("near", clock, 2.0, gradient={"w": np.array([3.0, 4.0001])})
    lacking = Fake("lacking", clock, 2.0, gradient={"v": np.zeros(2)})
    not_finite = Fake("not_finite", clock, 2.0, gradient={"w": np.array([3.0, np.nan])})
    found = rows_of([off, near, lacking, not_finite], clock)
    assert found["off"].note == "wrong meta-gradient: relative error 0.01"
    assert found["off"].max_rel_error == pytest.approx(0.01) and found["off"].median_ms == pytest.approx(2000)
    assert found["near"].note == ""
    assert "wrong meta-gradient" in found["lacking"].note and "wrong meta-gradient" in found["not_finite"].note
    assert (
        rows_of([Fake("off", clock, 2.0, gradient={"w": np.array([3.0, 4.05])})], clock, tolerance=0.02)["off"].note
        == ""
    )


def test_a_gradient_is_wrong_when_it_is_wrong_on_every_batch():
    clock = FakeClock()
    near, off, far = ({"w": np.array([3.0, 4.0 + by])} for by in (1e-4, 0.05, 0.5))
    kinks, wrong = (
        Fake("kinks", clock, 2.0, gradient=[far, near, off]),
        Fake("wrong", clock, 2.0, gradient=[far, off, far]),
    )
    found = rows_of([kinks, wrong], clock)
    assert found["kinks"].note == "" and found["kinks"].max_rel_error == pytest.approx(2e-5)
    assert found["wrong"].note == "wrong meta-gradient: relative error 0.01"


def test_the_relative_error_is_of_the_whole_gradient():
    reference = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert relative_error({"a": np.array([3.0]), "b": np.array([4.5])}, reference) == pytest.approx(0.1)
    assert relative_error({"a": np.array([3.0])}, reference) == math.inf


def test_who_is_missing_or_fails_has_a_row_with_the_reason():
    clock = FakeClock()
    found = rows_of(
        [
            Fake("ours", clock, 2.0),
            Fake("absent", clock, 2.0, missing="not installed: absent"),
            Fake("unprepared", clock, 2.0, fails="prepare"),
            Fake("quitter", clock, 2.0, fails="run"),
        ],
        clock,
    )
    assert found["absent"].note == "not installed: absent"
    assert found["unprepared"].note == "failed: RuntimeError: cannot do this at all"
    assert found["quitter"].note == "failed: ValueError: gave up"
    for name in ("absent", "unprepared", "quitter"):
        assert found[name].median_ms is None and found[name].ratio_to_ours is None
    assert found["ours"].median_ms == pytest.approx(2000)


def test_a_default_process_is_compared_with_ours_in_the_one_that_keeps_its_memory():
    clock = FakeClock()
    made = [Fake("ours", clock, 2.0), Fake("other", clock, 3.0), Fake("ours", clock, 4.0), Fake("other", clock, 8.0)]
    for contender, process in zip(made, (KEPT, KEPT, DEFAULT, DEFAULT), strict=True):
        contender.process = process
    found = contest("fake", PROBLEM, made, Settings(rounds=1, seconds=1.0), truth=Truth(lambda _: RIGHT), clock=clock)
    assert [(row.contender, row.process, row.ratio_to_ours) for row in found] == [
        ("ours", KEPT, 1.0), ("other", KEPT, 1.5), ("ours", DEFAULT, 2.0), ("other", DEFAULT, 4.0),
    ]  # fmt: skip


def test_without_ours_there_are_no_ratios():
    clock = FakeClock()
    assert rows_of([Fake("other", clock, 2.0)], clock)["other"].ratio_to_ours is None


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.0}])
def test_impossible_settings_are_errors(wrong):
    with pytest.raises(ConfigError):
        Settings(**wrong)
