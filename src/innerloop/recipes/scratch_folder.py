"""A folder for a recipe's own files, gone afterwards, together with what is decoded from them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder; while it is there, decoded pictures are kept below it and not in the user's cache folder."""
    before = os.environ.get("INNERLOOP_CACHE")
    # A file that is still mapped cannot be removed on every system; then the system's own cleaning has to do it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.environ["INNERLOOP_CACHE"] = str(Path(name) / ".cache")
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["INNERLOOP_CACHE"]
            else:
                os.environ["INNERLOOP_CACHE"] = before
