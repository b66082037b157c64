"""Reading zip files whose contents are known: what is missing or damaged is an InputError with its path."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from innerloop.errors import InputError

_END_AT_MOST = 22 + 65535  # bytes of a zip's closing record with the longest comment


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


def contents_bytes(path: Path, dataset: str) -> bytes:
    """A zip's table of contents: names, sizes and checksums of its members, as bytes to hash. Reads that table only.

    The same pictures packed in the same way give the same bytes, wherever the zip lies.

    Raises:
        InputError: as `open_zip`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _END_AT_MOST))
            end = file.read()
            at = end.rfind(b"PK\x05\x06")
            if at >= 0 and len(end) >= at + 20:
                # The table ends where the closing record begins (APPNOTE.TXT 4.3.16: its length stands 12 bytes into that).
                length = int.from_bytes(end[at + 12 : at + 16], "little")
                file.seek(max(0, size - len(end) + at - length))
                table = file.read(length)
                if table.startswith(b"PK\x01\x02") and len(table) == length:
                    return table
    except OSError:
        pass
    # Nothing there, damaged, or a very large zip, which says it elsewhere: the zip reader knows, at its leisure.
    with open_zip(path, dataset) as archive:
        return "\n".join(f"{member.filename} {member.file_size} {member.CRC}" for member in archive.infolist()).encode()
