"""CSV files come back as they were written; the same thing measured again replaces its row."""

import csv
import dataclasses

import pytest

from benchmarks.speed.rows import DEFAULT, FIELDS, KEPT, Row, latest, read, rounded, write
from innerloop.errors import InputError

ROW = Row(
    benchmark="sine",
    case="25 tasks, 5 steps",
    contender="ours",
    process=KEPT,
    version="0.1.0",
    threads=1,
    machine="Some CPU, 2 cores",
    torch="2.13.0",
    commit="abc",
    rounds=9,
    median_ms=1.23456,
    min_ms=1.0,
    max_ms=12345.6,
    minor_faults=168123.4,
    ratio_to_ours=1.0,
    max_rel_error=1.2e-07,
    flops=39800000,
    bound_ms=0.4,
    times_bound=3.1,
    note='a "quoted", note',
)
ABSENT = Row(benchmark="sine", case="25 tasks, 5 steps", contender="absent", threads=1, note="not installed: absent")


def test_round_trip(tmp_path):
    path = tmp_path / "sub" / "sine.csv"
    write(path, [ROW, ABSENT])
    found = read(path)
    assert found == [rounded(ROW), ABSENT]
    assert found[0].process == KEPT and found[0].minor_faults == 168100
    assert found[0].median_ms == 1.235 and found[0].flops == 39800000 and found[1].median_ms is None
    assert path.read_text().splitlines()[0] == ",".join(FIELDS)
    assert [p.name for p in path.parent.iterdir()] == ["sine.csv"]


def test_the_same_again_replaces_and_anything_else_stands_beside(tmp_path):
    path = tmp_path / "sine.csv"
    write(path, [ROW])
    write(path, [dataclasses.replace(ROW, median_ms=9.0), dataclasses.replace(ROW, commit="def", median_ms=2.0)])
    write(
        path, [dataclasses.replace(ROW, threads=2, median_ms=3.0), dataclasses.replace(ROW, machine="x", median_ms=4.0)]
    )
    assert sorted(row.median_ms for row in read(path)) == [2, 3, 4, 9]
    assert sorted(row.median_ms for row in latest(read(path))) == [2, 3, 4]  # of one commit the later one
    write(path, [ROW])
    assert 1.235 in [row.median_ms for row in latest(read(path))]


def test_rows_from_before_there_were_two_processes_are_read_and_give_way(tmp_path):
    path = tmp_path / "sine.csv"
    write(path, [dataclasses.replace(ROW, process="", minor_faults=None, commit="old")])
    lines = path.read_text().splitlines()
    places = [i for i, name in enumerate(FIELDS) if name not in ("process", "minor_faults")]
    with path.open(newline="") as file:
        cells = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([[row[i] for i in places] for row in cells])
    assert path.read_text().splitlines() != lines
    (old,) = read(path)
    assert (old.process, old.minor_faults, old.median_ms) == ("", None, 1.235)
    write(path, [ROW, dataclasses.replace(ROW, process=DEFAULT, median_ms=2.0)])
    assert len(read(path)) == 3
    assert [(row.process, row.commit) for row in latest(read(path))] == [(KEPT, "abc"), (DEFAULT, "abc")]


def test_what_is_no_file_of_ours_is_an_error(tmp_path):
    path = tmp_path / "sine.csv"
    assert read(path) == []
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns"):
        read(path)
    write(tmp_path / "ok.csv", [ROW])
    path.write_text((tmp_path / "ok.csv").read_text().replace("1.235", "fast"))
    with pytest.raises(InputError, match="numbers"):
        read(path)
