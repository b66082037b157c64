"""All tables of a path: one file, a folder of files or a zip of them; and several tables put below each other."""

from __future__ import annotations

import dataclasses
import fnmatch
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from innerloop.data.table_cells import PLAIN, TEXT, TYPED, Loud
from innerloop.data.tables import MAX_BYTES, SUFFIXES, Columns, Table, is_table, read_table, table_from_bytes
from innerloop.errors import InputError, nearest

FILE_COLUMN = "(file)"  # which file a row came from; no column of a user's has brackets and no letters around
MAX_FILES = 20_000


def read_tables(
    path: str | Path, only: Sequence[str] = (), *, separator: str | None = None, encoding: str | None = None
) -> tuple[list[Table], list[str]]:
    """(tables, what was left out), in the order of their paths; a table's name is its file's without the ending.

    ``only`` names tables by patterns such as "monk*"; without it all are read. A file that cannot be read is left out of a
    folder and named; where it is the only one, that is an error.

    Raises:
        InputError: nothing there, no tables, or none that can be read.
    """
    path = Path(path)
    if path.is_file() and not path.name.lower().endswith(".zip"):
        return [read_table(path, separator=separator, encoding=encoding)], []
    found: list[Table] = []
    left_out: list[str] = []
    files = _in_folder(path) if path.is_dir() else _in_zip(path)
    if not files:
        raise InputError(f"{path} expected tables ({', '.join(SUFFIXES)}), got none; add some")
    if len(files) > MAX_FILES:
        raise InputError(
            f"{path} expected at most {MAX_FILES} tables, got {len(files)}; put them into one with a task column"
        )
    names = _short_names(files)
    if only:
        chosen = [(f, n) for f, n in zip(files, names, strict=True) if any(fnmatch.fnmatchcase(n, p) for p in only)]
        if not chosen:
            raise InputError(
                f"{path} expected tables of names like {', '.join(only[:3])}, got none: {nearest(only[0], names)}"
            )
        files, names = ([pair[i] for pair in chosen] for i in (0, 1))
    archive = None if path.is_dir() else zipfile.ZipFile(path)
    try:
        for file, name in zip(files, names, strict=True):
            try:
                if archive is None:
                    table = read_table(path / file, separator=separator, encoding=encoding)
                else:
                    table = table_from_bytes(_member(archive, file), file, separator=separator, encoding=encoding)
            except InputError as error:
                if "pip install" in str(error):
                    raise
                left_out.append(str(error))
                continue
            found.append(dataclasses.replace(table, name=name))
    finally:
        if archive is not None:
            archive.close()
    if not found:
        raise InputError(f"{path} expected readable tables, got {len(left_out)} that are not; the first: {left_out[0]}")
    return found, left_out


def _in_folder(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"expected a table or a folder of tables, got nothing at {str(path)!r}; check the path")
    files = (p.relative_to(path) for p in path.rglob("*") if is_table(p) and p.is_file())
    return sorted(str(f) for f in files if not any(part.startswith((".", "__")) for part in f.parts))


def _in_zip(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"expected a table or a folder of tables, got nothing at {str(path)!r}; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir() and is_table(i.filename)]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} expected a zip file of tables, got a damaged one ({error}); get it again") from None
    return sorted(n for n in names if not any(part.startswith((".", "__")) for part in n.split("/")))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            data = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise InputError(
            f"{name} expected a whole file in the zip, got a damaged one ({error}); pack it again"
        ) from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} expected at most {MAX_BYTES >> 20} MB, got more; cut the table into several")
    return data


def _short_names(files: Sequence[str]) -> list[str]:
    """File names without folders and endings where these tell all files apart, else their paths."""
    short = []
    for file in files:
        name = Path(file).name
        ending = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s))
        short.append(name[: -len(ending)])
    return short if len(set(short)) == len(short) else list(files)


def below_each_other(tables: Sequence[Table], name: str) -> tuple[Table, list[str]]:
    """(one table of the columns that all have, notes), with a column `FILE_COLUMN` of the tables' names."""
    shared = [c for c in tables[0].columns if all(c in t.columns for t in tables)]
    notes = []
    others = sorted({c for t in tables for c in t.columns} - set(shared))
    if others:
        shown = ", ".join(map(repr, others[:5])) + (" and more" if len(others) > 5 else "")
        notes.append(Loud(f"columns that not all tables have are left out: {shown}"))
    made = Columns(notes)
    for column in shared:
        texts = np.concatenate([t.texts[column] for t in tables])
        readings = {t.readings.get(column, PLAIN) for t in tables}
        if any(column in t.refused for t in tables) or len(readings - {TYPED}) > 1:
            # What one file leaves open, or reads in another way, all its cells decide.
            found = {cell: i for i, cell in enumerate(dict.fromkeys(cell for cell in texts if cell is not None))}
            made.add_cells(column, np.array([-1 if cell is None else found[cell] for cell in texts]), list(found))
        else:
            made.add(column, np.concatenate([t.columns[column] for t in tables]), texts, readings.pop())
    files = np.concatenate([np.full(t.rows, t.name, dtype=object) for t in tables])
    made.add(FILE_COLUMN, files, files, TEXT)
    first = tables[0]
    kinds = {c: kind for c, kind in first.kinds.items() if all(t.kinds.get(c) is kind for t in tables)}
    return made.table(name, len(files), first.index, kinds), notes
