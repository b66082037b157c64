"""Rows that are ratings: each task gives each item a number on one scale, once.

Whether rows are ratings is read off the table: a column of items, a target of few different values, hardly any item twice in a
task. Then a number beyond the scale is refused, and where a task rates an item again the last rating counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from innerloop.data.item_targets import ItemTargets, names_of
from innerloop.data.table_items import last_rows
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.tables import Table
from innerloop.tasks.tables.few_shot import TableGroup

Piece = tuple[str, str, np.ndarray]  # a task's name, its target ("" for all), its rows
_MOST_VALUES = 20  # of a scale
_MOST_AGAIN = 0.01  # of the rows, whose task rates their item again


class Ratings(NamedTuple):
    """What is known of rows that are ratings.

    Attributes:
        scale: the lowest and the highest.
        pieces: the tasks, each item in one row.
    """

    scale: tuple[float, float]
    pieces: list[Piece]


def ratings_in(
    table: Table, pieces: Sequence[Piece], targets: Sequence[str], items: Sequence[str], left_out: list[str]
) -> Ratings | None:
    """The tasks as ratings; None where rows are something else.

    Args:
        table: its rows in order, where there is one.
        pieces: the tasks.
        targets: columns of numbers to predict.
        items: columns that name items.
        left_out: takes down what is.
    """
    if len(targets) != 1 or len(items) != 1 or not pieces:
        return None
    values = table.columns[targets[0]]
    scale = np.unique(values[np.concatenate([rows for _, _, rows in pieces])])
    if not 2 <= len(scale) <= _MOST_VALUES:
        return None
    cells = table.texts[items[0]]
    last = [(name, target, rows[last_rows(cells[rows])]) for name, target, rows in pieces]
    before, after = (sum(len(rows) for _, _, rows in own) for own in (pieces, last))
    if before - after > _MOST_AGAIN * before:
        return None
    if before > after:
        left_out.append(f"{before - after} ratings that their task changed later")
    return Ratings((float(scale[0]), float(scale[-1])), last)


def leave_own_out(
    said: ItemTargets, table: Table, piece: Piece, group: TableGroup, record: TablePreprocessing
) -> TableGroup:
    """A training task whose rows say of their items what all other training tasks do."""
    assert record.columns is not None and record.columns[0].facts is not None and group.y is not None
    item = record.columns[0]
    assert item.facts is not None
    name, _, rows = piece
    end = 1 + len(item.facts.names)
    x = group.x.copy()
    x[:, end - len(names_of("")) : end] = said.without(name, table.texts[item.name][rows], group.y[:, 0])
    return group._replace(x=x)
