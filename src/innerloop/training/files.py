"""Files that are either whole or not there: tensors and JSON in one safetensors file, written aside and moved into place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from innerloop.errors import CheckpointError, InputError


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


def save_tensors(path: Path, kind: str, version: int, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """One safetensors file of this kind and version, with a JSON header."""
    from safetensors.torch import save

    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(own, {"format": kind, "version": str(version), "header": json.dumps(header)}))


def load_tensors(path: Path, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header) of a file written by `save_tensors`. Reading cannot run code.

    Raises:
        CheckpointError: the file is missing, truncated, of another kind or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path} expected a file of kind {kind}, found none")
    try:
        with safe_open(str(path), framework="pt") as file:
            found = file.metadata() or {}
            if found.get("format") != kind:
                raise CheckpointError(
                    f"{path} expected a file of kind {kind}, got {found.get('format', 'no innerloop file')!r}"
                )
            if int(found.get("version", "0")) > version:
                raise CheckpointError(
                    f"{path} expected version {version} or older, got version {found['version']}; upgrade innerloop to read it"
                )
            header = json.loads(found["header"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is truncated or damaged ({str(error).splitlines()[0]}); use another checkpoint"
        ) from None
    return tensors, header
