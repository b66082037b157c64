"""Files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from innerloop.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to a new file beside ``path``, flush it to the disk, and move it into place.

    Raises:
        InputError: a folder, a device or the like stands at ``path``, or a file where a folder has to be.
        OSError: no permission, no space; what was at ``path`` is untouched then.
    """
    target = path.resolve()  # through a link: what it points to is replaced, not the link
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "something that is no regular file"
        raise InputError(f"expected to write a file at {path}, got {what} there; choose another place")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"expected a folder above {path}, got a file there; choose another place") from None
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files; this one is like any other
        os.replace(name, target)
    except BaseException:
        if os.path.exists(name):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
