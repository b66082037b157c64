"""The tables of docs/speed.md, made from the CSV files; what a person wrote around them stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.marked_text import Column, replaced, table
from benchmarks.speed import BENCHMARKS
from benchmarks.speed.rows import DEFAULT, Row, latest, read

BEGIN = "<!-- tables from benchmarks/results: python -m benchmarks.speed --page -->"
END = "<!-- end of the tables -->"
_PLOTTED = "scaling"  # its rows are shown as a picture, too, beside the page


def _number(value: float | None, form: str = "{:.3g}") -> str:
    return "-" if value is None else form.format(value)


def _time(row: Row) -> str:
    if row.median_ms is None:
        return "-"
    return f"{row.median_ms:.3g} ({_number(row.min_ms)}-{_number(row.max_ms)})"


class _Line(NamedTuple):
    """A contender in a case: its row of the process that keeps its memory (or an older row), and of a default process."""

    row: Row
    other: Row | None = None


def _lines(rows: Sequence[Row]) -> list[_Line]:
    others = {(r.case, r.contender): r for r in rows if r.process == DEFAULT}
    first = [row for row in rows if row.process != DEFAULT]
    return [_Line(row, others.get((row.case, row.contender))) for row in first]


def _faults(row: Row) -> str:
    return "-" if row.minor_faults is None else f"{round(row.minor_faults):,}"


def _default(line: _Line) -> str:
    """What a default process took: milliseconds, times ours (in the process that keeps its memory), faults."""
    other = line.other
    if other is None or other.median_ms is None:
        return "-" if other is None or not other.note else other.note
    return f"{other.median_ms:.3g}; {_number(other.ratio_to_ours, '{:.2f}')}; {_faults(other)}"


_CASE: Column[_Line] = ("case", lambda n: n.row.case)
_WHO: Column[_Line] = ("contender", lambda n: f"`{n.row.contender}` {n.row.version}".strip())
_TIME: Column[_Line] = ("ms a step: median (least-most)", lambda n: _time(n.row))
_RATIO: Column[_Line] = ("times ours", lambda n: _number(n.row.ratio_to_ours, "{:.2f}"))
_BOUND: Column[_Line] = ("times the bound", lambda n: _number(n.row.times_bound, "{:.1f}"))
_FAULTS: Column[_Line] = ("faults a step", lambda n: _faults(n.row))
_DEFAULT: Column[_Line] = ("in a default process: ms; times ours; faults", _default)
_ROUNDS: Column[_Line] = ("rounds", lambda n: _number(n.row.rounds, "{}"))
_COMMIT: Column[_Line] = ("commit", lambda n: n.row.commit or "-")
_NOTE: Column[_Line] = ("note", lambda n: n.row.note)
_MEMORY: Column[_Line] = ("peak MiB", lambda n: _number(n.row.peak_mib))

_STEP = (_CASE, _WHO, _TIME, _RATIO, _BOUND, _FAULTS, _DEFAULT, _ROUNDS, _COMMIT, _NOTE)
_COLUMNS: dict[str, tuple[Column[_Line], ...]] = {
    "memory": (_CASE, _WHO, _MEMORY, _RATIO, _COMMIT, _NOTE),
    "startup": (
        ("command", lambda n: f"`{n.row.contender}`"),
        ("ms: median (least-most)", lambda n: _time(n.row)),
        _ROUNDS,
        _COMMIT,
        _NOTE,
    ),
}


def tables(results: Path) -> str:
    """All tables of the CSV files in a folder, in the order of the benchmarks; the last row of each thing measured."""
    lines: list[str] = []
    for name, entry in BENCHMARKS.items():
        rows = latest(read(results / f"{name}.csv"))
        if not rows:
            continue
        lines += [f"## {name}: {entry.summary}", ""]
        for machine, threads in dict.fromkeys((row.machine, row.threads) for row in rows):
            here = [row for row in rows if (row.machine, row.threads) == (machine, threads)]
            lines += [f"{machine}; {threads} thread{'' if threads == 1 else 's'}; torch {here[-1].torch}.", ""]
            lines += [*table(_COLUMNS.get(name, _STEP), _lines(here)), ""]
        if name == _PLOTTED:
            lines += [f"![{name}]({name}.png)", ""]
    return "\n".join(lines)


def rendered(text: str, results: Path, page: Path = Path("speed.md")) -> str:
    """A page's text with its tables made anew.

    Raises:
        InputError: the two marks between which they stand are not there.
    """
    return replaced(text, BEGIN, END, tables(results), page)


def update(page: Path, results: Path) -> None:
    """Write the page anew from the CSV files in ``results``, and the plot beside it."""
    from benchmarks.speed import scaling

    if rows := [row for row in latest(read(results / f"{_PLOTTED}.csv")) if row.process != DEFAULT]:
        scaling.plot(rows, page.parent / f"{_PLOTTED}.png")
    page.write_text(rendered(page.read_text(encoding="utf-8"), results, page), encoding="utf-8")
