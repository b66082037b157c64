"""Pictures by class: one uint8 tensor, a name and a group for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from innerloop.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ClassImages:
    """Equally many drawings of each class, held as bytes.

    Attributes:
        images: uint8, (classes, drawings, height, width) or (classes, drawings, channels, height, width);
            0 is the background, 255 full ink. May be mapped from a file.
        names: one name a class, unique.
        groups: the group (alphabet, script) of each class.

    Raises:
        InputError: another dtype or number of axes, or names or groups that do not match the images.
    """

    images: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    _on_device: dict[torch.device, Tensor] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) not in (4, 5):
            raise InputError(
                "class images expected a uint8 tensor (classes, drawings, height, width) or "
                f"(classes, drawings, channels, height, width), got {self.images.dtype} {shape}; "
                "scale pixels to 0..255 and convert with .to(torch.uint8)"
            )
        for what, values in (("names", self.names), ("groups", self.groups)):
            if len(values) != shape[0]:
                raise InputError(
                    f"class images expected {shape[0]} {what}, one a class, got {len(values)}; give one each"
                )
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"class images expected unique names, got {twice!r} twice; rename or merge the classes")

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return self.images.shape[0]

    @property
    def num_drawings(self) -> int:
        """How many drawings each class has."""
        return self.images.shape[1]

    @property
    def example_shape(self) -> tuple[int, int, int]:
        """The shape of one drawing, (channels, height, width)."""
        channels = self.images.shape[2] if self.images.ndim == 5 else 1
        return (channels, self.images.shape[-2], self.images.shape[-1])

    def rows(self, device: torch.device) -> UInt8[Tensor, "drawings channels height width"]:
        """All drawings, those of class c in rows ``c * num_drawings`` and on, on this device.

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
