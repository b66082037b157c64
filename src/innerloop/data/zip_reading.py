"""Reading zip files whose contents are known: what is missing or damaged is an InputError with its path."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from innerloop.errors import InputError


def check_checksums(archive: zipfile.ZipFile) -> None:
    """Read every member; raise BadZipFile, which `open_zip` turns into InputError, where one is damaged."""
    damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


@contextlib.contextmanager
def open_zip(path: Path, dataset: str) -> Iterator[zipfile.ZipFile]:
    """The zip at ``path``, open for reading.

    Args:
        path: of the file.
        dataset: what `innerloop data fetch` calls the data set; named in the messages.

    Raises:
        InputError: no file, no permission, not a zip, or damage that shows while reading inside the block.
    """
    advice = f"fetch it again with: innerloop data fetch {dataset}"
    if not path.is_file():
        raise InputError(
            f"expected {path.name} in {path.parent}, found no such file; run: innerloop data fetch {dataset} "
            "(or set INNERLOOP_DATA to the folder that holds your data sets)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} expected a complete zip file, got one that is damaged ({error}); {advice}") from error
    except PermissionError as error:
        raise InputError(f"{path} expected a readable file, got: {error.strerror}; change its permissions") from error
