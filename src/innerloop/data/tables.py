"""Tables from files and data frames, read into plain columns of numbers and texts: the one reader that there is.

CSV, TSV and JSON lines, also packed (.gz, .xz), Parquet and Arrow; data frames, rows and dictionaries of columns. Text is
taken as text first, so that a label "01" stays one. What is odd but readable is noted; what cannot be read is one error that
names the place. All but CSV and TSV need pandas, Parquet and Arrow pyarrow too; both come with the extra ``tables``.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from array import array
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from innerloop.data import picture_decoding
from innerloop.data.table_cells import (
    PLAIN,
    TYPED,
    Lost,
    Loud,
    Reading,
    dates_in_digits,
    decide,
    plain,
    read_as,
    thousands,
)
from innerloop.data.table_text import MAX_BYTES, Written, decoded, looks_headless, named_columns, taken_apart, unpacked
from innerloop.errors import InputError, first_line, nearest
from innerloop.waiting import waiting

_LINES = (".jsonl", ".ndjson")
_TEXT = (".csv", ".tsv", ".tab", *_LINES)
_PACKED = (".gz", ".xz")
_PARQUET, _ARROW = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
SUFFIXES = (*_TEXT, *_PARQUET, *_ARROW, *(name + packed for packed in _PACKED for name in _TEXT))
MISSING = frozenset(("", "na", "n/a", "nan", "null", "#n/a", "?", "<na>", "none"))
_AT_ONCE = 10_000  # rows taken apart into columns together: fast, and little memory


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        name: of the file, for messages.
        columns: name -> float64 numbers (NaN where missing) or texts (None where missing), one a row.
        texts: name -> the cells as they were written (None where missing); what class names are taken from.
        rows: how many rows.
        notes: what was done to read it, in sentences.
        index: the columns that name or number the rows; no inputs, unless asked for by name.
        kinds: column -> the Python type of its cells, int, float or bool, where they came as such and not as texts; object
            where they came as several kinds.
        readings: name -> how its cells became what they are; a column that is not there was plain.
        refused: name -> why its cells can be neither read nor left out; an error where the column is used.
    """

    name: str
    columns: dict[str, np.ndarray]
    texts: dict[str, np.ndarray]
    rows: int
    notes: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    kinds: Mapping[str, type] = dataclasses.field(default_factory=dict)
    readings: Mapping[str, Reading] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """A column; an unknown name is an InputError with the nearest."""
        self.expect(name)
        return self.columns[name]

    def expect(self, *names: str) -> None:
        """Raise InputError where a column is not there."""
        for name in names:
            if name not in self.columns:
                raise InputError(f"{self.name} has no column {name!r}: {near_column(name, self.columns)}")

    def readable(self, *names: str) -> None:
        """Raise InputError where a column is not there, or its cells can be neither read nor left out."""
        self.expect(*names)
        for name in names:
            if name in self.refused:
                raise InputError(f"{self.name}: {self.refused[name]}")

    def is_number(self, name: str) -> bool:
        return self.columns[name].dtype.kind == "f"

    def labels(self, name: str) -> np.ndarray:
        """A column as class names, as they were written; None where missing.

        Raises:
            InputError: the column is not there, or its cells came as several kinds, of which 1 and "1" would be one class.
        """
        self.expect(name)
        if self.kinds.get(name) is object:
            raise InputError(
                f"{self.name}: column {name!r} expected class names of one kind, got a mix of texts, numbers or truth values; "
                "make them alike"
            )
        return self.texts[name]

    def class_names(self, name: str) -> list[str]:
        """`labels` of a column that has one in every row.

        Raises:
            InputError: as there, or a missing cell.
        """
        cells = self.labels(name).tolist()
        if None in cells:
            raise InputError(
                f"{self.name} row {cells.index(None) + 1}: the target {name!r} expected a class, got a missing cell"
            )
        return cells

    def as_given(self, name: str, names: Sequence[str]) -> list[Any]:
        """Class names of a column as its cells came: numbers and truth values where they were no texts."""
        kind = self.kinds.get(name)
        return [text == "True" if kind is bool else kind(text) if kind in (int, float) else text for text in names]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """(rows, columns): these columns as they are.

        Raises:
            InputError: a cell that is no finite number, with its place; or a column that is not there.
        """
        self.expect(*names)
        found = []
        for name in names:
            values = self.columns[name]
            if not self.is_number(name):
                values = np.array([None if c is None else plain(c) for c in self.texts[name]], dtype=np.float64)
            bad = ~np.isfinite(values)
            if bad.any():
                row = int(bad.argmax())
                cell = self.texts[name][row]
                raise InputError(
                    f"{self.name} row {row + 1}, column {name!r} expected a finite number, got "
                    f"{'a missing cell' if cell is None else repr(cell[:40])}; mend the cell or leave out the column"
                )
            found.append(values)
        return np.stack(found, 1) if found else np.zeros((self.rows, 0))

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows, in this order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        texts = {name: values[rows] for name, values in self.texts.items()}
        return dataclasses.replace(self, columns=columns, texts=texts, rows=len(rows))

    def without(self, names: Collection[str]) -> Table:
        """The table without these columns."""
        columns = {name: values for name, values in self.columns.items() if name not in names}
        refused = {name: why for name, why in self.refused.items() if name in columns}
        return dataclasses.replace(
            self, columns=columns, texts={name: self.texts[name] for name in columns}, refused=refused
        )

    def beside(self, columns: Mapping[str, np.ndarray]) -> Table:
        """The table with these columns of numbers too, in the place of its own of the same names."""
        texts = {name: np.array([_text(float(v)) for v in values], dtype=object) for name, values in columns.items()}
        readings = {name: reading for name, reading in self.readings.items() if name not in columns}
        return dataclasses.replace(
            self, columns={**self.columns, **columns}, texts={**self.texts, **texts}, readings=readings
        )


def near_column(name: str, columns: Collection[str]) -> str:
    """A sentence part for a column that is not there: the nearest one, or that the table was not cut into columns."""
    if len(columns) == 1 and not next(iter(columns)).isidentifier():
        return f"its one column is {next(iter(columns))[:80]!r}; say what separates the cells (--separator ';')"
    bare = ["".join(filter(str.isalnum, word)).casefold() for word in (name, *columns)]
    alike = [column for column, word in zip(columns, bare[1:], strict=True) if word == bare[0]]
    return (f"did you mean {alike[0]!r}?" if alike else nearest(name, columns)) + (
        "; most of its column names are numbers: is the header line missing?" if looks_headless(columns) else ""
    )


def is_table(path: str | Path) -> bool:
    """Whether the file's name ends as a table's does."""
    return str(path).lower().endswith(SUFFIXES)


def is_tabular(value: Any) -> bool:
    """Whether this is a table in memory: a `Table`, a data frame, an array of records or a list of rows by column name."""
    if isinstance(value, list):
        first = value[0] if value else None
        return isinstance(first, Mapping) and not any(hasattr(cell, "ndim") for cell in first.values())
    if isinstance(value, np.ndarray):
        return value.dtype.names is not None
    return isinstance(value, Table) or (
        (hasattr(value, "iloc") or hasattr(value, "to_pandas")) and hasattr(value, "columns")
    )


def as_table(given: Any) -> Table:
    """The table in a file, a data frame, an array of records, rows by column name, or a dictionary of columns.

    Raises:
        InputError: no table, with the reason and the place.
    """
    if isinstance(given, Table):
        return given
    if isinstance(given, list | tuple) and given and all(isinstance(path, str | Path) for path in given):
        if len(given) != 1:
            raise InputError(
                f"expected one table for a learner of tables, got {len(given)} paths; give them one by one"
            )
        given = given[0]
    if isinstance(given, str | Path):
        return read_table(given)
    return table_from_frame(given if hasattr(given, "iloc") else _frame(given, "the table"))


def _frame(given: Any, name: str) -> Any:
    """A pandas DataFrame of another library's, of records, of rows by column name or of columns by name."""
    pandas = pandas_module()
    try:
        if not hasattr(given, "to_pandas"):
            return pandas.DataFrame(given)
        try:
            return given.to_pandas()
        except ImportError:  # some need pyarrow for that
            return pandas.DataFrame({column: given[column].to_list() for column in given.columns})
    except Exception as error:  # pandas raises a dozen kinds for what is no table
        raise InputError(
            f"{name} expected rows and columns, got something else ({first_line(error)}); mend it"
        ) from None


def pandas_module() -> ModuleType:
    """pandas, or an InputError with the line that installs it."""
    try:
        import pandas
    except ImportError:
        raise InputError(
            "reading a table that is not CSV expected pandas, got none; install it: pip install 'innerloop[tables]'"
        ) from None
    return pandas


def read_table(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> Table:
    """The table in a file.

    Args:
        path: a .csv, .tsv, .tab, .jsonl (each also .gz or .xz), .parquet or .feather file; other names are read as what
            they hold, or as CSV.
        separator: between a text table's cells; None: found in the file (comma, tab, semicolon or bar).
        encoding: of a text table; None: UTF-8, or UTF-16 where the file begins so.

    Raises:
        InputError: no table, with the reason and the place.
    """
    with waiting(f"reading {path}"):
        return table_from_bytes(_content(Path(path)), str(path), separator=separator, encoding=encoding)


def read_written(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> Written:
    """The cells of a text table's file as they are written, whatever they say; arguments and errors as for `read_table`."""
    name = str(path)
    data = unpacked(_content(Path(path)), name)
    if _packing(data, name) is not None:
        raise InputError(f"{name} expected a table of text, got Parquet or Arrow; export it as CSV")
    return taken_apart(decoded(data, name, encoding), name, separator)


def _content(path: Path) -> bytes:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise InputError(f"expected a table, got {what} at {str(path)!r}; check the path")
    if path.suffix.lower() in picture_decoding.SUFFIXES:
        raise InputError(f"expected a table, got the picture {str(path)!r}; give a CSV file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} expected at most {MAX_BYTES >> 20} MB, got more; cut the table into several")
    return path.read_bytes()


def table_from_bytes(data: bytes, name: str, *, separator: str | None = None, encoding: str | None = None) -> Table:
    """The table in a file's bytes; ``name`` is for messages, and its ending says what kind of file it is."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} expected at most {MAX_BYTES >> 20} MB, got more; cut the table into several")
    data = unpacked(data, name)
    packing = _packing(data, name)
    if packing is not None:
        return _from_columns(data, name, packing)
    text = decoded(data, name, encoding)
    rows = _objects(text, name)
    if rows is not None:
        return table_from_frame(_frame(rows, name), name)
    return _typed(taken_apart(text, name, separator), name)


def _packing(data: bytes, name: str) -> str | None:
    """Parquet, Feather (which is an Arrow file) or an Arrow stream; None: text."""
    for kind, begins in (
        ("Feather", b"ARROW1"),
        ("Feather", b"FEA1"),
        ("Arrow", b"\xff\xff\xff\xff"),
        ("Parquet", b"PAR1"),
    ):
        if data.startswith(begins):
            return kind
    return "Parquet" if name.lower().endswith(_PARQUET) else "Arrow" if name.lower().endswith(_ARROW) else None


def _objects(text: str, name: str) -> list[dict[str, Any]] | None:
    """The objects of JSON lines, or of one array of them; None: the text is something else."""
    named = name.lower().removesuffix(".gz").removesuffix(".xz").endswith(_LINES)
    begins = text.lstrip()[:1]
    if not named and begins not in ("{", "["):
        return None
    found: list[Any] = []
    for number, line in enumerate([text] if begins == "[" else text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            given = json.loads(line, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            if begins == "[" and not named:
                return None
            raise InputError(
                f"{name} line {number} expected a JSON object, got something else ({first_line(error)}); mend that line"
            ) from None
        found += given if begins == "[" and isinstance(given, list) else [given]
    if not all(isinstance(row, dict) for row in found):
        if begins == "[" and not named:
            return None
        raise InputError(f"{name} expected JSON objects, one a line, got something else; export it again")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"a name comes twice in {', '.join(key for key, _ in pairs)[:80]}")
    return made


def _typed(written: Written, name: str) -> Table:
    # Of each column the different cells, each with its number, and the number of every row's.
    known: list[dict[str, int]] = [{} for _ in written.columns]
    codes = [array("q") for _ in written.columns]
    while some := list(itertools.islice(written.rows, _AT_ONCE)):
        for cells, numbers, of_rows in zip(zip(*some, strict=True), known, codes, strict=True):
            of_rows.extend([numbers.setdefault(cell, len(numbers)) for cell in cells])
    made = Columns(written.notes, semicolons=written.separator == ";")
    for column, numbers, of_rows in zip(written.columns, known, codes, strict=True):
        made.add_cells(column, np.frombuffer(of_rows, dtype=np.int64), list(numbers))
    made.agree_on_decimals()
    return made.table(name, len(codes[0]), _numbering(made.columns))


def _numbering(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The column that numbers the rows, as data frames write it: first, without a name, of different whole numbers."""
    first = next(iter(columns))
    values = columns[first]
    if first not in ("column 1", "Unnamed: 0", "__index_level_0__") or values.dtype.kind != "f":
        return ()
    whole = bool(np.isfinite(values).all()) and bool((values == values.round()).all())
    return (first,) if whole and len(np.unique(values)) == len(values) else ()


class Columns:
    """The columns of a table, as they are read one by one."""

    notes: list[str]
    semicolons: bool

    def __init__(self, notes: list[str], semicolons: bool = False) -> None:
        self.notes, self.semicolons = notes, semicolons
        self.columns: dict[str, np.ndarray] = {}
        self.texts: dict[str, np.ndarray] = {}
        self.readings: dict[str, Reading] = {}
        self.refused: dict[str, str] = {}

    def table(
        self, name: str, rows: int, index: tuple[str, ...] = (), kinds: Mapping[str, type] | None = None
    ) -> Table:
        notes = tuple(self.notes)
        return Table(name, self.columns, self.texts, rows, notes, index, kinds or {}, self.readings, self.refused)

    def add_cells(self, column: str, codes: np.ndarray, found: Sequence[Any]) -> None:
        """A column of the cells ``found[codes]``, each different one looked at once; -1 is a missing cell."""
        kinds = np.array([*map(_text, found), None], dtype=object)
        there = np.array([text is not None for text in kinds], dtype=bool)
        counts = np.bincount(codes[codes >= 0], minlength=len(kinds))[there]
        texts = kinds[codes]
        decided = decide(list(kinds[there]), counts.tolist(), column, semicolons=self.semicolons)
        if decided.note:
            self.notes.append(Loud(decided.note))
        if decided.stray and decided.values is not None:
            row = int((texts == decided.stray).argmax())
            gone = int(np.asarray(counts)[np.isnan(decided.values)].sum())
            self.notes.append(
                Lost(
                    f"column {column!r} has {gone} cells that are no numbers, taken as missing (row {row + 1}: "
                    f"{decided.stray[:40]!r})"
                )
            )
        if decided.refused:
            self.refused[column] = decided.refused
        if decided.values is None:
            self.add(column, texts, texts, decided.reading)
            return
        values = np.full(len(kinds), np.nan)
        values[there] = decided.values
        self.add_numbers(column, values[codes], texts, decided.reading)

    def add_numbers(self, column: str, values: np.ndarray, texts: np.ndarray, reading: Reading) -> None:
        # A float32 is what a model computes in; larger numbers would be infinite there.
        bad = np.isinf(values) | (np.abs(values) > 1e30)
        if bad.any():
            self.notes.append(
                Lost(f"column {column!r} has {int(bad.sum())} infinite or huge numbers, taken as missing")
            )
            values = np.where(bad, np.nan, values)
        self.add(column, values, texts, reading)

    def add(self, column: str, values: np.ndarray, texts: np.ndarray, reading: Reading) -> None:
        self.columns[column], self.texts[column] = values, texts
        if reading != PLAIN:
            self.readings[column] = reading

    def agree_on_decimals(self) -> None:
        """Refuse 1.234 or 1,234 where other columns' decimal marks make it a thousand, or leave both open."""
        marks = {r.decimal for r in self.readings.values() if r.kind == "number" and r.unit == ""}
        if "," not in marks:
            return
        for column, values in self.columns.items():
            if values.dtype.kind == "f" and column not in self.readings and (odd := thousands(self.texts[column])):
                self.refused[column] = (
                    f"column {column!r} holds {odd!r}, which may be a thousand, as other columns have decimal commas; "
                    "write all numbers with one decimal mark, or name the column with --categories or --ignore"
                )


def _text(cell: Any) -> str | None:
    """A cell's text; None where it says that something is missing."""
    whole = isinstance(cell, float) and cell.is_integer()
    text = str(int(cell)) if whole else str(cell).strip()
    return None if text.lower() in MISSING else text


def _from_columns(data: bytes, name: str, packing: str) -> Table:
    pandas = pandas_module()
    try:
        import pyarrow.ipc
    except ImportError:
        raise InputError(
            f"{name} expected pyarrow to read {packing}, got none installed; install it: pip install 'innerloop[tables]'"
        ) from None
    try:
        if packing == "Arrow":
            frame = pyarrow.ipc.open_stream(data).read_all().to_pandas()
        else:
            read = pandas.read_parquet if packing == "Parquet" else pandas.read_feather
            frame = read(io.BytesIO(data), **({"engine": "pyarrow"} if packing == "Parquet" else {}))
    except Exception as error:  # pyarrow raises a dozen kinds for damaged files
        raise InputError(
            f"{name} expected a table in {packing}, got a damaged file ({first_line(error)}); get it again"
        ) from None
    return table_from_frame(frame, name)


def table_from_frame(frame: Any, name: str = "the data frame") -> Table:
    """The table in a pandas DataFrame; its index counts as columns where it has names."""
    pandas = pandas_module()
    levels = 0 if None in frame.index.names else frame.index.nlevels
    try:
        frame = frame.reset_index() if levels else frame
    except ValueError as error:
        raise InputError(f"{name} expected an index of another name than the columns, got one ({error})") from None
    if not len(frame):
        raise InputError(f"{name} expected at least one row, got none; add rows")
    if not frame.shape[1]:
        raise InputError(f"{name} expected columns, got none; add some")
    names, notes = named_columns([str(column).strip() for column in frame.columns], name)
    made, given = Columns(notes), {}
    for i, column in enumerate(names):
        series = frame.iloc[:, i]
        series = (
            series.astype(object) if isinstance(series.dtype, pandas.CategoricalDtype) else series
        ).infer_objects()
        kind = {"i": int, "u": int, "f": float, "b": bool}.get(getattr(series.dtype, "kind", "O"))
        if kind is not None:
            given[column] = kind
        elif series.dtype == object and len({_kind(cell) for cell in {type(cell) for cell in series.dropna()}}) > 1:
            given[column] = object
        _add_series(made, column, series)
    return made.table(name, len(frame), tuple(names[:levels]) or _numbering(made.columns), given)


def _kind(cell: type) -> type:
    """Of cells that a column may mix: texts, truth values, or numbers and all else."""
    return str if issubclass(cell, str) else bool if issubclass(cell, bool | np.bool) else object


def _add_series(made: Columns, column: str, series: Any) -> None:
    """A data frame's column: numbers, dates and durations as they are; texts as in a text table."""
    pandas = pandas_module()
    kinds = pandas.api.types
    if isinstance(series.dtype, pandas.PeriodDtype):
        series = series.dt.to_timestamp()
    missing = series.isna().to_numpy(dtype=bool)
    kind = getattr(series.dtype, "kind", "O")
    if kinds.is_datetime64_any_dtype(series.dtype) or kind == "m":
        spans = kind == "m"
        # Nanoseconds end in the year 2262, and what is beyond would become another date without a word.
        counted = series.to_numpy(dtype="timedelta64[us]" if spans else "datetime64[us]").astype(np.float64)
        values = counted / (3600e6 if spans else 86_400e6)
        reading = Reading("hours" if spans else "date", form="typed")
        made.notes.append(Loud(read_as(column, reading)))
        made.add_numbers(column, np.where(missing, np.nan, values), _all_texts(series), reading)
    elif kinds.is_numeric_dtype(series.dtype) and kind != "c":
        texts = _all_texts(series)
        found = list(dict.fromkeys(text for text in texts if text is not None))
        if kind in "iu" and dates_in_digits(found, column) is not None:
            codes, cells = pandas.factorize(texts)
            made.add_cells(column, codes, cells)
            return
        values = series.astype("float64").to_numpy(dtype=np.float64, na_value=np.nan)
        made.add_numbers(column, values, texts, Reading("truth") if kind == "b" else TYPED)
    else:
        first = next((cell for cell in series[~missing]), None)
        codes, found = pandas.factorize(_as_cells(series, missing))
        made.add_cells(column, codes, found)
        if isinstance(first, list | tuple | dict | set | bytes | complex | np.ndarray):
            made.refused[column] = (
                f"column {column!r} expected one number or text a cell, got {type(first).__name__}s; make columns of them, or "
                "name it with --ignore"
            )


def _as_cells(series: Any, missing: np.ndarray) -> Any:
    """Values of any kind as texts, so that what is written is read as in a text table."""
    return series.where(missing, series.astype(str)) if series.dtype == object else series.astype("object")


def _all_texts(series: Any) -> np.ndarray:
    codes, found = pandas_module().factorize(series)
    return np.array([*map(_text, found), None], dtype=object)[codes]
