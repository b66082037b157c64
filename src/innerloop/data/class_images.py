"""Examples by class: pictures as one uint8 tensor, or arrays of any shape, with a name and a group for each class.

Decoded pictures are kept in files that are mapped into memory: opened in milliseconds, read as far as they are used. One
safetensors file holds the pictures of a `ClassImages` as bytes, with names and groups in its header. The mapping is private:
processes share its pages until one of them writes to a picture, and what it writes stays its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from innerloop.errors import InnerloopError, InnerloopWarning, InputError
from innerloop.waiting import waiting


@dataclasses.dataclass(frozen=True, eq=False)
class ClassImages:
    """The drawings of each class, held as bytes.

    Attributes:
        images: uint8, (classes, drawings, height, width) or (classes, drawings, channels, height, width);
            with ``counts``, (drawings, height, width) or (drawings, channels, height, width), those of the first
            class first. 0 is the background, 255 full ink. May be mapped from a file.
        names: one name a class, unique.
        groups: the group (alphabet, script) of each class.
        counts: how many drawings each class has, where they differ; None: equally many.
        left_out: what was not read when these were made: pairs of a name and the reason.
        remarks: what else was found out then, in JSON values by name.

    Raises:
        InputError: another dtype or number of axes, or names, groups or counts that do not match the images.
    """

    images: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    counts: tuple[int, ...] | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    _on_device: dict[torch.device, Tensor] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_images()
        classes = self.images.shape[0] if self.counts is None else len(self.counts)
        if self.counts is not None and (sum(self.counts) != self.images.shape[0] or min(self.counts, default=0) < 0):
            raise InputError(
                f"class images expected counts that sum to the {self.images.shape[0]} drawings, got a sum of "
                f"{sum(self.counts)}; count the drawings of each class"
            )
        for what, values in (("names", self.names), ("groups", self.groups)):
            if len(values) != classes:
                raise InputError(
                    f"class images expected {classes} {what}, one a class, got {len(values)}; give one each"
                )
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"class images expected unique names, got {twice!r} twice; rename or merge the classes")

    def _check_images(self) -> None:
        shape, flat = tuple(self.images.shape), self.counts is not None
        if self.images.dtype != torch.uint8 or len(shape) not in ((3, 4) if flat else (4, 5)):
            lead = "" if flat else "classes, "
            raise InputError(
                f"class images expected a uint8 tensor ({lead}drawings, height, width) or "
                f"({lead}drawings, channels, height, width), got {self.images.dtype} {shape}; "
                "scale pixels to 0..255 and convert with .to(torch.uint8)"
            )

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return len(self.names)

    @property
    def num_drawings(self) -> int:
        """How many drawings each class has; the most of any class, where they differ."""
        return self.images.shape[1] if self.counts is None else max(self.counts, default=0)

    @property
    def sizes(self) -> list[int]:
        """How many drawings each class has."""
        return [self.num_drawings] * self.num_classes if self.counts is None else list(self.counts)

    @property
    def example_shape(self) -> tuple[int, int, int]:
        """The shape of one drawing, (channels, height, width)."""
        one = 1 if self.counts is not None else 2  # axes before those of one drawing
        channels = self.images.shape[one] if self.images.ndim == one + 3 else 1
        return (channels, self.images.shape[-2], self.images.shape[-1])

    def rows(self, device: torch.device) -> UInt8[Tensor, "drawings channels height width"]:
        """All drawings, those of the first class first, on this device.

        They are copied there by the first call and stay as long as this object; where they are already, nothing is copied.
        """
        found = self._on_device.get(device)
        if found is None:
            found = self.images.to(device).reshape(-1, *self.example_shape)
            self._on_device[device] = found
        return found

    def in_groups(self, groups: Sequence[str]) -> list[int]:
        """The numbers of the classes that belong to these groups, in order."""
        wanted = set(groups)
        return [number for number, group in enumerate(self.groups) if group in wanted]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassArrays(ClassImages):
    """Examples by class, of one shape and any floating type; `ClassImages` says what names, groups and counts are.

    Attributes:
        images: the examples, (examples, *shape), those of the first class first.

    Raises:
        InputError: values that are no floating numbers or not finite, or names or counts that do not match.
    """

    def _check_images(self) -> None:
        if not self.images.is_floating_point() or self.images.ndim < 2 or self.counts is None:
            raise InputError(
                "examples by class expected floating numbers (examples, *shape) and the counts of each class, got "
                f"{self.images.dtype} {tuple(self.images.shape)}; convert with .float()"
            )
        if not bool(torch.isfinite(self.images).all()):
            raise InputError("examples expected finite numbers, got NaN or infinity; leave those examples out")

    @property
    def example_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one example."""
        return tuple(self.images.shape[1:])

    def rows(self, device: torch.device) -> Shaped[Tensor, "examples ..."]:
        """All examples, those of the first class first, on this device."""
        found = self._on_device.get(device)
        if found is None:
            found = self._on_device[device] = self.images.to(device)
        return found


T = TypeVar("T")


def seeded_order(items: Sequence[T], seed: int) -> list[T]:
    """The items in an order that depends on the seed and their texts alone, not on the order they come in."""
    return sorted(items, key=lambda item: hashlib.blake2b(f"{seed}/{item}".encode(), digest_size=16).digest())


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
        with waiting("making all pictures ready, once; they are kept in the cache folder"):
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
            json.loads(header.get("remarks", "{}")),
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
        "remarks": json.dumps(images.remarks),
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
