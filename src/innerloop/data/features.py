"""What a frozen network says of pictures or texts, computed once and kept in the cache folder by their content."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.data.locations import cache_folder
from innerloop.errors import CheckpointError
from innerloop.storage import load_tensors, save_tensors
from innerloop.waiting import waiting

_KIND, _VERSION = "features", 1
_AT_ONCE, _PART = 32, 1_000  # examples of a batch; of a file, so that a stop loses little


def features(
    contents: Iterable[bytes],
    fingerprint: str,
    compute: Callable[[Sequence[int]], Float[Tensor, "some features"]],
    what: str,
) -> Float[Tensor, "examples features"]:
    """The features of examples, in their order; those seen before come from the cache.

    Args:
        contents: of each example, all that its features depend on.
        fingerprint: of the network and its preprocessing.
        compute: the features of the examples at these places.
        what: what is being done, for the progress bar.
    """
    names = [hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents]
    folder = cache_folder() / "features" / fingerprint[:16]
    known = _kept(folder, set(names))
    first = {name: i for i, name in reversed(list(enumerate(names))) if name not in known}
    missing = sorted(first.items(), key=lambda item: item[1])
    steps = range(0, len(missing), _AT_ONCE)
    part: dict[str, Tensor] = {}
    with waiting(what):
        for start in _shown(steps, what) if len(steps) > 1 else steps:
            some = missing[start : start + _AT_ONCE]
            found = compute([i for _, i in some]).detach().to("cpu", torch.float32)
            part |= dict(zip((name for name, _ in some), found, strict=True))
            if len(part) >= _PART or start + _AT_ONCE >= len(missing):
                _keep(folder, part)
                known |= part
                part = {}
    return torch.stack([known[name] for name in names])


def _shown(steps: range, what: str) -> Iterable[int]:
    """The steps with a bar on a terminal."""
    if not sys.stderr.isatty():
        return steps
    from rich.console import Console
    from rich.progress import track

    return track(steps, what, console=Console(stderr=True), transient=True)


def _kept(folder: Path, wanted: set[str]) -> dict[str, Tensor]:
    """Of these names, the features that were kept; a damaged file counts as none."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            tensors, header = load_tensors(file, _KIND, _VERSION)
            rows: dict[str, Any] = {name: i for i, name in enumerate(header["names"])}
            found |= {name: tensors["features"][rows[name]] for name in wanted & rows.keys()}
        except (CheckpointError, KeyError, IndexError, TypeError):
            file.unlink(missing_ok=True)
    return found


def _keep(folder: Path, part: dict[str, Tensor]) -> None:
    if not part:
        return
    name = hashlib.blake2b("".join(part).encode(), digest_size=8).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"features": torch.stack(list(part.values()))}
        save_tensors(folder / f"{name}.safetensors", _KIND, _VERSION, tensors, {"names": list(part)})
    except OSError:
        pass  # a full disk or a folder that may not be written: computed again the next time
