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
    """The drawings of each class, held as bytes.

    Attributes:
        images: uint8, (classes, drawings, height, width) or (classes, drawings, channels, height, width);
            with ``counts``, (drawings, height, width) or (drawings, channels, height, width), those of the first
            class first. 0 is the background, 255 full ink. May be mapped from a file.
        names: one name a class, unique.
        groups: the group (alphabet, script) of each class.
        counts: how many drawings each class has, where they differ; None: equally many.
        left_out: what was not read when these were made: pairs of a name and the reason.

    Raises:
        InputError: another dtype or number of axes, or names, groups or counts that do not match the images.
    """

    images: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    counts: tuple[int, ...] | None = None
    left_out: tuple[tuple[str, str], ...] = ()
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
