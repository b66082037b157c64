"""Tensors and JSON in one safetensors file, either whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from innerloop.atomic import write_atomically
from innerloop.errors import CheckpointError


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
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise CheckpointError(f"{path} expected a file of kind {kind}, found none")
    try:
        # Read in one go: a run that is training may put a new file in this place between two looks at it.
        data = path.read_bytes()
        tensors = {name: value.clone() for name, value in load(data).items()}
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
        header = json.loads(found["header"])
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is truncated or damaged ({str(error).splitlines()[0]}); use another checkpoint"
        ) from None
    return tensors, header
