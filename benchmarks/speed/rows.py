"""One measured line, and the CSV files that hold them."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import InputError

# A new measurement of the same thing replaces the old one; of another commit or machine it stands beside it.
KEY = ("benchmark", "case", "contender", "process", "threads", "machine", "commit")
KEPT, DEFAULT = "kept", "default"  # a row's process: one that keeps the memory it frees, or one as the system starts it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What one contender took in one case; numbers that were not measured are None and empty in the file.

    Attributes:
        benchmark, case, contender: what was measured.
        process: "kept": one process of all contenders of the case, which keeps the memory it frees; "default": a process in
            which nothing was set; empty where it does not matter, and where all were in one process that does not keep it: in
            older rows, and where the C library cannot.
        version: of the contender's library.
        threads: CPU threads that all contenders of the run were held to.
        machine: the processor's model.
        torch: its version.
        commit: of innerloop, with "+" where the source had changes.
        rounds: how many were timed.
        median_ms, min_ms, max_ms: of the rounds' mean time for one outer step, milliseconds.
        minor_faults: pages that the system filled with zeros in one step, the median of the rounds.
        ratio_to_ours: this contender's median over that of "ours" in the process that keeps its memory, whichever process this
            row is of; in the memory benchmark, of peak_mib.
        max_rel_error: |g - reference| / |reference| of the whole meta-gradient, the reference in float64; of the first batch
            on which it is within the tolerance, else the least of the batches (see `harness.Truth`).
        flops: multiplications and additions of the plain loop's matrix products and convolutions in one step.
        bound_ms: ``flops`` at this machine's measured fp32 matrix peak.
        times_bound: median_ms / bound_ms.
        peak_mib: memory the step took beyond what was resident before it, MiB (memory benchmark).
        note: why numbers are missing, or what is wrong with them.
    """

    benchmark: str
    case: str
    contender: str
    process: str = ""
    version: str = ""
    threads: int | None = None
    machine: str = ""
    torch: str = ""
    commit: str = ""
    rounds: int | None = None
    median_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    minor_faults: float | None = None
    ratio_to_ours: float | None = None
    max_rel_error: float | None = None
    flops: int | None = None
    bound_ms: float | None = None
    times_bound: float | None = None
    peak_mib: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in KEY)


FIELDS = tuple(f.name for f in dataclasses.fields(Row))
_INTEGERS = {"threads", "rounds", "flops"}
_NUMBERS = {
    *("median_ms", "min_ms", "max_ms", "minor_faults", "ratio_to_ours"),
    *("max_rel_error", "bound_ms", "times_bound", "peak_mib"),
}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if name in _NUMBERS else str(value)


def rounded(row: Row) -> Row:
    """The row as it comes back from a file: four significant digits."""
    return _parsed({name: _cell(name, getattr(row, name)) for name in FIELDS})


def _parsed(cells: dict[str, str]) -> Row:
    values: dict[str, Any] = {}
    for name in FIELDS:
        text = cells.get(name) or ""
        if name in _INTEGERS:
            values[name] = int(text) if text else None
        elif name in _NUMBERS:
            values[name] = float(text) if text else None
        else:
            values[name] = text
    return Row(**values)


def read(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file.

    Raises:
        InputError: a file that is not one of ours.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lacking = {"benchmark", "case", "contender", "median_ms"} - set(reader.fieldnames or ())
        if lacking:
            raise InputError(
                f"{path} expected the columns of a benchmark, got none named {sorted(lacking)[0]}; move it"
            )
        try:
            return [_parsed(cells) for cells in reader]
        except ValueError as error:
            raise InputError(
                f"{path} expected numbers in its columns, got a row with {error}; mend or move it"
            ) from error


def write(path: Path, rows: Iterable[Row]) -> None:
    """Add ``rows`` to a file: they come last, without those of the same keys. The whole file or none is written."""
    merged = {row.key: row for row in read(path)}
    for row in rows:
        merged.pop(row.key, None)
        merged[row.key] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            for row in merged.values():
                writer.writerow([_cell(name, getattr(row, name)) for name in FIELDS])
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def latest(rows: Sequence[Row]) -> list[Row]:
    """For each case, contender, thread number, machine and kind of process, the row that was written last.

    Those from before there were two kinds give way to those of the process that keeps its memory, which came in their place.
    """
    found = {(r.benchmark, r.case, r.contender, r.threads, r.machine, r.process == DEFAULT): r for r in rows}
    return list(found.values())
