"""Values of any shape by class (embeddings, measurements, series), with what `ClassImages` offers to few-shot tasks."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Shaped
from torch import Tensor

from innerloop.data.class_images import ClassImages
from innerloop.errors import InputError


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
