"""Where commands write: a place that cannot be written is told before the work, by the name that the user gave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from innerloop.errors import InputError


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


def folder(path: Path, flag: str = "--out") -> Path:
    """``path``, where a folder can be or become one."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag} expected a folder, got the file {str(path)!r}; give another")
    return below_no_file(path, flag)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk name ``path``, not the file beside it that is written first."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
