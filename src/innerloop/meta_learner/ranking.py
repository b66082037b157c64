"""Which items one task would rate best: recommendations for a user, from an adapted task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop.data.table_items import item_name
from innerloop.data.table_preprocessing import Column, TablePreprocessing, table_record
from innerloop.data.tables import Table, as_table, is_tabular
from innerloop.errors import ConfigError, InputError, expect_whole, first_few


def ranked(fitted: Any, items: Any, k: int, exclude_seen: bool) -> list[tuple[Any, float]]:
    """(item, predicted target) of the best ones for a `Fitted`, best first; arguments, errors and order as its `rank` has."""
    expect_whole("k", k)
    record = table_record(fitted.preprocessing)
    if record is None or len(record.items) != 1 or fitted.classes_ is not None or len(record.targets) != 1:
        raise ConfigError(
            "rank expected a task of ratings, with one column of items and one number to predict, got another; train on a table "
            "with item_column, or use predict"
        )
    assert record.columns is not None
    table, given = _candidates(record, record.columns[0], items)
    names = [item_name(cell) for cell in table.texts[record.columns[0].name]]
    left = np.array([i for i, name in enumerate(names) if name is not None], dtype=int)
    if exclude_seen:
        if fitted.seen is None:
            raise ConfigError(
                "exclude_seen expected a task that knows which items it was shown, got one adapted to tensors, or from an older "
                "file; adapt to a table, or say exclude_seen=False"
            )
        seen = set(fitted.seen)
        left = np.array([i for i in left if names[i] not in seen], dtype=int)
    if not len(left):
        known = "" if not len(names) else f" that the user has not rated, got {len(names)} that are"
        raise InputError(
            f"rank expected items{known or ', got none'}; give others, or rank those too: exclude_seen=False (--with-seen)"
        )
    shown = table.take(left)
    if items is None:  # of which nobody has to be told that they are new
        x = torch.as_tensor(record.encode(shown), dtype=fitted.support.y.dtype)
        values = record.original(fitted.outputs(x).cpu().numpy().reshape(len(left), -1))[:, 0]
    else:
        values = np.asarray(fitted.predict(shown), dtype=np.float64).reshape(len(left), -1)[:, 0]
    best = np.argsort(-values, kind="stable")[:k]
    return [(given[left[i]], float(values[i])) for i in best]


def _candidates(record: TablePreprocessing, column: Column, items: Any) -> tuple[Table, list[Any]]:
    """(a row for each item, each item as it was given), each once."""
    if isinstance(items, Table | str | Path | dict) or is_tabular(items):
        table = as_table(items)
        table.expect(column.name)
        cells = table.texts[column.name]
        given: list[Any] = [None] * table.rows
        there = [i for i, cell in enumerate(cells) if cell is not None]
        for i, name in zip(there, table.as_given(column.name, [cells[i] for i in there]), strict=True):
            given[i] = name
    else:
        others = [c.name for c in (record.columns or ())[1:]]
        if others:
            raise ConfigError(
                f"rank expected a table with {first_few([repr(name) for name in others])} beside {column.name!r}, as the learner "
                f"reads it too, got {'no items' if items is None else 'names alone'}; give a table, or train without it (ignore)"
            )
        if items is None:
            known = (*(column.items or ()), *(column.facts.items if column.facts is not None else ()))
            texts = list(dict.fromkeys(known))
            whole = all(name.lstrip("-").isdigit() and str(int(name)) == name for name in texts)
            given = [int(name) for name in texts] if whole else list(texts)
        else:
            given = list(items.tolist() if hasattr(items, "tolist") else items)
            texts = [str(name) for name in given]
        cells = np.array([*texts, None], dtype=object)[:-1]
        table = Table("the items", {column.name: cells}, {column.name: cells}, len(texts))
    first: dict[str | None, int] = {}
    for i, cell in enumerate(table.texts[column.name]):
        first.setdefault(item_name(cell), i)
    rows = np.array(sorted(first.values()), dtype=int)
    return table.take(rows), [given[i] for i in rows]
