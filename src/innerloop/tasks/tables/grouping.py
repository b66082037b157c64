"""Which rows of a table make a task, and on which side of the split a task lies; both the same wherever they are asked for."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from innerloop.data.table_cells import Loud
from innerloop.data.tables import Table
from innerloop.errors import ConfigError, InputError

SPLITS = ("train", "valid", "test")
RULES = "--task-column NAME, --tasks-by class_pairs or --tasks-by ranges:NAME:5"


def rows_by_value(table: Table, column: str) -> tuple[dict[str, np.ndarray], int]:
    """(value -> its rows, how many rows have none), in order of first appearance."""
    cells = table.labels(column)
    found: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        if cell is not None:
            found.setdefault(str(cell), []).append(i)
    return {value: np.array(rows) for value, rows in found.items()}, sum(c is None for c in cells)


def rows_by_range(table: Table, rule: str) -> tuple[dict[str, np.ndarray], int]:
    """(range -> its rows, how many rows have no number) for a rule "ranges:COLUMN:N": N ranges of equally many rows."""
    words = rule.split(":")
    count = words[-1]
    if len(words) < 3 or not count.isdigit() or int(count) < 2:
        raise ConfigError(
            f"tasks_by expected 'ranges:COLUMN:N' with N of at least 2, got {rule!r}; for example ranges:age:6"
        )
    column = ":".join(words[1:-1])
    table.expect(column)
    if not table.is_number(column):
        raise InputError(f"{table.name}: ranges expected a column of numbers, got texts in {column!r}; use task_column")
    values = table.columns[column]
    present = np.flatnonzero(~np.isnan(values))
    edges = np.quantile(values[present], np.linspace(0, 1, int(count) + 1)[1:-1]) if len(present) else np.empty(0)
    piece = np.searchsorted(edges, values[present], side="right")
    found = {}
    for i in np.unique(piece):
        rows = present[piece == i]
        found[f"{column} {values[rows].min():.6g} to {values[rows].max():.6g}"] = rows
    return found, int(table.rows - len(present))


def in_order(table: Table, column: str) -> Table:
    """The rows by a column of times or other numbers; equal ones stay in the table's order.

    Raises:
        InputError: a column of texts, or a row without a value.
    """
    table.expect(column)
    table.readable(column)
    if not table.is_number(column):
        cell = next(str(c) for c in table.texts[column] if c is not None)
        raise InputError(
            f"{table.name}: order_by expected a column of dates, times or numbers, got {cell[:40]!r} in {column!r}; name another"
        )
    values = table.columns[column]
    expect_order(values, f"{table.name}: order_by expected a value of {column!r} in each row")
    return table.take(np.argsort(values, kind="stable"))


def expect_order(values: np.ndarray, what: str) -> None:
    """Raise InputError with the first row that has no place in the order."""
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise InputError(
            f"{what}, got none in {len(missing)} of {len(values)} rows, the first row {missing[0] + 1}; fill them in or leave "
            "these rows out"
        )


def equal_places(values: np.ndarray, rows: Mapping[str, np.ndarray], what: str) -> list[str]:
    """A sentence where rows of a task, {task: its rows}, have the same place in the order."""
    tied = {name: len(own) - len(np.unique(values[own])) for name, own in rows.items()}
    tied = {name: number for name, number in tied.items() if number}
    if not tied:
        return []
    return [
        Loud(
            f"{what}: {sum(tied.values())} rows of {len(tied)} tasks come at the same time as another of their task; they stay "
            "in the order that they were given in"
        )
    ]


def split_names(
    names: Sequence[str],
    *,
    seed: int = 0,
    valid_share: float = 0.15,
    test_share: float = 0.15,
    together: Sequence[str] = (),
    unit_of: Mapping[str, str] | None = None,
    least: int = 1,
    what: str = "tasks",
    left_out: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Names on the three sides of the split, by the hash of (seed, name): whatever else there is, the order stays.

    Args:
        names: of tasks or classes.
        seed: other seeds give other splits.
        valid_share, test_share: of the names, rounded, at least ``least``.
        together: patterns such as "monk*" or "chess|kr_vs_kp"; names that match the same one lie on one side.
        unit_of: name -> what it belongs to; names of one unit lie on one side.
        least: how many names each side needs.
        what: they are, for messages.
        left_out: why there are no more of them, for messages.

    Raises:
        InputError: too few names.
        ConfigError: shares that leave nothing for training.
    """
    for key, share in (("valid_share", valid_share), ("test_share", test_share)):
        if not 0 <= share < 1:
            raise ConfigError(f"{key} expected a share from 0 to below 1, got {share}; for example 0.15")
    if len(names) < 3 * least:
        why = f" (left out: {', '.join(left_out)})" if left_out else ""
        raise InputError(
            f"expected at least {3 * least} {what} for training, validation and test, got {len(names)}{why}; "
            f"give more rows or another rule: {RULES}"
        )
    units: dict[str, list[str]] = {}
    for name in names:
        pattern = next((p for p in together if any(fnmatch.fnmatchcase(name, one) for one in p.split("|"))), None)
        unit = unit_of[name] if unit_of is not None else name
        units.setdefault(f"pattern {pattern}" if pattern else f"unit {unit}", []).append(name)
    ordered = sorted(units, key=lambda unit: hashlib.blake2b(f"{seed}/{unit}".encode(), digest_size=8).digest())
    wanted = {
        "test": max(least, round(test_share * len(names))),
        "valid": max(least, round(valid_share * len(names))),
    }
    sides: dict[str, list[str]] = {split: [] for split in SPLITS}
    for unit in ordered:
        # A unit larger than the share makes an empty side, where there is nothing smaller before it.
        room = [s for s in ("test", "valid") if not sides[s] or len(sides[s]) + len(units[unit]) <= wanted[s]]
        sides[room[0] if room else "train"] += units[unit]
    short = [s for s in SPLITS if len(sides[s]) < least]
    if short:
        raise InputError(
            f"expected at least {least} {what} on each side of the split, got {len(sides[short[0]])} for {short[0]}; "
            "give more, other shares, or fewer that lie together"
        )
    order = {name: i for i, name in enumerate(names)}
    return {split: sorted(sides[split], key=order.__getitem__) for split in SPLITS}


def named_splits(table: Table, column: str, rows: Mapping[str, np.ndarray]) -> dict[str, list[str]] | None:
    """The split that a column of the words train, valid and test says; None where it holds other words.

    Raises:
        InputError: a task on two sides, or a side without tasks.
    """
    of = _value_of(table, column, rows)
    if not set(of.values()) <= {*SPLITS, "validation", "val"}:
        return None
    sides: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name, word in of.items():
        sides["valid" if word in ("validation", "val") else word].append(name)
    empty = [s for s in SPLITS if not sides[s]]
    if empty:
        raise InputError(f"{table.name}: column {column!r} expected tasks for {empty[0]}, got none; mark some")
    return sides


def units(table: Table, column: str, rows: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Which unit each task belongs to, by a column that is the same in all of a task's rows."""
    return _value_of(table, column, rows)


def _value_of(table: Table, column: str, rows: Mapping[str, np.ndarray]) -> dict[str, str]:
    cells = table.labels(column)
    found = {}
    for name, own in rows.items():
        values = {str(cells[i]) for i in own}
        if len(values) != 1:
            raise InputError(
                f"{table.name}: split_by expected one value of {column!r} in each task, got {len(values)} in task {name!r}; "
                "name a column that belongs to whole tasks"
            )
        found[name] = values.pop()
    return found
