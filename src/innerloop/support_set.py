"""What a user shows of one new task, as the support set that a learner takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from innerloop import labels, losses
from innerloop.boundary import as_tensor
from innerloop.core import Examples
from innerloop.data.support_files import inverts, is_path, read_classes, read_inputs
from innerloop.errors import InputError

if TYPE_CHECKING:
    from innerloop.meta_learner import MetaLearner


def support_set(learner: MetaLearner, x: Any, y: Any = None) -> tuple[Examples, list[Any] | None]:
    """Examples with a leading axis of one task, and the class names behind their labels; None for values.

    Args:
        learner: whose inputs and loss they are for.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        InputError: no targets, no examples, pictures for a learner whose inputs are not known, or integers for a model that
            takes floating-point inputs.
    """
    if is_path(x):
        x, y = _read(learner, x, y)
    if y is None:
        raise InputError("adapt expected targets y with x, got none; only a folder of class folders has its own labels")
    inputs = as_tensor(x, "x")
    targets, classes = _targets(learner, inputs, y)
    if inputs.ndim == 0 or targets.ndim == 0 or inputs.shape[0] == 0 or targets.shape[0] == 0:
        raise InputError("the support set is empty; give at least one example")
    if not inputs.is_floating_point() and not _takes_integers(learner):
        raise InputError(
            f"x expected floating-point inputs, got {inputs.dtype}; convert and scale them as the training data was"
        )
    return Examples(inputs[None], targets[None]), classes


def _read(learner: MetaLearner, x: Any, y: Any) -> tuple[Any, Any]:
    """Pictures at these paths, and their labels."""
    if y is not None or not isinstance(x, str | Path):
        return read_inputs(x, learner.input_shape, learner.preprocessing), y
    if learner.input_shape is None:
        raise InputError("the shape of this learner's inputs is not known, so pictures cannot be read; give tensors")
    return read_classes(Path(x), learner.input_shape, inverts(learner.preprocessing))


def _targets(learner: MetaLearner, x: Tensor, y: Any) -> tuple[Tensor, list[Any] | None]:
    """Values in the learner's dtype, or labels as its loss takes them and the names behind them."""
    loss = learner.loss or learner.task_objective
    # A loss for values takes integers as values.
    if not labels.is_classification(y) or losses.resolve(loss, torch.zeros(1, dtype=torch.int64)) is losses.mse:
        return as_tensor(y, "y").to(learner.dtype), None
    classes, encoded = labels.encode(y)
    return _as_logits(learner, x, encoded) if losses.is_binary(loss) else encoded, classes


def _as_logits(learner: MetaLearner, x: Tensor, y: Tensor) -> Tensor:
    """Labels 0/1 in the shape and dtype of the model's logits, (examples,) or (examples, 1), for a binary loss."""
    meta = learner.meta()
    with torch.no_grad():
        shape = learner.pure.apply(meta.params, meta.buffers, x.to(learner.device, learner.dtype))[0].shape
    return y.to(learner.dtype).reshape(shape) if shape.numel() == y.numel() else y


def _takes_integers(learner: MetaLearner) -> bool:
    return any(isinstance(m, (torch.nn.Embedding, torch.nn.EmbeddingBag)) for m in learner.model.modules())
