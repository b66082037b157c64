"""Where data sets and decoded caches are kept. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _user_folder(variable: str, on_linux: str, on_mac: str) -> Path:
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / on_mac
    given = os.environ.get(variable, "")
    # The XDG specification says that a relative path there is to be ignored.
    return Path(given) if os.path.isabs(given) else home / on_linux


def data_folder() -> Path:
    """Where data sets lie, by name: INNERLOOP_DATA, else the user's data folder. Not created here."""
    given = os.environ.get("INNERLOOP_DATA")
    if given:
        return Path(given).expanduser()
    return _user_folder("XDG_DATA_HOME", ".local/share", "Application Support") / "innerloop"


def cache_folder() -> Path:
    """Where decoded copies go: INNERLOOP_CACHE, else the user's cache folder. Safe to delete."""
    given = os.environ.get("INNERLOOP_CACHE")
    if given:
        return Path(given).expanduser()
    folder = _user_folder("XDG_CACHE_HOME", ".cache", "Caches") / "innerloop"
    return folder / "cache" if sys.platform == "win32" else folder
