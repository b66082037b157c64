"""What the columns of a table may be: tasks, items, times, targets. Guesses from their names and cells, for `data check`."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from innerloop.data.table_items import item_name, vocabulary
from innerloop.data.tables import Table
from innerloop.tasks.tables.grouping import rows_by_value

# In the order in which they are believed.
_TARGETS = (
    "target",
    "label",
    "class",
    "y",
    "outcome",
    "score",
    "rating",
    "category",
    "intent",
    "topic",
    "stars",
    "grade",
)
_TIMES = {"time", "date", "datetime", "timestamp"}
_IDS = {"id", "ids", "key", "code", "uuid", "guid", "#", "no", "nr", "smiles"}
_OWNERS = {
    "user",
    "customer",
    "client",
    "patient",
    "subject",
    "person",
    "student",
    "player",
    "participant",
    "machine",
    "sensor",
}
_OWNERS |= {"device", "engine", "shop", "store", "site", "station", "hospital", "school", "task", "assay", "protein"}
_ITEMS = {"item", "product", "article", "movie", "film", "book", "song", "track", "compound", "molecule", "question"}
_FEW = 20  # values that categories of their own still tell apart
_MANY = 3  # columns that are targets side by side


class Roles(NamedTuple):
    """What is guessed.

    Attributes:
        targets: columns to predict; more than one where they stand side by side.
        named: whether a column's name or its missing cells say so; else it is the last that may be one.
        task: whose values tell tasks apart; None: no column does.
        item: names what comes back from task to task.
        time: a time in every row.
        rows: columns that name single rows.
    """

    targets: tuple[str, ...]
    named: bool
    task: str | None
    item: str | None
    time: str | None
    rows: tuple[str, ...]


def roles(table: Table) -> Roles:
    """The guesses for a table."""
    targets = _side_by_side(table) or tuple(name for name in [_named_target(table)] if name)
    times = [name for name in table.columns if name not in targets and _is_time(table, name)]
    found = [name for name in table.columns if name not in (*targets, *times) and _is_identifier(table, name)]
    rows = tuple(name for name in found if _different(table, name) > 0.9 * table.rows)
    found = [name for name in found if name not in rows]
    task = None if len(targets) > 1 else _task(table, found, (*targets, *times))
    item = next((name for name in found if name != task and _comes_back(table, name, task)), None)
    named = bool(targets)
    if not targets:
        left = [name for name in table.columns if name not in (*times, *rows, *found, task)]
        targets = ((left or list(table.columns))[-1],)
    time = next((name for name in times if not np.isnan(table.columns[name]).any()), None) if task else None
    return Roles(targets, named, task, item, time, rows)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|#", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _named_target(table: Table) -> str | None:
    exact = {name.lower(): name for name in table.columns}
    return next((exact[word] for word in _TARGETS if word in exact), None)


def _side_by_side(table: Table) -> tuple[str, ...]:
    """Columns that look like many tasks' targets: of 0 and 1, or of one name and a number, with gaps or most of the table."""
    binary, numbered = [], dict[str, list[str]]()
    for name in table.columns:
        if not table.is_number(name):
            continue
        values = table.columns[name]
        there = ~np.isnan(values)
        gaps = float(there.mean()) < 0.98
        if set(np.unique(values[there]).tolist()) <= {0.0, 1.0}:
            binary.append((name, gaps))
        elif gaps and (stem := re.fullmatch(r"(.*?)\d+", name)):
            numbered.setdefault(stem[1], []).append(name)
    open_ones = tuple(name for name, gaps in binary if gaps)
    if len(open_ones) >= _MANY:
        return open_ones
    if len(binary) > max(4, 0.8 * len(table.columns)) and _named_target(table) is None:
        return tuple(name for name, _ in binary)
    largest = max(numbered.values(), key=len, default=[])
    return tuple(largest) if len(largest) >= _MANY else ()


def _is_time(table: Table, name: str) -> bool:
    if not table.is_number(name) or name in table.refused:
        return False
    if table.readings.get(name) is not None and table.readings[name].kind == "date":
        return True
    values = table.columns[name]
    there = values[~np.isnan(values)]
    seconds = len(there) > 0 and there.min() > 3e8 and there.max() < 2.5e9 and (there == there.round()).all()
    return bool(_TIMES & set(_words(name))) or bool(seconds and len(np.unique(there)) > _FEW)


def _different(table: Table, name: str) -> int:
    return len({cell for cell in table.texts[name] if cell is not None})


def _is_identifier(table: Table, name: str) -> bool:
    """Whole numbers or texts whose name says that they are one; or many texts."""
    values = table.columns[name]
    if table.is_number(name) and (values[~np.isnan(values)] % 1 != 0).any():
        return False
    last = _words(name)[-1:]
    if last and last[0] in _IDS | _OWNERS | _ITEMS:
        return _different(table, name) > 2
    return not table.is_number(name) and _different(table, name) > _FEW


def _task(table: Table, identifiers: list[str], others: tuple[str, ...]) -> str | None:
    """Of identifiers with a few rows of each value the one whose name tells of an owner, or else with the most rows of each."""
    found = []
    for name in identifiers:
        counts = [len(rows) for rows in rows_by_value(table, name)[0].values()]
        if len(counts) >= 3 and np.median(counts) >= 4:
            found.append((bool(_OWNERS & set(_words(name))), float(np.median(counts)), name))
    return max(found)[2] if found else _few_values(table, others)


def _few_values(table: Table, others: tuple[str, ...]) -> str | None:
    """The first column of texts or whole numbers with a few values of at least four rows each."""
    for name in table.columns:
        values = table.columns[name]
        if name in others or (table.is_number(name) and (np.isnan(values).any() or (values != np.round(values)).any())):
            continue
        cells = [c for c in table.texts[name] if c is not None]
        counts = np.unique(np.array(cells, dtype=str), return_counts=True)[1]
        if 3 <= len(counts) <= table.rows / 4 and np.median(counts) >= 4 and len(cells) == table.rows:
            return name
    return None


def _comes_back(table: Table, name: str, task: str | None) -> bool:
    """Whether most rows hold something that several tasks share, and more of it than categories tell apart."""
    if task is None or _different(table, name) <= _FEW:
        return False
    cells = table.texts[name]
    known = set(vocabulary(cells[rows] for rows in rows_by_value(table, task)[0].values())[0])
    return float(np.mean([item_name(cell) in known for cell in cells])) > 0.5


def pattern_of(names: tuple[str, ...], columns: tuple[str, ...]) -> str | None:
    """A pattern such as "assay*" that stands for these columns and no others."""
    stem = names[0]
    for name in names:
        while not name.startswith(stem):
            stem = stem[:-1]
    alike = [column for column in columns if column.startswith(stem)]
    return f"{stem}*" if stem and len(alike) == len(names) and not set(stem) & set("*?[]") else None
