"""Tables from files: CSV, TSV and Parquet, also packed (.gz, .xz), read by pandas into plain columns of numbers and texts.

Text is taken as text first, so that a label "01" stays one. What is odd but readable is noted; what cannot be read is one
error that names the place. pandas (and pyarrow for Parquet) come with the extra ``tables`` and are imported when needed.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import lzma
import zlib
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from innerloop.errors import InputError, nearest

_TEXT = (".csv", ".tsv", ".tab")
SUFFIXES = (*_TEXT, ".parquet", ".pq", *(name + packed for packed in (".gz", ".xz") for name in _TEXT))
MISSING = frozenset(("", "na", "n/a", "nan", "null", "#n/a", "?", "<na>", "none"))
MAX_BYTES = 1 << 30  # of one table's text, after decompression
MAX_COLUMNS = 20_000
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_STRAY_SHARE = 0.05  # of a column's cells may be texts among numbers; they are then taken as missing


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        name: of the file, for messages.
        columns: name -> float64 numbers (NaN where missing) or texts (None where missing), one a row.
        texts: name -> the cells as they were written (None where missing); what class names are taken from.
        rows: how many rows.
        notes: what was done to read it, in sentences.
    """

    name: str
    columns: dict[str, np.ndarray]
    texts: dict[str, np.ndarray]
    rows: int
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> np.ndarray:
        """A column; an unknown name is an InputError with the nearest."""
        self.expect(name)
        return self.columns[name]

    def expect(self, *names: str) -> None:
        """Raise InputError where a column is not there."""
        for name in names:
            if name not in self.columns:
                raise InputError(f"{self.name} has no column {name!r}: {near_column(name, self.columns)}")

    def is_number(self, name: str) -> bool:
        return self.columns[name].dtype.kind == "f"

    def labels(self, name: str) -> np.ndarray:
        """A column as class names, as they were written; None where missing."""
        self.expect(name)
        return self.texts[name]

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows, in this order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        texts = {name: values[rows] for name, values in self.texts.items()}
        return Table(self.name, columns, texts, len(rows), self.notes)


def near_column(name: str, columns: Collection[str]) -> str:
    """A sentence part for a column that is not there: the nearest one, or that the table was not cut into columns."""
    if len(columns) == 1 and not next(iter(columns)).isidentifier():
        return f"its one column is {next(iter(columns))[:80]!r}; say what separates the cells (--separator ';')"
    return nearest(name, columns)


def is_table(path: str | Path) -> bool:
    """Whether the file's name ends as a table's does."""
    return str(path).lower().endswith(SUFFIXES)


def pandas_module() -> ModuleType:
    """pandas, or an InputError with the line that installs it."""
    try:
        import pandas
    except ImportError:
        raise InputError(
            "reading tables expected pandas, got none installed; install it: pip install 'innerloop[tables]'"
        ) from None
    return pandas


def read_table(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> Table:
    """The table in a file.

    Args:
        path: a .csv, .tsv, .tab (each also .gz or .xz) or .parquet file; other names are read as CSV.
        separator: between a text table's cells; None: found in the file (comma, tab, semicolon or bar).
        encoding: of a text table; None: UTF-8, or UTF-16 where the file begins so.

    Raises:
        InputError: no table, with the reason and the place.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise InputError(f"expected a table, got {what} at {str(path)!r}; check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} expected at most {MAX_BYTES >> 20} MB, got more; cut the table into several")
    return table_from_bytes(path.read_bytes(), str(path), separator=separator, encoding=encoding)


def table_from_bytes(data: bytes, name: str, *, separator: str | None = None, encoding: str | None = None) -> Table:
    """The table in a file's bytes; ``name`` is for messages, and its ending says what kind of file it is."""
    if name.lower().endswith(".gz") or data[:2] == b"\x1f\x8b":
        data = _unpacked(gzip.GzipFile(fileobj=io.BytesIO(data)), name)
    elif name.lower().endswith(".xz") or data[:6] == b"\xfd7zXZ\0":
        data = _unpacked(lzma.LZMAFile(io.BytesIO(data)), name)  # noqa: SIM115 (closed there)
    if data[:4] == b"PAR1" or name.lower().endswith((".parquet", ".pq")):
        return _from_parquet(data, name)
    return _from_text(_decoded(data, name, encoding), name, separator)


def _unpacked(packed: gzip.GzipFile | lzma.LZMAFile, name: str) -> bytes:
    try:
        with packed as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{name} expected a whole packed file, got a damaged one ({error}); get it again") from None
    if len(text) > MAX_BYTES:
        raise InputError(f"{name} expected at most {MAX_BYTES >> 20} MB unpacked, got more; cut the table into several")
    return text


def _decoded(data: bytes, name: str, encoding: str | None) -> str:
    found = encoding or ("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        text = data.decode(found)
    except LookupError:
        raise InputError(
            f"{name}: encoding expected a name that Python knows, such as latin-1, got {found!r}"
        ) from None
    except (UnicodeDecodeError, UnicodeError) as error:
        at = f", byte {data[error.start]:#04x} at {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(
            f"{name} expected text in {found.removesuffix('-sig')}, got something else{at}; export it as UTF-8, or say "
            "what it is in (--encoding latin-1)"
        ) from None
    if "\0" in text:
        raise InputError(f"{name} expected a table of text, got a binary file; export it as CSV or Parquet")
    return text


def _separator(lines: list[str], name: str) -> str:
    """What separates the cells: that which gives the most columns, as many in (nearly) every line."""
    best, most = ",", (0.0, 0)
    preferred = (
        ["\t", ",", ";", "|"]
        if name.lower().removesuffix(".gz").removesuffix(".xz").endswith((".tsv", ".tab"))
        else _SEPARATORS
    )
    for candidate in preferred:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=candidate) if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            agreeing = sum(count == counts[0] for count in counts) / len(counts)
            if (agreeing, counts[0]) > most:
                best, most = candidate, (agreeing, counts[0])
    return best


def _header(text: str, name: str, separator: str) -> tuple[list[str], list[str]]:
    """(column names, notes); names that are twice there are an error, empty ones get a number."""
    try:
        first = next(row for row in csv.reader(io.StringIO(text), delimiter=separator) if row)
    except (StopIteration, csv.Error):
        raise InputError(f"{name} expected a header and rows, got an empty file; add them") from None
    if len(first) > MAX_COLUMNS:
        raise InputError(f"{name} expected at most {MAX_COLUMNS} columns, got {len(first)}; give embeddings as arrays")
    return _named([cell.strip() for cell in first], name)


def _named(names: list[str], where: str) -> tuple[list[str], list[str]]:
    notes = []
    for i, given in enumerate(names):
        if not given:
            names[i] = f"column {i + 1}"
            notes.append(f"column {i + 1} has no name and is called {names[i]!r}")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"{where} expected columns of different names, got {twice!r} twice; rename one")
    numbers = sum(_number(n) is not None for n in names)
    if numbers and numbers * 2 >= len(names):
        notes.append(f"{numbers} of {len(names)} column names are numbers: is the header line missing?")
    return names, notes


def _from_text(text: str, name: str, separator: str | None) -> Table:
    pandas = pandas_module()
    lines = text.splitlines()[:200]
    sep = separator or _separator(lines, name)
    if len(sep) != 1 or sep in '\n\r"':
        raise InputError(f"{name}: separator expected one character, got {sep!r}; give ',' or ';' or '|' or a tab")
    names, notes = _header(text, name, sep)
    usual = "\t" if name.lower().removesuffix(".gz").removesuffix(".xz").endswith((".tsv", ".tab")) else ","
    if sep != usual and separator is None:
        notes.append(f"cells are separated by {_SEPARATORS[sep]}")
    _expect_whole_rows(text, name, sep, len(names))
    try:
        frame = pandas.read_csv(
            io.StringIO(text),
            sep=sep,
            header=0,
            names=names,
            dtype=object,
            keep_default_na=False,
            skip_blank_lines=True,
            on_bad_lines="error",
        )
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise InputError(
            f"{name} expected {len(names)} cells separated by {_SEPARATORS.get(sep, repr(sep))} in every row, got other "
            f"rows ({_first_line(error)}); mend them, or say what separates them (--separator ';')"
        ) from None
    if not isinstance(frame.index, pandas.RangeIndex):
        raise InputError(
            f"{name} expected {len(names)} cells in every row as in the header, got rows with more; mend it"
        )
    if not len(frame):
        raise InputError(f"{name} expected at least one row below its header, got none; add rows")
    columns, texts = {}, {}
    for column in names:
        columns[column], texts[column] = _from_cells(frame[column], column, notes, comma=sep == ";")
    return Table(name, columns, texts, len(frame), tuple(notes))


def _expect_whole_rows(text: str, name: str, separator: str, cells: int) -> None:
    """pandas fills a short row up in silence."""
    rows = (row for row in csv.reader(io.StringIO(text), delimiter=separator) if row)
    try:
        for number, row in enumerate(rows):
            if len(row) != cells:
                raise InputError(
                    f"{name} row {number} expected {cells} cells separated by {_SEPARATORS.get(separator, repr(separator))} as "
                    f"the header has, got {len(row)}; mend that row, or say what separates the cells (--separator ';')"
                )
    except csv.Error as error:
        raise InputError(f"{name} expected a table of text, got something else ({error}); export it again") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _number(cell: str) -> float | None:
    """The number that a text is; None where it is none. ('1_000' is one for Python only.)"""
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _from_cells(series: Any, column: str, notes: list[str], comma: bool) -> tuple[np.ndarray, np.ndarray]:
    """(typed column, texts) of text cells: numbers where they are numbers, texts else; a few stray texts among numbers are
    missing, and said."""
    codes, found = pandas_module().factorize(series)  # each different cell is looked at once
    kinds = np.array([*map(_text, found), None], dtype=object)  # the code of what pandas takes for missing is -1
    numbers = [None if text is None else _parsed(text, comma) for text in kinds]
    values = np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
    is_number = np.array([number is not None for number in numbers], dtype=bool)
    is_stray = np.array([t is not None and n is None for t, n in zip(kinds, numbers, strict=True)], dtype=bool)
    texts = kinds[codes]
    number, stray = int(is_number[codes].sum()), int(is_stray[codes].sum())
    if stray and (not number or stray > _STRAY_SHARE * (number + stray)):
        if number:
            notes.append(f"column {column!r} mixes {number} numbers with {stray} texts and is taken as categories")
        return texts, texts
    if stray:
        row = int(np.flatnonzero(is_stray[codes])[0])
        notes.append(
            f"column {column!r} has {stray} cells that are no numbers, taken as missing (row {row + 1}: {texts[row][:40]!r})"
        )
    return _finite(values[codes], column, notes), texts


def _text(cell: Any) -> str | None:
    """A cell's text; None where it says that something is missing."""
    whole = isinstance(cell, float) and cell.is_integer()
    text = str(int(cell)) if whole else str(cell).strip()
    return None if text.lower() in MISSING else text


def _parsed(cell: str, comma: bool) -> float | None:
    found = _number(cell)
    return _number(cell.replace(",", ".")) if found is None and comma and cell.count(",") == 1 else found


def _finite(values: np.ndarray, column: str, notes: list[str]) -> np.ndarray:
    # A float32 is what a model computes in; larger numbers would be infinite there.
    bad = np.isinf(values) | (np.abs(values) > 1e30)
    if bad.any():
        notes.append(f"column {column!r} has {int(bad.sum())} infinite or huge numbers, taken as missing")
        values = np.where(bad, np.nan, values)
    return values


def _from_parquet(data: bytes, name: str) -> Table:
    pandas = pandas_module()
    try:
        frame = pandas.read_parquet(io.BytesIO(data), engine="pyarrow")
    except ImportError:
        raise InputError(
            f"{name} expected pyarrow to read Parquet, got none installed; install it: pip install 'innerloop[tables]'"
        ) from None
    except Exception as error:  # pyarrow raises a dozen kinds for damaged files
        raise InputError(
            f"{name} expected a Parquet table, got a damaged file ({_first_line(error)}); get it again"
        ) from None
    if not isinstance(frame.index, pandas.RangeIndex) and all(n is not None for n in frame.index.names):
        frame = frame.reset_index()
    return table_from_frame(frame, name)


def table_from_frame(frame: Any, name: str = "the data frame") -> Table:
    """The table in a pandas DataFrame."""
    pandas = pandas_module()
    if not len(frame):
        raise InputError(f"{name} expected at least one row, got none; add rows")
    if not frame.shape[1]:
        raise InputError(f"{name} expected columns, got none; add some")
    names, notes = _named([str(column).strip() for column in frame.columns], name)
    columns, texts = {}, {}
    for i, column in enumerate(names):
        series = frame.iloc[:, i]
        kinds = pandas.api.types
        missing = series.isna().to_numpy(dtype=bool)
        if kinds.is_datetime64_any_dtype(series.dtype):
            notes.append(f"column {column!r} holds dates, taken as days since 1970")
            days = series.to_numpy(dtype="datetime64[ns]").astype(np.float64) / 86_400e9
            columns[column], texts[column] = np.where(missing, np.nan, days), _all_texts(series)
        elif kinds.is_numeric_dtype(series.dtype) and not kinds.is_complex_dtype(series.dtype):
            values = series.astype("float64").to_numpy(dtype=np.float64, na_value=np.nan)
            columns[column], texts[column] = _finite(values, column, notes), _all_texts(series)
        else:
            columns[column], texts[column] = _from_cells(_as_cells(series, missing), column, notes, comma=False)
    return Table(name, columns, texts, len(frame), tuple(notes))


def _as_cells(series: Any, missing: np.ndarray) -> Any:
    """Values of any kind as texts, so that lists and the like are categories, if anything."""
    return series.where(missing, series.astype(str)) if series.dtype == object else series.astype("object")


def _all_texts(series: Any) -> np.ndarray:
    codes, found = pandas_module().factorize(series)
    return np.array([*map(_text, found), None], dtype=object)[codes]
