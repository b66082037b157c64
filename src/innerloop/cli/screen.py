"""Molecules on the command line: a task's support set, and a library with what is predicted of each molecule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli import output
from innerloop.errors import InputError
from innerloop.report.text import text_table

if TYPE_CHECKING:
    from innerloop.data.tables import Table
    from innerloop.meta_learner.fitted import Fitted
    from innerloop.meta_learner.molecules import Screened

_PRINTED, _NEAREST = 20, 3


def with_column(table: Table, preprocessing: Mapping[str, Any] | None, column: str | None) -> Table:
    """The table with its column of SMILES under the name that the record has; as it is where none is named."""
    from innerloop.data.molecules import record_of

    record = record_of(preprocessing)
    if column is None or record is None or column == record.column:
        return table
    table.expect(column)
    own = table.without([record.column])

    def renamed(columns: Mapping[str, Any]) -> dict[str, Any]:
        return {record.column if name == column else name: cells for name, cells in columns.items()}

    return dataclasses.replace(own, columns=renamed(own.columns), texts=renamed(own.texts))


def on_support(fitted: Fitted, y: Any) -> float:
    """The score on the task's own molecules, in the unit of its targets."""
    from innerloop.data.molecules import record_of

    record = record_of(fitted.preprocessing)
    found = fitted.score(fitted.support.x, y)
    return found if record is None or record.std is None else found * record.std**2


def library(path: Path, separator: str | None, encoding: str | None) -> Any:
    """A table, or the path of a .smi file.

    Raises:
        InputError: a folder, or a file of another kind.
    """
    from innerloop.data.molecules import SMI
    from innerloop.data.tables import is_table, read_table

    if path.suffix.lower() in SMI:
        return path
    if not path.is_file() or not is_table(path):
        raise InputError(
            f"expected molecules: a .smi file or a table with a column of SMILES, got {str(path)!r}; give one"
        )
    return read_table(path, separator=separator, encoding=encoding)


def predicted(
    fitted: Fitted, given: Any, column: str | None, rank: bool, out: Path | None, page: Path | None, force: bool
) -> int:
    """Write or print what is predicted of a library; arguments as those of `innerloop predict`."""
    from innerloop.meta_learner.molecules import screen

    if page is not None:
        output.new_file(page, force)
    if not isinstance(given, Path):
        given = with_column(given, fitted.preprocessing, column)
    found = screen(fitted, given, rank=rank, nearest=_NEAREST)
    header, rows = _rows(fitted, found, rank)
    if out is not None:
        output.write_csv(out, [header, *rows])
        print(f"{len(rows)} predictions: {out}")
    elif rank:
        _print(header, rows[:_PRINTED])
        if len(rows) > _PRINTED:
            print(f"the first {_PRINTED} of {len(rows)}; --out ranking.csv writes all")
    if page is not None:
        from innerloop.report.molecules import write_page

        with output.writing(page):
            write_page(fitted, found, page, ranked=rank)
        print(f"page: {page}")
    return 0


def _rows(fitted: Fitted, found: Sequence[Screened], rank: bool) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the CSV file."""
    named, known = any(one.name for one in found), any(one.nearest for one in found)
    header = [*(["rank"] if rank else []), "row", "smiles", *(["name"] if named else [])]
    if fitted.classes_ is None:
        header += ["prediction", *(["std"] if found and found[0].std is not None else [])]
    else:
        header += ["label", "confidence", *(f"p_{name}" for name in fitted.classes_)]
    header += ["nearest", "similarity", "nearest_target"] if known else []
    rows = []
    for place, one in enumerate(found, 1):
        row = [*([str(place)] if rank else []), str(one.row), one.smiles, *([one.name] if named else [])]
        if fitted.classes_ is None:
            row += [f"{one.score:.8g}", *([f"{one.std:.6g}"] if one.std is not None else [])]
        else:
            row += [str(one.prediction), f"{max(one.chances):.6f}", *(f"{chance:.6f}" for chance in one.chances)]
        if known:
            near = one.nearest[0]
            row += [near.smiles, f"{near.similarity:.3f}", str(near.answer)]
        rows.append(row)
    return header, rows


def _print(header: list[str], rows: list[list[str]]) -> None:
    """Columns side by side, without those that name each class."""
    kept = [i for i, name in enumerate(header) if name != "row"]
    print(text_table([[row[i][:44] for i in kept] for row in rows], [header[i] for i in kept], ruled=False))
