"""Decoded pictures in files that are mapped into memory: opened in milliseconds, read as far as they are used.

One safetensors file holds the pictures of a `ClassImages` as bytes, with names and groups in its header. The mapping is private:
processes share its pages until one of them writes to a picture, and what it writes stays its own.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from innerloop.data.class_images import ClassImages
from innerloop.errors import InnerloopError, InnerloopWarning

_FORMAT = "innerloop-pictures-1"
# Files of one data set with other keys that stay: two installations may be in use side by side, or an archive be put back.
_KEPT = 2
_BLOCK = 1 << 24  # bytes of a checksum's piece


def cached_pictures(folder: Path, name: str, key: str, make: Callable[[], ClassImages], superseded: str) -> ClassImages:
    """The pictures of this name and key, from the cache; made and kept there where they are missing or damaged.

    Args:
        folder: where the file lies or will lie.
        name: of the data set and its settings; files of this name with another key are older versions; old ones go.
        key: what the pictures were made from; pictures with the same name and key are the same.
        make: makes them; slow.
        superseded: shell-style pattern of files of earlier versions of innerloop; deleted when a new file is written.
    """
    path = folder / f"{name}-{key}.safetensors"
    found = _read(path)
    if found is None:
        made = make()
        if _write(path, made):
            _remove_old(path, name, superseded)
        found = _read(path) or made
    return found


def _read(path: Path) -> ClassImages | None:
    """The pictures in a file, mapped; None where there is none or it is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:  # refuses a file shorter or longer than its header says
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                return None
            pictures = file.get_tensor("images")
        counts = json.loads(header.get("counts", "null"))
        found = ClassImages(
            pictures,
            tuple(json.loads(header["names"])),
            tuple(json.loads(header["groups"])),
            None if counts is None else tuple(map(int, counts)),
            tuple((str(name), str(why)) for name, why in json.loads(header.get("left_out", "[]"))),
        )
        # Its time says that nobody wrote to it or copied it since; else every byte is looked at, once.
        if os.stat(path).st_mtime_ns != int(header["written"]) * 10**9:
            if _checksum(pictures) != int(header["checksum"]):
                return None
            _stamp(path, int(header["written"]))
    except (SafetensorError, InnerloopError, OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _write(path: Path, images: ClassImages) -> bool:
    """Write aside and rename, so that no reader ever sees half of it; False, with a warning, where that is not possible."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    pictures = images.images.contiguous()
    # Even whole seconds: every file system can hold such a time.
    written = int(time.time()) // 2 * 2
    header = {
        "format": _FORMAT,
        "names": json.dumps(images.names),
        "groups": json.dumps(images.groups),
        "counts": json.dumps(images.counts),
        "left_out": json.dumps(images.left_out),
        "checksum": str(_checksum(pictures)),
        "written": str(written),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": pictures}, part, header)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        _stamp(part, written)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        message = f"could not keep decoded pictures in {path.parent} ({error}); next time costs decoding again"
        warnings.warn(message, InnerloopWarning, stacklevel=4)
        _remove(part)
        return False
    return True


def _stamp(path: Path, seconds: int) -> None:
    try:
        os.utime(path, (seconds, seconds))
    except OSError:
        return  # another user's file: it is looked through each time


def _checksum(pictures: Tensor) -> int:
    flat = pictures.reshape(-1).numpy()
    found = 0
    for start in range(0, flat.size, _BLOCK):
        found = zlib.crc32(flat[start : start + _BLOCK].data, found)
    return found


def _remove_old(path: Path, name: str, superseded: str) -> None:
    """Delete what earlier versions of code or data left: files of another format, and all but the newest of this one."""
    for old in path.parent.glob(superseded):
        _remove(old)
    others = [other for other in path.parent.glob(f"{name}-*.safetensors") if other != path]
    for old in sorted(others, key=_time, reverse=True)[_KEPT:]:
        _remove(old)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # open elsewhere (Windows), or not ours
