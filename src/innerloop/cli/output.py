"""What commands print and where they write: a flag or a place that cannot be is told before the work, as the user named it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import ConfigError, InputError
from innerloop.storage import write_atomically


def plain(value: Any) -> Any:
    """The same with lists, texts and numbers only; JSON has no NaN or infinity, so these become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    item = getattr(value, "item", None)  # a number of torch or numpy
    return plain(item()) if item is not None else str(value)


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """The whole file or none: a reader never meets half of one."""
    with writing(path):
        write_atomically(path, text.encode())


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Rows as a CSV file, the header first."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_whole(path, text.getvalue())


# ---- places and flags that cannot be -----------------------------------------------------------------------------
def below_no_file(path: Path, flag: str = "--out") -> Path:
    """``path``, unless something above it is a file."""
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise InputError(
                f"{flag} {str(path)!r} expected a folder above it, got the file {str(above)!r}; give another"
            )
    return path


def file(path: Path, flag: str = "--out") -> Path:
    """``path``, where a file can be or become one."""
    if path.is_dir():
        raise InputError(f"{flag} expected a file, got the folder {str(path)!r}; give a file's name")
    return below_no_file(path, flag)


def new_file(path: Path, force: bool, flag: str = "--out") -> Path:
    """`file`, and not there yet, unless ``force``."""
    if file(path, flag).exists() and not force:
        raise InputError(f"expected a new file, got the existing {str(path)!r}; add --force or give another {flag}")
    return path


def existing_task(path: Path) -> Path:
    """A task file that is there already, for --onto."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise InputError(
            f"--onto expected a task file of `innerloop adapt`, got {what} at {str(path)!r}; make one with --out first"
        )
    return path


def folder(path: Path, flag: str = "--out") -> Path:
    """``path``, where a folder can be or become one."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag} expected a folder, got the file {str(path)!r}; give another")
    return below_no_file(path, flag)


def new_folder(path: Path, force: bool) -> Path:
    """`folder`, and empty or not there yet, unless ``force``."""
    if folder(path).is_dir() and any(path.iterdir()) and not force:
        raise InputError(
            f"expected a new folder, got {str(path)!r} with files in it; add --force or give another --out"
        )
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk name ``path``, not the file beside it that is written first."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def only_for(what: str, got: str, **flags: object) -> None:
    """ConfigError for the first of these flags that was given; they need ``what`` where ``got`` was given.

    Dropped silently, its user would go on believing in it.
    """
    for name, value in flags.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} expected {what}, got {got}; leave it out")
