"""Few-shot pictures that differ from those of training: turned, inverted, of one alphabet, or digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop.core import Examples, Task, TaskDistribution
from innerloop.data.class_images import ClassImages
from innerloop.data.mnist_files import load_mnist
from innerloop.errors import InputError, nearest
from innerloop.tasks.pictures.few_shot import FewShotImages


class ChangedPictures(TaskDistribution):
    """The tasks of another split, every picture changed in the same way.

    Args:
        tasks: whose inputs are pictures (channels, height, width) in [0, 1].
    """

    name: str
    split: str
    on_device: bool
    objective: Any
    metrics: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_size: int
    num_classes: int | None

    def __init__(self, tasks: TaskDistribution) -> None:
        self.tasks = tasks
        self.name, self.split, self.on_device = tasks.name, tasks.split, tasks.on_device
        self.objective, self.metrics = tasks.objective, tasks.metrics
        self.input_shape, self.output_size, self.num_classes = tasks.input_shape, tasks.output_size, tasks.num_classes

    def change(
        self, pictures: Float[Tensor, "pictures channels height width"]
    ) -> Float[Tensor, "pictures channels height width"]:
        raise NotImplementedError

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        task = self.tasks.from_keys(keys)
        return Task(
            self._side(task.support),
            self._side(task.query),
            task.objective,
            task.class_ids,
            task.num_classes,
            task.noise,
        )

    def _side(self, side: Examples) -> Examples:
        return Examples(self.change(side.x.flatten(0, 1)).reshape(side.x.shape), side.y, side.mask)

    def default_model(self) -> nn.Module:
        return self.tasks.default_model()

    def class_name(self, class_id: int) -> str:
        """The name of a class, as the split without the change calls it."""
        named = getattr(self.tasks, "class_name", None)
        return str(class_id) if named is None else named(class_id)


class TurnedPictures(ChangedPictures):
    """Every picture turned about its middle by an angle, anticlockwise; what comes in from outside is 0, the paper.

    Args:
        tasks: as `ChangedPictures`.
        degrees: the angle; at multiples of 90 pixels are moved exactly, between them they are mixed bilinearly.
    """

    def __init__(self, tasks: TaskDistribution, degrees: float) -> None:
        super().__init__(tasks)
        self.degrees = degrees

    def change(
        self, pictures: Float[Tensor, "pictures channels height width"]
    ) -> Float[Tensor, "pictures channels height width"]:
        quarters, rest = divmod(self.degrees, 90.0)
        _, _, height, width = pictures.shape
        if rest == 0 and (height == width or quarters % 2 == 0):
            return torch.rot90(pictures, int(quarters) % 4, (-2, -1))
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        # For each pixel of the result, where it comes from; an axis of the grid runs from -1 to 1 whatever its length.
        rows = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
        grid = F.affine_grid(pictures.new_tensor(rows)[None], [1, 1, height, width], align_corners=False)
        turned = F.grid_sample(
            pictures.flatten(0, 1)[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return turned.reshape(pictures.shape)


class InvertedPictures(ChangedPictures):
    """Ink and paper swapped: ``1 - x``."""

    def change(
        self, pictures: Float[Tensor, "pictures channels height width"]
    ) -> Float[Tensor, "pictures channels height width"]:
        return 1 - pictures


def rotated(tasks: TaskDistribution, degrees: float) -> TaskDistribution:
    """The same tasks, every picture turned by this angle."""
    return TurnedPictures(tasks, degrees) if degrees % 360 else tasks


def inverted(tasks: TaskDistribution, yes: bool) -> TaskDistribution:
    """The same tasks with ink and paper swapped, or as they are."""
    return InvertedPictures(tasks) if yes else tasks


def of_alphabet(tasks: TaskDistribution, name: str) -> TaskDistribution:
    """Tasks whose classes are all of one group (alphabet, script), of whichever split it is.

    Raises:
        InputError: no such group, or one with fewer classes than a task has.
    """
    assert isinstance(tasks, FewShotImages)
    groups = sorted(set(tasks.images.groups))
    if name not in groups:
        raise InputError(f"{tasks.name}: unknown alphabet {name!r}: {nearest(name, groups)}")
    return _with_images(tasks, tasks.images, tasks.images.in_groups([name]))


def of_digits(tasks: TaskDistribution, yes: bool) -> TaskDistribution:
    """Tasks whose classes are MNIST's ten digits (its test pictures), or as they are.

    Raises:
        InputError: the files are not there, pictures in colour, or more ways than digits.
    """
    assert isinstance(tasks, FewShotImages)
    if not yes:
        return tasks
    channels, height, width = tasks.input_shape
    if channels != 1 or height != width:
        raise InputError(
            f"{tasks.name}: shift mnist expected square pictures in grey, got {tuple(tasks.input_shape)} "
            "(channels, height, width); use another shift"
        )
    images = load_mnist(height)
    return _with_images(tasks, images, range(images.num_classes))


def _with_images(tasks: FewShotImages, images: ClassImages, classes: Sequence[int]) -> FewShotImages:
    """A split with the same settings and other classes; its tasks have the same keys."""
    numbers = torch.tensor(list(classes), dtype=torch.int64)
    return tasks.altered(images=images, classes=numbers, within_group=False, changes="none")
