"""Class names of one task: they come back from `predict` as they went into `adapt`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.errors import InputError


def encode(y: Any) -> tuple[list[Any], Tensor]:
    """(sorted class names, label numbers 0..n-1) of integers, booleans or strings.

    Raises:
        InputError: labels with more than one axis, or one class only: there would be nothing to tell apart.
    """
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if values.ndim != 1:
        raise InputError(f"class labels expected shape (examples,), got {values.shape}")
    if values.dtype == object:
        values = np.asarray(values.tolist())  # a column of Python values: numpy finds their common kind
        if values.dtype.kind not in "biuUS":
            values = np.asarray([str(v) for v in values.tolist()])
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) == 1:
        raise InputError(
            f"expected examples of at least two classes, got one ({classes[0].item()!r}); add examples of another class"
        )
    return [c.item() for c in classes], torch.as_tensor(numbers.reshape(-1).astype(np.int64))


def number(y: Any, classes: list[Any]) -> Tensor:
    """Label numbers of ``y`` among known ``classes``; an unknown label is an InputError."""
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    index = {c: i for i, c in enumerate(classes)}
    found = [index.get(v.item() if hasattr(v, "item") else v, -1) for v in values.reshape(-1)]
    if -1 in found:
        unknown = values.reshape(-1)[found.index(-1)]
        unknown = unknown.item() if hasattr(unknown, "item") else unknown
        raise InputError(f"label {unknown!r} was not in the support set; known labels: {classes}")
    return torch.tensor(found, dtype=torch.int64)


def is_classification(y: Any) -> bool:
    """Integers, booleans and strings are classes; floats are regression targets."""
    if isinstance(y, Tensor):
        return not y.is_floating_point()
    return np.asarray(y).dtype.kind not in "fc"
