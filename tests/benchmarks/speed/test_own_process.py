"""Contenders in processes of their own: what ends one is told in one line, and the others go on."""

import sys
import types

import pytest
from fakes import RIGHT, elsewhere

from benchmarks.speed.contenders.contender import ContenderError
from benchmarks.speed.harness import Truth, contest
from benchmarks.speed.own_process import OwnProcess
from benchmarks.speed.rows import DEFAULT, KEPT
from benchmarks.speed.settings import Settings

PROBLEM = types.SimpleNamespace(case="made up", kind="gradient")
SETTINGS = Settings(rounds=2, seconds=0.01)


def test_whoever_ends_the_process_has_a_row_with_one_line_and_the_others_have_numbers():
    names = ["ours", "crashes", "leaves", "hangs", "raises", "other"]
    with OwnProcess(names, keep=False, threads=1, make=elsewhere, limit=5) as process:
        assert process.kind == DEFAULT
        found = contest("fake", PROBLEM, process.contenders, SETTINGS, truth=Truth(lambda _: RIGHT))
    rows = {row.contender: row for row in found}
    assert list(rows) == names and {row.process for row in found} == {DEFAULT}
    assert {name: rows[name].note for name in names} == {
        "ours": "",
        "crashes": "failed: its process was ended by SIGABRT",
        "leaves": "failed: its process ended with exit code 3",
        "hangs": "failed: not done within 5 s",
        "raises": "failed: ValueError: gave up at once",
        "other": "",
    }
    for name in ("ours", "other"):
        assert rows[name].median_ms is not None and rows[name].max_rel_error == 0 and rows[name].version == "1.0"
    assert all(rows[name].median_ms is None for name in ("crashes", "leaves", "hangs", "raises"))


@pytest.mark.skipif(sys.platform != "linux", reason="it needs glibc")
def test_a_process_that_keeps_its_memory_has_no_page_faults(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    faults = {}
    for keep in (True, False):
        with OwnProcess(["touches"], keep=keep, threads=1, make=elsewhere) as process:
            if keep and process.kind != KEPT:
                pytest.skip("this C library is not glibc")
            (contender,) = process.contenders
            contender.prepare(PROBLEM)
            contender.run(3)
            faults[process.kind] = contender.turn(4).minor_faults / 4
    assert faults[KEPT] < 0.1 * faults[DEFAULT]


def test_where_memory_cannot_be_kept_the_rows_do_not_say_so(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")  # of the user's own, which is left as it is
    with OwnProcess(["other"], keep=True, threads=1, make=elsewhere) as process:
        assert process.kind == ""


def test_a_process_that_cannot_start_is_an_error_in_words(capfd):
    with pytest.raises(ContenderError, match="as it started"):
        OwnProcess(["no such contender"], keep=False, threads=1)
    capfd.readouterr()
