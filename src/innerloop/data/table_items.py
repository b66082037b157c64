"""Columns that name items (films, products, machines): each item is a number of a vocabulary that training tasks have taught."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

# Of how many training tasks an item has to be: those of fewer are one unknown item, which so is learned too.
LEAST_TASKS = 2


def item_name(cell: str | None) -> str | None:
    """An item as it is looked up: 12 and 12.0 are one."""
    return None if cell is None else re.sub(r"^([+-]?\d+)\.0+$", r"\1", cell)


def vocabulary(tasks: Iterable[Iterable[str | None]]) -> tuple[tuple[str, ...], int]:
    """(the items of at least `LEAST_TASKS` tasks, sorted; how many others there are), from the cells of each task's rows."""
    counts = Counter(name for cells in tasks for name in {item_name(cell) for cell in cells} if name is not None)
    known = sorted(name for name, count in counts.items() if count >= LEAST_TASKS)
    return tuple(known), len(counts) - len(known)


def item_numbers(cells: Sequence[str | None] | np.ndarray, items: tuple[str, ...]) -> np.ndarray:
    """Each cell's number, from 1 on; 0 for an item that is not known, and for a missing cell."""
    numbers = _numbers(items)
    return np.array([numbers.get(item_name(cell), 0) for cell in cells], dtype=np.float32)


@functools.lru_cache(maxsize=16)
def _numbers(items: tuple[str, ...]) -> dict[str | None, int]:
    return {name: i for i, name in enumerate(items, 1)}
