"""`innerloop adapt` and `innerloop predict` on tables, for learners that were trained on tables."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from innerloop.cli import prediction_rows
from innerloop.cli.boundary import say
from innerloop.errors import InputError

STANDARD_INPUT = Path("-")


@contextlib.contextmanager
def standard_input() -> Iterator[Path]:
    """What comes on standard input as a file, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard-input.csv"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def adapted(
    learner: Any, support: Path, target: str | None, steps: int | None, text: Mapping[str, str | None]
) -> tuple[Any, Any, Any, Callable[[list[int], int], bool]]:
    """(fitted task, inputs, targets, `leave_one_out`'s question) of a table; the task carries how its columns are read.

    ``text``: the table's separator and encoding, as `read_table` takes them.
    """
    import numpy as np

    from innerloop.data.table_preprocessing import TablePreprocessing
    from innerloop.data.table_support import support_of

    if support.is_dir():
        raise InputError(
            f"expected a table, as this run was trained on tables, got a folder at {str(support)!r}; give a file"
        )
    record = TablePreprocessing.from_dict(learner.preprocessing)
    table = _table(support, text)
    x, y, own = support_of(record, table, target)
    _say_unseen(record, table)
    fitted = learner.adapt(x, y, steps=steps)

    def recognises(others: list[int], i: int) -> bool:
        """The left-out row has no part in how the others are scaled."""
        given, labels, scales = support_of(record, table.take(np.array(others)), target)
        left = scales.encode(table.take(np.array([i])))
        return learner.adapt(given, labels, steps=steps).predict(left)[0] == y[i]

    return dataclasses.replace(fitted, preprocessing=own.to_dict()), x, y, recognises


def _table(path: Path, text: Mapping[str, str | None]) -> Any:
    from innerloop.data.support_files import PICTURES
    from innerloop.data.tables import read_table

    if path.suffix.lower() in PICTURES:
        raise InputError(
            f"expected a table, as this learner was trained on tables, got the picture {str(path)!r}; give a CSV file"
        )
    return read_table(path, **text)


def _say_unseen(record: Any, table: Any) -> None:
    for sentence in record.unseen(table):
        say(f"note: {sentence}")


def predictions(
    fitted: Any, inputs: Path, unknown: bool, text: Mapping[str, str | None]
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the CSV file for the rows of a table."""
    from innerloop.data.table_preprocessing import TablePreprocessing

    record = TablePreprocessing.from_dict(fitted.preprocessing)
    table = _table(inputs, text)
    x = record.encode(table)
    _say_unseen(record, table)
    names = [str(i + 1) for i in range(table.rows)]
    if fitted.classes_ is None:
        values = record.original(fitted.predict(x).reshape(len(names), -1))
        return prediction_rows.of_values(values, names, ["row", "prediction"])
    return prediction_rows.of_classes(fitted, x, names, ["row", "label"], unknown)
