"""Tables from files and data frames, read into plain columns of numbers and texts: the one reader that there is.

CSV, TSV and JSON lines, also packed (.gz, .xz), Parquet and Arrow; data frames, rows and dictionaries of columns. Text is
taken as text first, so that a label "01" stays one. What is odd but readable is noted; what cannot be read is one error that
names the place. All but CSV and TSV need pandas, Parquet and Arrow pyarrow too; both come with the extra ``tables``.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import json
import lzma
import zlib
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from innerloop.data import picture_decoding
from innerloop.errors import InputError, nearest

_LINES = (".jsonl", ".ndjson")
_TEXT = (".csv", ".tsv", ".tab", *_LINES)
_PACKED = (".gz", ".xz")
_PARQUET, _ARROW = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
SUFFIXES = (*_TEXT, *_PARQUET, *_ARROW, *(name + packed for packed in _PACKED for name in _TEXT))
MISSING = frozenset(("", "na", "n/a", "nan", "null", "#n/a", "?", "<na>", "none"))
MAX_BYTES = 1 << 30  # of one table's text, after decompression
MAX_COLUMNS = 20_000
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_AT_ONCE = 10_000  # rows taken apart into columns together: fast, and little memory
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
        index: the columns that name or number the rows; no inputs, unless asked for by name.
        kinds: column -> the Python type of its cells, int or bool, where they came as such and not as texts.
    """

    name: str
    columns: dict[str, np.ndarray]
    texts: dict[str, np.ndarray]
    rows: int
    notes: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    kinds: Mapping[str, type] = dataclasses.field(default_factory=dict)

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

    def as_given(self, name: str, names: Sequence[str]) -> list[Any]:
        """Class names of a column as its cells came: whole numbers and truth values where they were no texts."""
        kind = self.kinds.get(name)
        return [text == "True" if kind is bool else int(text) if kind is int else text for text in names]

    def truth(self, name: str) -> np.ndarray | None:
        """A column of true and false as 1 and 0, NaN where missing; None: it holds anything else."""
        said = [None if cell is None else str(cell).lower() for cell in self.texts[name]]
        if set(said) <= {"true", "false", None}:
            return np.array([np.nan if cell is None else cell == "true" for cell in said], dtype=np.float64)
        return None

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
                truth = self.truth(name)
                cells = [None if cell is None else _number(cell) for cell in self.texts[name]]
                values = np.array(cells, dtype=np.float64) if truth is None else truth
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
        return dataclasses.replace(self, columns=columns, texts={name: self.texts[name] for name in columns})

    def beside(self, columns: Mapping[str, np.ndarray]) -> Table:
        """The table with these columns of numbers too, in the place of its own of the same names."""
        texts = {name: np.array([_text(float(v)) for v in values], dtype=object) for name, values in columns.items()}
        return dataclasses.replace(self, columns={**self.columns, **columns}, texts={**self.texts, **texts})


class Written(NamedTuple):
    """A text table as it is written.

    Attributes:
        columns: their names.
        rows: the cells of each row below the header, as many as there are columns; read as they are asked for.
        separator: between cells.
        notes: what is odd about it, in sentences.
    """

    columns: list[str]
    rows: Iterator[list[str]]
    separator: str
    notes: list[str]


def near_column(name: str, columns: Collection[str]) -> str:
    """A sentence part for a column that is not there: the nearest one, or that the table was not cut into columns."""
    if len(columns) == 1 and not next(iter(columns)).isidentifier():
        return f"its one column is {next(iter(columns))[:80]!r}; say what separates the cells (--separator ';')"
    return nearest(name, columns) + (
        "; most of its column names are numbers: is the header line missing?" if looks_headless(columns) else ""
    )


def looks_headless(columns: Collection[str]) -> bool:
    return sum(_number(name) is not None for name in columns) * 2 >= max(len(columns), 1)


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
        hasattr(value, "columns") and (hasattr(value, "iloc") or hasattr(value, "to_pandas"))
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
    if hasattr(given, "iloc"):
        return table_from_frame(given)
    try:
        frame = given.to_pandas() if hasattr(given, "to_pandas") else pandas_module().DataFrame(given)
    except ImportError:  # some need pyarrow for that
        frame = pandas_module().DataFrame({name: given[name].to_list() for name in given.columns})
    except (ValueError, TypeError, OverflowError, UnicodeError) as error:
        raise InputError(f"expected a table, got {type(given).__name__} that is none ({_first_line(error)})") from None
    return table_from_frame(frame)


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
    return table_from_bytes(_content(Path(path)), str(path), separator=separator, encoding=encoding)


def read_written(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> Written:
    """The cells of a text table's file as they are written, whatever they say; arguments and errors as for `read_table`."""
    name = str(path)
    data = _whole(_content(Path(path)), name)
    if _packing(data, name) is not None:
        raise InputError(f"{name} expected a table of text, got Parquet or Arrow; export it as CSV")
    return _written(_decoded(data, name, encoding), name, separator)


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
    data = _whole(data, name)
    packing = _packing(data, name)
    if packing is not None:
        return _from_columns(data, name, packing)
    text = _decoded(data, name, encoding)
    rows = _objects(text, name)
    return _typed(_written(text, name, separator), name) if rows is None else _from_rows(rows, name)


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
                f"{name} line {number} expected a JSON object, got something else ({_first_line(error)}); mend that line"
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


def _from_rows(rows: list[dict[str, Any]], name: str) -> Table:
    try:
        frame = pandas_module().DataFrame(rows)
    except (ValueError, TypeError, OverflowError, UnicodeError) as error:
        raise InputError(f"{name} expected rows of a table, got something else ({_first_line(error)})") from None
    return table_from_frame(frame, name)


def _whole(data: bytes, name: str) -> bytes:
    if name.lower().endswith(".gz") or data[:2] == b"\x1f\x8b":
        return _unpacked(gzip.GzipFile(fileobj=io.BytesIO(data)), name)
    if name.lower().endswith(".xz") or data[:6] == b"\xfd7zXZ\0":
        return _unpacked(lzma.LZMAFile(io.BytesIO(data)), name)
    return data


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


def _named(names: list[str], where: str) -> tuple[list[str], list[str]]:
    notes = []
    for i, given in enumerate(names):
        if not given:
            names[i] = f"column {i + 1}"
            notes.append(f"column {i + 1} has no name and is called {names[i]!r}")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"{where} expected columns of different names, got {twice!r} twice; rename one")
    if looks_headless(names):
        numbers = sum(_number(n) is not None for n in names)
        notes.append(f"{numbers} of {len(names)} column names are numbers: is the header line missing?")
    return names, notes


def _written(text: str, name: str, separator: str | None) -> Written:
    sep = separator or _separator(text.splitlines()[:200], name)
    if len(sep) != 1 or sep in '\n\r"':
        raise InputError(f"{name}: separator expected one character, got {sep!r}; give ',' or ';' or '|' or a tab")
    lines = _lines(text, name, sep)
    header = next(lines, None)
    if header is None:
        raise InputError(f"{name} expected a header and rows, got an empty file; add them")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{name} expected at most {MAX_COLUMNS} columns, got {len(header)}; give embeddings as arrays")
    columns, notes = _named([cell.strip() for cell in header], name)
    usual = "\t" if name.lower().removesuffix(".gz").removesuffix(".xz").endswith((".tsv", ".tab")) else ","
    if sep != usual and separator is None:
        notes.append(f"cells are separated by {_SEPARATORS[sep]}")
    return Written(columns, _rows(lines, name, sep, len(columns)), sep, notes)


def _lines(text: str, name: str, separator: str) -> Iterator[list[str]]:
    """The cells of every line but blank ones, the header first."""
    blank, begun, last = " \t\r\n".replace(separator, ""), False, None

    def lines() -> Iterator[str]:
        nonlocal begun
        # A line of two empty cells comes last. A quotation mark that nothing closes swallows it.
        for line in itertools.chain(io.StringIO(text, newline=""), [separator]):
            if begun or line.strip(blank):  # within quotation marks a blank line is part of the cell
                begun = True
                yield line

    try:
        for row in csv.reader(lines(), delimiter=separator):
            if last is not None:
                yield last
            begun, last = False, row
    except csv.Error as error:
        raise InputError(f"{name} expected a table of text, got something else ({error}); export it again") from None
    if last != ["", ""]:
        raise InputError(
            f"{name} expected a quotation mark at the end of a cell that begins with one, got none; mend it"
        )


def _rows(lines: Iterator[list[str]], name: str, separator: str, cells: int) -> Iterator[list[str]]:
    number = 0
    for number, row in enumerate(lines, start=1):
        if len(row) != cells:
            raise InputError(
                f"{name} row {number} expected {cells} cells separated by {_SEPARATORS.get(separator, repr(separator))} as "
                f"the header has, got {len(row)}; mend that row, or say what separates the cells (--separator ';')"
            )
        yield row
    if not number:
        raise InputError(f"{name} expected at least one row below its header, got none; add rows")


def _typed(written: Written, name: str) -> Table:
    # Of each column the different cells, each with its number, and the number of every row's.
    known: list[dict[str, int]] = [{} for _ in written.columns]
    codes = [array("q") for _ in written.columns]
    while some := list(itertools.islice(written.rows, _AT_ONCE)):
        for cells, numbers, of_rows in zip(zip(*some, strict=True), known, codes, strict=True):
            of_rows.extend([numbers.setdefault(cell, len(numbers)) for cell in cells])
    columns, texts, notes = {}, {}, written.notes
    for column, numbers, of_rows in zip(written.columns, known, codes, strict=True):
        cells = np.frombuffer(of_rows, dtype=np.int64)
        columns[column], texts[column] = _from_cells(
            cells, list(numbers), column, notes, comma=written.separator == ";"
        )
    return Table(name, columns, texts, len(codes[0]), tuple(notes), _numbering(columns))


def _numbering(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The column that numbers the rows, as data frames write it: first, without a name, of different whole numbers."""
    first = next(iter(columns))
    values = columns[first]
    if first not in ("column 1", "Unnamed: 0", "__index_level_0__") or values.dtype.kind != "f":
        return ()
    whole = bool(np.isfinite(values).all()) and bool((values == values.round()).all())
    return (first,) if whole and len(np.unique(values)) == len(values) else ()


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


def _from_cells(
    codes: np.ndarray, found: Sequence[Any], column: str, notes: list[str], comma: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(typed column, texts) of the cells ``found[codes]``, each different one looked at once.

    Numbers where they are numbers, texts else; a few stray texts among numbers are missing, and said.
    """
    kinds = np.array([*map(_text, found), None], dtype=object)  # code -1: what pandas takes for missing
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
            f"{name} expected a table in {packing}, got a damaged file ({_first_line(error)}); get it again"
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
    names, notes = _named([str(column).strip() for column in frame.columns], name)
    columns, texts, given = {}, {}, {}
    kinds = pandas.api.types
    for i, column in enumerate(names):
        series = frame.iloc[:, i]
        series = (
            series.astype(object) if isinstance(series.dtype, pandas.CategoricalDtype) else series
        ).infer_objects()
        if kinds.is_integer_dtype(series.dtype) or kinds.is_bool_dtype(series.dtype):
            given[column] = int if kinds.is_integer_dtype(series.dtype) else bool
        missing = series.isna().to_numpy(dtype=bool)
        if kinds.is_datetime64_any_dtype(series.dtype):
            notes.append(f"column {column!r} holds dates, taken as days since 1970")
            days = series.to_numpy(dtype="datetime64[ns]").astype(np.float64) / 86_400e9
            columns[column], texts[column] = np.where(missing, np.nan, days), _all_texts(series)
        elif kinds.is_numeric_dtype(series.dtype) and not (kinds.is_complex_dtype(series) or given.get(column) is bool):
            values = series.astype("float64").to_numpy(dtype=np.float64, na_value=np.nan)
            columns[column], texts[column] = _finite(values, column, notes), _all_texts(series)
        else:
            codes, found = pandas.factorize(_as_cells(series, missing))
            columns[column], texts[column] = _from_cells(codes, found, column, notes, comma=False)
    index = tuple(names[:levels]) or _numbering(columns)
    return Table(name, columns, texts, len(frame), tuple(notes), index, given)


def _as_cells(series: Any, missing: np.ndarray) -> Any:
    """Values of any kind as texts, so that lists and the like are categories, if anything."""
    return series.where(missing, series.astype(str)) if series.dtype == object else series.astype("object")


def _all_texts(series: Any) -> np.ndarray:
    codes, found = pandas_module().factorize(series)
    return np.array([*map(_text, found), None], dtype=object)[codes]
