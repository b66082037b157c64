"""Columns that name items (films, products, machines): each item is a number of a vocabulary that training tasks have taught."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Of how many training tasks an item has to be: those of fewer are one unknown item, which so is learned too.
LEAST_TASKS = 2


def item_name(cell: str | None) -> str | None:
    """An item as it is looked up: 12 and 12.0 are one."""
    if cell is None or "." not in cell:
        return cell
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", cell)


def vocabulary(tasks: Iterable[Iterable[str | None]]) -> tuple[tuple[str, ...], int]:
    """(the items of at least `LEAST_TASKS` tasks, sorted; how many others there are), from the cells of each task's rows."""
    counts = Counter(name for cells in tasks for name in {item_name(cell) for cell in cells} if name is not None)
    known = sorted(name for name, count in counts.items() if count >= LEAST_TASKS)
    return tuple(known), len(counts) - len(known)


def item_numbers(cells: Sequence[str | None] | np.ndarray, items: tuple[str, ...]) -> np.ndarray:
    """Each cell's number, from 1 on; 0 for an item that is not known, and for a missing cell."""
    numbers = _numbers(items)
    return np.array([numbers.get(item_name(cell), 0) for cell in cells], dtype=np.float32)


def last_rows(cells: Sequence[str | None] | np.ndarray) -> np.ndarray:
    """Positions of the last row of each item, in order; rows without an item are all kept."""
    names = [item_name(cell) for cell in cells]
    last = {name: i for i, name in enumerate(names)}
    return np.array([i for i, name in enumerate(names) if name is None or last[name] == i], dtype=int)


@dataclasses.dataclass(frozen=True)
class ItemFacts:
    """What is known of items beside their names: numbers as a model reads them.

    Attributes:
        names: of the numbers, for people.
        items: those that something is known of, whether training has seen them or not.
        values: one row for each of them; None where a number is missing.
    """

    names: tuple[str, ...]
    items: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    def of(self, cells: Sequence[str | None] | np.ndarray) -> np.ndarray:
        """(rows, numbers) of the items in these cells; NaN where nothing is known."""
        return self._rows[item_numbers(cells, self.items).astype(int)]

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """The values with a first row for an item of which nothing is known."""
        known = np.array(self.values, dtype=np.float32).reshape(len(self.items), len(self.names))
        return np.concatenate([np.full((1, known.shape[1]), np.nan, np.float32), known])

    def to_dict(self) -> dict[str, Any]:
        return {"names": list(self.names), "items": list(self.items), "values": [list(row) for row in self.values]}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ItemFacts:
        """What `to_dict` wrote; ValueError where it cannot be right."""
        names, items = (tuple(given[key]) for key in ("names", "items"))
        values = tuple(tuple(None if v is None else float(v) for v in row) for row in given["values"])
        whole = len(values) == len(items) and all(len(row) == len(names) for row in values)
        if not whole or not all(isinstance(name, str) for name in (*names, *items)):
            raise ValueError("facts of other items")
        if not all(v is None or math.isfinite(v) for row in values for v in row):
            raise ValueError("a number that is not finite")
        return cls(names, items, values)


@functools.lru_cache(maxsize=16)
def _numbers(items: tuple[str, ...]) -> dict[str | None, int]:
    return {name: i for i, name in enumerate(items, 1)}
