"""The text of a table, taken apart into cells: packed or not, in whatever encoding, with whatever between its cells."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from innerloop.data.table_cells import plain
from innerloop.errors import InputError

MAX_BYTES = 1 << 30  # of one table's text, after decompression
MAX_COLUMNS = 20_000
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


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


def looks_headless(columns: Collection[str]) -> bool:
    """Whether most names of columns are numbers, as where the header line is missing."""
    return sum(plain(name) is not None for name in columns) * 2 >= max(len(columns), 1)


def unpacked(data: bytes, name: str) -> bytes:
    """A file's bytes without their packing (gzip, xz), if they have any."""
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


def decoded(data: bytes, name: str, encoding: str | None) -> str:
    """The text in these bytes; InputError where they are none."""
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


def named_columns(names: list[str], where: str) -> tuple[list[str], list[str]]:
    """(different names for all columns, notes); InputError where a name comes twice."""
    notes = []
    for i, given in enumerate(names):
        if not given:
            names[i] = f"column {i + 1}"
            notes.append(f"column {i + 1} has no name and is called {names[i]!r}")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"{where} expected columns of different names, got {twice!r} twice; rename one")
    if looks_headless(names):
        numbers = sum(plain(n) is not None for n in names)
        notes.append(f"{numbers} of {len(names)} column names are numbers: is the header line missing?")
    return names, notes


def taken_apart(text: str, name: str, separator: str | None) -> Written:
    """Header and rows of a text; InputError where it is no table."""
    sep = separator or _separator(text.splitlines()[:200], name)
    if len(sep) != 1 or sep in '\n\r"':
        raise InputError(f"{name}: separator expected one character, got {sep!r}; give ',' or ';' or '|' or a tab")
    lines = _lines(text, name, sep)
    header = next(lines, None)
    if header is None:
        raise InputError(f"{name} expected a header and rows, got an empty file; add them")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{name} expected at most {MAX_COLUMNS} columns, got {len(header)}; give embeddings as arrays")
    columns, notes = named_columns([cell.strip() for cell in header], name)
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
