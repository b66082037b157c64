"""`innerloop adapt` and `innerloop predict` on tables, for learners that were trained on tables."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def is_for_tables(preprocessing: Any) -> bool:
    """Whether a learner was trained on tables of one's own."""
    return isinstance(preprocessing, dict) and preprocessing.get("kind") == "table"


def adapted(learner: Any, support: Path, target: str | None, steps: int | None) -> tuple[Any, Any, Any]:
    """(fitted task, inputs, targets) of a support table; the task carries how its columns are read."""
    from innerloop.data.table_preprocessing import TablePreprocessing
    from innerloop.data.table_support import support_of
    from innerloop.data.tables import read_table

    if support.is_dir():
        raise InputError(
            f"expected a table, as this run was trained on tables, got a folder at {str(support)!r}; give a file"
        )
    record = TablePreprocessing.from_dict(learner.preprocessing)
    x, y, own = support_of(record, read_table(support), target)
    fitted = learner.adapt(x, y, steps=steps)
    return dataclasses.replace(fitted, preprocessing=own.to_dict()), x, y


def predictions(fitted: Any, inputs: Path) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the CSV file for the rows of a table."""
    from innerloop.data.table_preprocessing import TablePreprocessing
    from innerloop.data.tables import read_table

    record = TablePreprocessing.from_dict(fitted.preprocessing)
    table = read_table(inputs)
    x = record.encode(table)
    names = [str(i + 1) for i in range(table.rows)]
    if fitted.classes_ is None:
        values = record.original(fitted.predict(x).reshape(len(names), -1))
        more = [f"prediction_{i}" for i in range(2, values.shape[1] + 1)]
        rows = [[name, *(f"{v:.8g}" for v in row)] for name, row in zip(names, values, strict=True)]
        return ["row", "prediction", *more], rows
    header = ["row", "label", "confidence", *(f"p_{name}" for name in fitted.classes_)]
    rows = []
    for name, p in zip(names, fitted.predict_proba(x), strict=True):
        best = int(p.argmax())
        rows.append([name, str(fitted.classes_[best]), f"{p[best]:.6f}", *(f"{v:.6f}" for v in p)])
    return header, rows
