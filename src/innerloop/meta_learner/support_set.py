"""What a user shows of one new task, as the support set that a learner takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Meta, length
from innerloop.data.support_files import inverts, is_path, read_classes, read_inputs
from innerloop.data.table_preprocessing import is_record_of_tables
from innerloop.errors import InputError, ShapeError
from innerloop.functional import PureModel
from innerloop.meta_learner import labels
from innerloop.meta_learner.boundary import as_inputs, as_tensor, check_finite, inputs_like, moved
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
    output_shape: Callable[[Any], torch.Size]


class Taker(Protocol):
    """What `wanted_by` asks of a learner."""

    model: nn.Module
    pure: PureModel
    loss: str | losses.Loss | None

    @property
    def task_objective(self) -> Any: ...
    @property
    def input_shape(self) -> tuple[int, ...] | None: ...
    @property
    def preprocessing(self) -> dict[str, Any] | None: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def meta(self) -> Meta: ...


def wanted_by(owner: Taker) -> Wanted:
    """What this learner takes of a new task."""
    integers = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in owner.model.modules())

    def output_shape(x: Any) -> torch.Size:
        meta, given = owner.meta(), moved(x, owner.dtype, owner.device)
        if isinstance(x, Tensor) and not integers:
            given = given.to(owner.dtype)
        with torch.no_grad():
            return owner.pure.apply(meta.params, meta.buffers, given)[0].shape

    return Wanted(
        input_shape=owner.input_shape,
        preprocessing=owner.preprocessing,
        loss=owner.loss or owner.task_objective,
        dtype=owner.dtype,
        integers=integers,
        output_shape=output_shape,
    )


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
    inputs = as_inputs(x, "x")
    targets, classes = _targets(wanted, inputs, y)
    if any(part.ndim == 0 or part.shape[0] == 0 for part in (*pytree.tree_leaves(inputs), targets)):
        raise InputError("the support set is empty; give at least one example")
    if isinstance(inputs, Tensor) and not inputs.is_floating_point() and not wanted.integers:
        raise InputError(
            f"x expected floating-point inputs, got {inputs.dtype}; convert and scale them as the training data was"
        )
    # A copy: what the caller later writes into the arrays does not reach the task.
    return Examples(pytree.tree_map(lambda v: v[None].clone(), inputs), targets[None].clone()), classes


def more_examples(wanted: Wanted, kept: Examples, classes: list[Any] | None, x: Any, y: Any = None) -> tuple[Any, Any]:
    """(x, y) that are given beside a support set, x as its inputs are, y as it came.

    Args:
        wanted: what the learner takes, its shape and preprocessing those of this task.
        kept: the support set, of one task; its shapes and kinds of numbers count.
        classes: the names behind its labels; None for values.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        InputError, ShapeError: examples that do not fit beside those.
    """
    if is_path(x):
        if is_record_of_tables(wanted.preprocessing):
            raise InputError(
                "learn expected arrays, got the path of a table, whose numbers its support set scales; adapt again to the "
                "whole table"
            )
        x, y = _read(wanted, x, y)
    if y is None:
        raise InputError("learn expected targets y with x, got none; only a folder of class folders has its own labels")
    inputs = inputs_like(x, kept.x, kept.y.device)
    if classes is None:
        y = as_tensor(y, "y").to(kept.y)
        check_finite(y, "y")
        if y.shape[1:] != kept.y.shape[1:] or y.ndim != kept.y.ndim:
            wide = ", ".join(["examples", *map(str, kept.y.shape[1:])])
            raise ShapeError(f"y expected shape ({wide}) as the support set had, got {tuple(y.shape)}")
    elif not labels.is_classification(y):
        raise InputError("y expected class names as the support set had, got floating-point values; give names")
    else:
        y = labels.label_names(y)
    if len(y) != length(inputs):
        raise ShapeError(f"x and y expected equally many examples, got {length(inputs)} and {len(y)}")
    return inputs, y


def joined(wanted: Wanted, kept: Examples, classes: list[Any] | None, x: Any, y: Any) -> tuple[Examples, Any]:
    """The support set with `more_examples` after it, with a leading axis of one task, and the class names of all."""
    inputs = pytree.tree_map(lambda a, b: torch.cat([a, b]), kept.x, x)
    if classes is None:
        targets = torch.cat([kept.y, y])
    else:
        classes, encoded = labels.extended(classes, kept.y.reshape(len(kept.y)).long(), y)
        targets = _as_logits(wanted, inputs, encoded) if losses.is_binary(wanted.loss) else encoded
    return Examples(pytree.tree_map(lambda v: v[None], inputs), targets[None]), classes


def _read(wanted: Wanted, x: Any, y: Any) -> tuple[Any, Any]:
    """Pictures at these paths, and their labels."""
    if y is not None or not isinstance(x, str | Path):
        return read_inputs(x, wanted.input_shape, wanted.preprocessing), y
    if wanted.input_shape is None:
        raise InputError("the shape of this learner's inputs is not known, so pictures cannot be read; give tensors")
    return read_classes(Path(x), wanted.input_shape, inverts(wanted.preprocessing))


def _targets(wanted: Wanted, x: Any, y: Any) -> tuple[Tensor, list[Any] | None]:
    """Values in the learner's dtype, or labels as its loss takes them and the names behind them."""
    loss = wanted.loss
    # A loss for values takes integers as values.
    if not labels.is_classification(y) or losses.resolve(loss, torch.zeros(1, dtype=torch.int64)) is losses.mse:
        values = as_tensor(y, "y")
        if values.ndim == 1:
            check_finite(values, "y")
        return values.to(wanted.dtype), None
    classes, encoded = labels.encode(y)
    return _as_logits(wanted, x, encoded) if losses.is_binary(loss) else encoded, classes


def _as_logits(wanted: Wanted, x: Any, y: Tensor) -> Tensor:
    """Labels 0/1 in the shape and dtype of the model's logits, (examples,) or (examples, 1), for a binary loss."""
    shape = wanted.output_shape(x)
    return y.to(wanted.dtype).reshape(shape) if shape.numel() == y.numel() else y
