"""What was compiled and found right, on disk for the next run: a file of the cache folder for each set of graphs.

A file holds all that torch's compiler wrote. Its name tells for what that was: the graphs' own bytes, shapes, versions, machine
and threads; so a file is taken for these graphs or not at all. One that is damaged, or of another user, is not taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from innerloop.data.locations import cache_folder
from innerloop.errors import InnerloopError
from innerloop.provenance import processor
from innerloop.storage import write_atomically

_MOST = 100  # files that are kept, about half a megabyte each
FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # torch reads it each time
# What torch's compiler, and the one of C++, read from the environment.
_SETTINGS = ("TORCH", "CXX", "CPATH", "CPLUS_INCLUDE_PATH", "ATEN_CPU_CAPABILITY")


def usable(given: Sequence[Sequence[Tensor]]) -> bool:
    """Whether what is compiled for these arguments is kept: on CPUs, unless torch was told to keep nothing."""
    import torch._inductor.config as config

    return not config.force_disable_caches and not any(leaf.is_cuda for leaves in given for leaf in leaves)


def name(packed: Sequence[bytes], given: Sequence[Sequence[Tensor]]) -> str:
    """The name under which graphs, compiled for such arguments, are kept."""
    shapes = [[(tuple(v.shape), v.stride(), str(v.dtype), str(v.device)) for v in leaves] for leaves in given]
    settings = sorted((k, v) for k, v in os.environ.items() if k.startswith(_SETTINGS) and k != FOLDER)
    machine = (processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    about = (shapes, settings, machine, torch.__version__, torch.__file__, sys.version)
    found = hashlib.sha256(repr(about).encode())
    for graph in packed:
        found.update(hashlib.sha256(graph).digest())
    return found.hexdigest()[:32]


@contextlib.contextmanager
def compiled_into(folder: Path | None) -> Iterator[None]:
    """Inside, torch's compiler keeps what it makes in this folder, and looks there first; None: where it does by itself."""
    before = os.environ.get(FOLDER)
    if folder is not None:
        os.environ[FOLDER] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def recall(name: str, folder: Path) -> bool:
    """Put what is kept under this name into the folder; whether there was anything, and all of it whole."""
    path = _path(name)
    try:
        if not _own(path):
            return False
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            if archive.comment != name.encode():
                return False
            archive.extractall(folder)  # compares every file with its checksum
        os.utime(path)  # those not used for long go first
    except Exception:  # damage has many names
        return False
    return True


def remember(name: str, folder: Path) -> None:
    """Keep what is in the folder; a disk that cannot be written is no reason to stop."""
    content = io.BytesIO()
    try:
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = name.encode()
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder).as_posix())
        path = _path(name)
        write_atomically(path, content.getvalue())
        path.chmod(0o600)
        oldest = sorted(_folder().glob("*.zip"), key=lambda file: file.stat().st_mtime)[:-_MOST]
        for file in oldest:
            file.unlink(missing_ok=True)
    except (OSError, ValueError, InnerloopError):
        return


def forget(name: str) -> None:
    """What was kept under this name was of no use."""
    with contextlib.suppress(OSError):
        _path(name).unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "compiled"


def _path(name: str) -> Path:
    return _folder() / f"{name}.zip"


def _own(path: Path) -> bool:
    """Whether nobody but this user can have written it: what is in it will be run."""
    if not path.is_file():
        return False
    found = path.stat()
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
