"""`--check` fails when a ratio halves, and only then."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.speed.check import CASES, FILE, judge
from benchmarks.speed.rows import Row, read
from innerloop.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def loop(ratio, case="sine", **changes):
    row = Row(benchmark="check", case=case, contender="plain_loop", threads=1, machine="this", ratio_to_ours=ratio)
    return dataclasses.replace(row, **changes)


def halved(measured, *stored):
    return [verdict.halved for verdict in judge([measured], stored)]


def test_a_ratio_has_halved_below_half_of_the_stored_one():
    assert halved(loop(5.1), loop(10.0)) == [False]
    assert halved(loop(4.9), loop(10.0)) == [True]
    assert halved(loop(40.0), loop(10.0)) == [False]


def test_this_machines_last_row_counts_before_others():
    other = loop(100.0, machine="other")
    assert halved(loop(5.1), other, loop(50.0, commit="a"), loop(10.0, commit="b")) == [False]
    assert halved(loop(5.1), loop(10.0, commit="a"), loop(50.0, commit="b")) == [True]


def test_on_a_new_machine_the_smallest_stored_ratio_counts():
    stored = [loop(100.0, machine="a"), loop(8.0, machine="b")]
    assert halved(loop(5.0), *stored) == [False]
    assert halved(loop(3.9), *stored) == [True]


def test_what_could_not_be_measured_has_halved_and_says_why():
    failed = [loop(None), loop(None, contender="ours", note="failed: OSError: no")]
    (verdict,) = judge(failed, [loop(2.0)])
    assert verdict.halved and "failed: OSError: no" in str(verdict)


def test_every_case_has_a_stored_ratio():
    stored = {row.case for row in read(ROOT / "benchmarks" / "results" / FILE) if row.ratio_to_ours is not None}
    wanted = {f"{name}: {make().case}" for name, make in CASES}
    assert wanted - stored == set(), "run python -m benchmarks.speed check"


def test_a_case_without_a_stored_ratio_is_an_error():
    with pytest.raises(InputError, match=r"python -m benchmarks\.speed check"):
        judge([loop(5.0)], [loop(5.0, case="conv4")])
