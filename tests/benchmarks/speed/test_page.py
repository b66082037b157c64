"""docs/speed.md says what the CSV files say."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.speed import BENCHMARKS
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.page import BEGIN, END, rendered, tables, update
from benchmarks.speed.rows import DEFAULT, KEPT, Row, write
from innerloop.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert rendered(text, ROOT / "benchmarks" / "results") == text, "run python -m benchmarks.speed --page"


def test_every_contender_is_explained():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert [name for name in CONTENDERS if f"`{name}`" not in text] == []


def test_tables_hold_the_numbers_and_the_reasons(tmp_path):
    measured = Row(
        benchmark="sine", case="a case", contender="ours", version="1", threads=1, machine="CPU", rounds=9,
        median_ms=1.5, min_ms=1.25, max_ms=2.0, ratio_to_ours=1.0, times_bound=3.14,
    )  # fmt: skip
    absent = Row(benchmark="sine", case="a case", contender="higher", threads=1, machine="CPU", note="a | reason")
    write(tmp_path / "sine.csv", [measured, absent])
    found = tables(tmp_path)
    assert "| a case | `ours` 1 | 1.5 (1.25-2) | 1.00 | 3.1 | - | - | 9 | - |" in found
    assert "| a case | `higher` | - | - | - | - | - | - | - | a / reason |" in found
    assert "CPU; 1 thread;" in found
    assert all(f"## {name}:" not in found for name in BENCHMARKS if name != "sine")


def test_both_processes_of_a_contender_are_in_one_line(tmp_path):
    kept = Row(
        benchmark="sine", case="a case", contender="higher", process=KEPT, threads=1, machine="CPU", rounds=9,
        median_ms=3.0, min_ms=2.5, max_ms=4.0, minor_faults=2.0, ratio_to_ours=2.0, times_bound=6.0,
    )  # fmt: skip
    default = dataclasses.replace(kept, process=DEFAULT, median_ms=4.5, minor_faults=117000.0, ratio_to_ours=3.0)
    write(tmp_path / "sine.csv", [kept, default])
    assert "| a case | `higher` | 3 (2.5-4) | 2.00 | 6.0 | 2 | 4.5; 3.00; 117,000 | 9 | - |" in tables(tmp_path)
    failed = Row(
        benchmark="sine", case="a case", contender="higher", process=DEFAULT, threads=1, machine="CPU", note="no"
    )
    write(tmp_path / "sine.csv", [failed])
    assert "| 2 | no | 9 |" in tables(tmp_path)


def test_the_scaling_rows_are_drawn_beside_the_page(tmp_path):
    for case in ("tasks 1", "tasks 8", "inner steps 2", "parameters 1000"):
        row = Row(benchmark="scaling", case=case, contender="ours", threads=1, machine="CPU", median_ms=2.0)
        write(tmp_path / "scaling.csv", [row])
    page = tmp_path / "speed.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    update(page, tmp_path)
    assert "![scaling](scaling.png)" in page.read_text()
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_without_the_marks_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"^speed\.md expected the marks"):
        rendered("# Speed", tmp_path)
