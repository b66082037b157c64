"""What a user shows of one new task, as the support set that a learner takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Examples
from innerloop.data.support_files import inverts, is_path, read_classes, read_inputs
from innerloop.errors import InputError
from innerloop.meta_learner import labels
from innerloop.meta_learner.boundary import as_tensor
from innerloop.objectives import losses


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a learner takes.

    Attributes:
        input_shape: of one example, where it is known.
        preprocessing: how a user's files become inputs.
        loss: its loss, or that of the tasks it was trained on.
        dtype: of inputs and values.
        integers: its model takes integers.
        output_shape: the shape of the model's outputs for some inputs.
    """

    input_shape: tuple[int, ...] | None
    preprocessing: dict[str, Any] | None
    loss: str | losses.Loss | None
    dtype: torch.dtype
    integers: bool
    output_shape: Callable[[Tensor], torch.Size]


def support_set(wanted: Wanted, x: Any, y: Any = None) -> tuple[Examples, list[Any] | None]:
    """Examples with a leading axis of one task, and the class names behind their labels; None for values.

    Args:
        wanted: what the learner takes.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        InputError: no targets, no examples, pictures for a learner whose inputs are not known, or integers for a model that
            takes floating-point inputs.
    """
    if is_path(x):
        x, y = _read(wanted, x, y)
    if y is None:
        raise InputError("adapt expected targets y with x, got none; only a folder of class folders has its own labels")
    inputs = as_tensor(x, "x")
    targets, classes = _targets(wanted, inputs, y)
    if inputs.ndim == 0 or targets.ndim == 0 or inputs.shape[0] == 0 or targets.shape[0] == 0:
        raise InputError("the support set is empty; give at least one example")
    if not inputs.is_floating_point() and not wanted.integers:
        raise InputError(
            f"x expected floating-point inputs, got {inputs.dtype}; convert and scale them as the training data was"
        )
    return Examples(inputs[None], targets[None]), classes


def _read(wanted: Wanted, x: Any, y: Any) -> tuple[Any, Any]:
    """Pictures at these paths, and their labels."""
    if y is not None or not isinstance(x, str | Path):
        return read_inputs(x, wanted.input_shape, wanted.preprocessing), y
    if wanted.input_shape is None:
        raise InputError("the shape of this learner's inputs is not known, so pictures cannot be read; give tensors")
    return read_classes(Path(x), wanted.input_shape, inverts(wanted.preprocessing))


def _targets(wanted: Wanted, x: Tensor, y: Any) -> tuple[Tensor, list[Any] | None]:
    """Values in the learner's dtype, or labels as its loss takes them and the names behind them."""
    loss = wanted.loss
    # A loss for values takes integers as values.
    if not labels.is_classification(y) or losses.resolve(loss, torch.zeros(1, dtype=torch.int64)) is losses.mse:
        return as_tensor(y, "y").to(wanted.dtype), None
    classes, encoded = labels.encode(y)
    return _as_logits(wanted, x, encoded) if losses.is_binary(loss) else encoded, classes


def _as_logits(wanted: Wanted, x: Tensor, y: Tensor) -> Tensor:
    """Labels 0/1 in the shape and dtype of the model's logits, (examples,) or (examples, 1), for a binary loss."""
    shape = wanted.output_shape(x)
    return y.to(wanted.dtype).reshape(shape) if shape.numel() == y.numel() else y
