"""A table of what is known of items, one row each: films with their genres, products with their prices."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from innerloop.data.table_cells import Loud
from innerloop.data.table_items import ItemFacts, item_name
from innerloop.data.table_preprocessing import fit_columns, raw
from innerloop.data.tables import Table
from innerloop.errors import InputError

_BETWEEN = "|"  # words of a list in one cell
_LISTS = 0.1  # of the cells at least, where they are lists
_WORDS = 30  # at most, which get a number each
_YEAR = re.compile(r"\(((?:1[5-9]|20)\d\d)\)\s*$")
_YEARS = 0.5  # of the cells at least, where texts end in a year


def item_facts(table: Table, column: str, trained: Collection[str], cells: np.ndarray) -> tuple[ItemFacts, list[str]]:
    """(what is known of each item, notes).

    Every other column becomes numbers as a table's columns do, by the rows of the items that training has seen; a column of
    lists such as "Action|Comedy" becomes a 0 or 1 for each word, and texts that end in a year, "Alien (1979)", that year.

    Args:
        table: one row an item.
        column: names the items, there as in the rows.
        trained: items that the rows of the training tasks name.
        cells: that name items in all rows.

    Raises:
        InputError: no such column, an item that comes twice, items that most rows do not name, or nothing known of any.
    """
    table.expect(column)
    names = [item_name(cell) for cell in table.texts[column]]
    twice = next((name for name, count in Counter(names).items() if name is not None and count > 1), None)
    if twice is not None:
        raise InputError(
            f"{table.name}: expected each {column!r} in one row, got {twice[:40]!r} in {names.count(twice)}; keep one row of each"
        )
    known = set(names) - {None}
    lost = [name for name in map(item_name, cells) if name is not None and name not in known]
    if len(lost) > 0.5 * len(cells):
        raise InputError(
            f"{table.name}: expected the rows' items in {column!r}, got none for {len(lost)} of {len(cells)} rows, such as "
            f"{lost[0][:40]!r}; give the table of these items"
        )
    notes: list[str] = []
    if lost:
        notes.append(
            Loud(
                f"{table.name} lacks {len(set(lost))} items of {len(lost)} rows, such as {lost[0][:40]!r}; its columns count as "
                "missing there"
            )
        )
    rows = np.array([name is not None for name in names])
    table = table.take(np.flatnonzero(rows))
    items = [name for name in names if name is not None]
    lists = [name for name in table.columns if name != column and _are_lists(table, name)]
    dated = {name: found for name in table.columns if (found := _years(table, name)) is not None}
    years = {f"{name}: year": found for name, found in dated.items()}
    own = [name for name in table.columns if name not in (column, *lists, *dated) and _names_items(table, name)]
    notes += [f"{table.name}: column {name!r} is left out: another text for each item" for name in own]
    words = {f"{name}: {word}": has for name in lists for word, has in _words(table, name).items()}
    table = table.without([column, *lists, *own, *dated]).beside({**words, **years})
    shown = np.array([name in trained for name in items], dtype=bool)
    trained_rows = table.take(np.flatnonzero(shown))
    columns, more = fit_columns(trained_rows, table.index, quantities=tuple(years)) if shown.any() else ((), [])
    notes += [
        type(note)(f"{table.name}: {note}")
        for note in more
        if not note.startswith(tuple(f"column {w!r} " for w in words))
    ]
    columns = tuple(dataclasses.replace(c, mean=0.0, std=1.0) if c.name in words else c for c in columns)
    if not columns:
        raise InputError(f"{table.name}: expected columns that tell items apart beside {column!r}, got none; add some")
    named = [f"{c.name} {i + 1}" if c.width > 1 else c.name for c in columns for i in range(c.width)]
    values = tuple(tuple(_short(v) for v in row) for row in raw(table, columns).tolist())
    return ItemFacts(tuple(named), tuple(items), values), notes


def _short(value: float) -> float | None:
    """Six digits are as exact as training needs, and short in a file."""
    return None if value != value else float(f"{value:.6g}")


def _names_items(table: Table, name: str) -> bool:
    """Texts that never come twice say no more than the item's own name."""
    cells = [cell for cell in table.texts[name] if cell is not None]
    return not table.is_number(name) and len(set(cells)) == len(cells)


def _years(table: Table, name: str) -> np.ndarray | None:
    """The years that texts end in, NaN for a text that does not; None where most do not."""
    if table.is_number(name):
        return None
    found = [None if cell is None else _YEAR.search(cell) for cell in table.texts[name]]
    there = sum(match is not None for match in found)
    return np.array([float(m[1]) if m else np.nan for m in found]) if there > _YEARS * len(found) else None


def _are_lists(table: Table, name: str) -> bool:
    """Texts of which many have a bar, made of fewer words than there are texts."""
    cells = [cell for cell in table.texts[name] if cell is not None]
    several = [cell for cell in cells if _BETWEEN in cell]
    return len(several) > _LISTS * len(cells) and len({w for cell in cells for w in _apart(cell)}) < len(set(cells))


def _apart(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(_BETWEEN) if word.strip()]


def _words(table: Table, name: str) -> dict[str, np.ndarray]:
    """The most frequent words -> 1 for the rows that have it, 0 for others, NaN where the cell is missing."""
    cells: Sequence[str | None] = table.texts[name].tolist()
    lists = [None if cell is None else set(_apart(cell)) for cell in cells]
    counts = Counter(word for own in lists if own is not None for word in own)
    most = sorted(word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_WORDS])
    return {word: np.array([np.nan if own is None else float(word in own) for own in lists]) for word in most}
