"""The tables of docs/speed.md, made from the CSV files; what a person wrote around them stays."""

from __future__ import annotations

from pathlib import Path

from benchmarks.marked_text import Column, replaced, table
from benchmarks.speed import BENCHMARKS
from benchmarks.speed.rows import Row, latest, read

BEGIN = "<!-- tables from benchmarks/results: python -m benchmarks.speed --page -->"
END = "<!-- end of the tables -->"
_PLOTTED = "scaling"  # its rows are shown as a picture, too, beside the page


def _number(value: float | None, form: str = "{:.3g}") -> str:
    return "-" if value is None else form.format(value)


def _time(row: Row) -> str:
    if row.median_ms is None:
        return "-"
    return f"{row.median_ms:.3g} ({_number(row.min_ms)}-{_number(row.max_ms)})"


_CASE: Column[Row] = ("case", lambda r: r.case)
_WHO: Column[Row] = ("contender", lambda r: f"`{r.contender}` {r.version}".strip())
_TIME: Column[Row] = ("ms a step: median (least-most)", _time)
_RATIO: Column[Row] = ("times ours", lambda r: _number(r.ratio_to_ours, "{:.2f}"))
_BOUND: Column[Row] = ("times the bound", lambda r: _number(r.times_bound, "{:.1f}"))
_ROUNDS: Column[Row] = ("rounds", lambda r: _number(r.rounds, "{}"))
_COMMIT: Column[Row] = ("commit", lambda r: r.commit or "-")
_NOTE: Column[Row] = ("note", lambda r: r.note)
_MEMORY: Column[Row] = ("peak MiB", lambda r: _number(r.peak_mib))

_STEP = (_CASE, _WHO, _TIME, _RATIO, _BOUND, _ROUNDS, _COMMIT, _NOTE)
_COLUMNS: dict[str, tuple[Column[Row], ...]] = {
    "memory": (_CASE, _WHO, _MEMORY, _RATIO, _COMMIT, _NOTE),
    "startup": (("command", lambda r: f"`{r.contender}`"), ("ms: median (least-most)", _time), _ROUNDS, _COMMIT, _NOTE),
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
            lines += [*table(_COLUMNS.get(name, _STEP), here), ""]
        if name == _PLOTTED:
            lines += [f"![{name}]({name}.png)", ""]
    return "\n".join(lines)


def rendered(text: str, results: Path) -> str:
    """A page's text with its tables made anew.

    Raises:
        InputError: the two marks between which they stand are not there.
    """
    return replaced(text, BEGIN, END, tables(results))


def update(page: Path, results: Path) -> None:
    """Write the page anew from the CSV files in ``results``, and the plot beside it."""
    from benchmarks.speed import scaling

    if rows := latest(read(results / f"{_PLOTTED}.csv")):
        scaling.plot(rows, page.parent / f"{_PLOTTED}.png")
    page.write_text(rendered(page.read_text(encoding="utf-8"), results), encoding="utf-8")
