"""Tables for the terminal: aligned columns of plain text, nothing a log file or a narrow font would spoil."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

from innerloop.errors import InputError

_NUMBER = re.compile(
    r"[<>~]?[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?"  # 1, -0.5, 1e-3
    r"( ± [\d.]+(e[-+]?\d+)?)?"  # an interval
    r"( ?(%|ms|s|min|h|min \d+ s|h \d+ min))?",  # a unit
    re.IGNORECASE,
)


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with or without an interval and a unit."""
    return _NUMBER.fullmatch(cell) is not None


def _pad(cell: str, columns: int, right: bool) -> str:
    space = " " * (columns - cell_len(cell))
    return space + cell if right else cell + space


def align_right(rows: Sequence[Sequence[str]], columns: int) -> list[bool]:
    """Which columns stand to the right: those whose cells are numbers, dashes for missing ones aside."""
    decided = []
    for i in range(columns):
        cells = [row[i] for row in rows if row[i] not in ("", "-", "–")]
        decided.append(bool(cells) and all(is_number(cell) for cell in cells))
    return decided


def text_table(rows: Sequence[Sequence[object]], header: Sequence[str] | None = None, *, ruled: bool = True) -> str:
    """Rows as aligned text, columns of numbers to the right, without a newline at the end.

    Args:
        rows: the cells; anything that ``str`` can show. Line breaks inside a cell become spaces.
        header: names of the columns; None: no header.
        ruled: a line of dashes below the header.

    Raises:
        InputError: rows of different lengths.
    """
    cells = [[" ".join(str(cell).split()) for cell in row] for row in rows]
    names = [" ".join(str(name).split()) for name in header] if header is not None else None
    lengths = {len(row) for row in cells} | ({len(names)} if names is not None else set())
    if len(lengths) > 1:
        raise InputError(
            f"a table expected rows of one length, got lengths {sorted(lengths)}; fill missing cells with ''"
        )
    if not lengths:
        return ""
    columns = lengths.pop()
    right = align_right(cells, columns)
    every = ([names] if names is not None else []) + cells
    widths = [max(cell_len(row[i]) for row in every) for i in range(columns)]
    if names is not None and ruled:
        every.insert(1, ["-" * w for w in widths])
    lines = (
        "  ".join(_pad(cell, w, r) for cell, w, r in zip(row, widths, right, strict=True)).rstrip() for row in every
    )
    return "\n".join(lines)
