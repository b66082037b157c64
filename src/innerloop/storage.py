"""Files that are either whole or not there; tensors and JSON in one safetensors file, whose hash tells when a bit has changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import CheckpointError, InputError, first_line

if TYPE_CHECKING:
    from torch import Tensor

_NO_HASH = b"0" * 64  # stands in the hash's own place while the file is hashed
# Quotes inside the header's texts are escaped, so only an entry of the file itself looks like this.
_HASH = re.compile(rb'(?<=[{,]"sha256":")[0-9a-f]{64}(?=")')


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
    about = {"format": kind, "version": str(version), "sha256": _NO_HASH.decode(), "header": json.dumps(header)}
    data = save(own, about)
    write_atomically(path, _HASH.sub(hashlib.sha256(data).hexdigest().encode(), data, count=1))


def load_tensors(path: Path, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header) of a file written by `save_tensors`. Reading cannot run code.

    Raises:
        CheckpointError: the file is missing, truncated, changed since it was written, of another kind or of a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise CheckpointError(f"{path} expected a file of kind {kind}, found none")
    try:
        # Read in one go: a run that is training may put a new file in this place between two looks at it.
        data = path.read_bytes()
        tensors = {name: value.clone() for name, value in sorted(load(data).items())}  # they come in any order
        length = int.from_bytes(data[:8], "little")
        found = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        if found.get("format") != kind:
            raise CheckpointError(
                f"{path} expected a file of kind {kind}, got {found.get('format', 'no innerloop file')!r}"
            )
        if int(found.get("version", "0")) > version:
            raise CheckpointError(
                f"{path} expected version {version} or older, got version {found['version']}; upgrade innerloop to read it"
            )
        if "sha256" in found and hashlib.sha256(_HASH.sub(_NO_HASH, data, count=1)).hexdigest() != found["sha256"]:
            raise CheckpointError(f"{path} is damaged: it is not what its hash was taken of; copy or make it again")
        header = json.loads(found["header"])
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is truncated or damaged, or no file of innerloop ({first_line(error)}); copy or make it again"
        ) from None
    return tensors, header
