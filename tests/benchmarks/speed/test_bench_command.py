"""`python -m benchmarks.speed`, at its smallest sizes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed import rows
from benchmarks.speed.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


def error_of(capsys, *argv):
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("innerloop: error: ")
    return said.err


def test_wrong_words_are_one_line_and_exit_code_2(tmp_path, capsys):
    assert "did you mean 'sine'?" in error_of(capsys, "sien")
    assert "did you mean 'plain_loop'?" in error_of(capsys, "sine", "--contenders", "plain_lop")
    assert "--rounds" in error_of(capsys, "sine", "--rounds", "0")
    assert "--threads" in error_of(capsys, "sine", "--tiny", "--threads", "0")
    assert "--threads" in error_of(capsys, "sine", "--tiny", "--threads", "100000")
    assert "--check" in error_of(capsys, "sine", "--check")
    assert "python -m benchmarks.speed check" in error_of(capsys, "--check", "--out", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert "--out" in error_of(capsys, "sine", "--out", str(tmp_path / "file"))
    assert "expected names" in error_of(capsys, "sine", "--contenders", ",")


def test_wrong_words_and_help_need_no_torch():
    code = (
        "import sys; from benchmarks.speed.__main__ import main; "
        "codes = main(['--help']), main(['sien']), main(['sine', '--contenders', 'x']); "
        "assert 'torch' not in sys.modules; assert codes == (0, 2, 2), codes"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--check" in done.stdout


@pytest.mark.slow
def test_json_holds_rows_and_nothing_of_the_process_is_changed(capsys, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    line = "sine --tiny --rounds 1 --contenders ours_looped,plain_loop,higher --json"
    assert main(line.split()) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == ""
    held = [(row["contender"], row["process"]) for row in found["rows"]]
    kinds = dict.fromkeys(kind for _, kind in held)
    assert held[:3] == [(name, next(iter(kinds))) for name in ("ours_looped", "plain_loop", "higher")]
    assert held[3:] == [(name, rows.DEFAULT) for name in ("plain_loop", "higher") if rows.KEPT in kinds]
    assert found["rows"][0]["median_ms"] > 0 and found["rows"][0]["max_rel_error"] < 1e-4
    for row in found["rows"]:
        assert row["median_ms"] or row["note"].startswith("not installed")
    assert (os.sched_getaffinity(0) if before is not None else None) == before
    assert torch.get_num_threads() == 1 and "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.fixture
def small(monkeypatch):
    """The benchmarks at their smallest sizes, but written to files."""
    from benchmarks.speed import settings

    real = settings.Settings
    monkeypatch.setattr(settings, "Settings", lambda **given: real(**{**given, "tiny": True, "seconds": 0.01}))


def test_rows_are_written_and_replaced(tmp_path, capsys, small):
    line = ["sine", "--rounds", "1", "--contenders", "plain_loop", "--out", str(tmp_path)]
    assert main(line) == 0 and main(line) == 0
    row, *other = rows.read(tmp_path / "sine.csv")
    assert [r.process for r in other] == ([rows.DEFAULT] if row.process == rows.KEPT else [])
    assert (row.benchmark, row.contender, row.threads, row.rounds) == ("sine", "plain_loop", 1, 1)
    assert row.median_ms > 0 and row.flops > 0 and row.times_bound > 1
    assert row.machine.endswith("cores") and row.torch == torch.__version__
    assert "sine.csv" in capsys.readouterr().out


@pytest.mark.long  # it measures three times; what is judged how has tests of its own
def test_check_fails_when_the_stored_ratio_was_more_than_twice_as_high(tmp_path, capsys, small):
    assert main(["check", "--rounds", "3", "--out", str(tmp_path)]) == 0
    path = tmp_path / "check.csv"
    stored = rows.read(path)

    def store(factor):
        path.unlink()
        changed = [dataclasses.replace(row, ratio_to_ours=row.ratio_to_ours * factor) for row in stored]
        rows.write(path, changed)
        return main(["--check", "--out", str(tmp_path)])

    capsys.readouterr()
    assert store(0.5) == 0
    assert "ok" in capsys.readouterr().out
    assert store(10) == 1
    assert "HALVED" in capsys.readouterr().out


@pytest.mark.slow
def test_startup_and_memory_measure_processes(capsys):
    assert main(["startup", "memory", "--tiny", "--rounds", "1", "--contenders", "plain_loop", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    startup = {row["contender"]: row for row in found if row["benchmark"] == "startup"}
    assert startup["innerloop --help"]["median_ms"] > 1
    (memory,) = [row for row in found if row["benchmark"] == "memory"]
    # Some ten copies of a million parameters, 4 MB each.
    assert "Linux" in memory["note"] or 15 < memory["peak_mib"] < 200


def test_page_outside_the_source_tree_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "source tree" in error_of(capsys, "--page")
