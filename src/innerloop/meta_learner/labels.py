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
    classes, numbers = np.unique(_values(y), return_inverse=True)
    if len(classes) == 1:
        raise InputError(
            f"expected examples of at least two classes, got one ({classes[0].item()!r}); add examples of another class"
        )
    return [c.item() for c in classes], torch.as_tensor(numbers.reshape(-1).astype(np.int64))


def _values(y: Any) -> np.ndarray:
    """The names of some examples' classes as one array."""
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if values.ndim != 1:
        raise InputError(f"class labels expected shape (examples,), got {values.shape}")
    if values.dtype == object:
        values = np.asarray(values.tolist())  # a column of Python values: numpy finds their common kind
        if values.dtype.kind not in "biuUS":
            values = np.asarray([str(v) for v in values.tolist()])
    return values


def extended(classes: list[Any], numbers: Tensor, y: Any) -> tuple[list[Any], Tensor]:
    """`encode` of examples that were encoded before, ``numbers`` among ``classes``, and more examples ``y`` after them.

    Raises:
        InputError: names of another kind than the classes have, which would rename them all.
    """
    before, more = np.asarray(classes), _values(y)
    if more.dtype.kind in "iu":
        more = more.astype(np.int64)
    if before.dtype.kind != more.dtype.kind:
        kinds = {"U": "texts", "S": "bytes", "i": "whole numbers", "b": "truth values"}
        raise InputError(
            f"class names expected {kinds.get(before.dtype.kind, 'numbers')} as the support set had, got "
            f"{kinds.get(more.dtype.kind, 'other values')}; give them alike"
        )
    return encode(np.concatenate([before[numbers.cpu().numpy()], more]))


def number(y: Any, classes: list[Any]) -> Tensor:
    """Label numbers of ``y`` among known ``classes``; an unknown label is an InputError."""
    lacking = unknown(y, classes)
    if lacking:
        raise InputError(f"label {lacking[0]!r} was not in the support set; known labels: {classes}")
    index = {c: i for i, c in enumerate(classes)}
    return torch.tensor([index[name] for name in _names(y)], dtype=torch.int64)


def unknown(y: Any, classes: list[Any]) -> list[Any]:
    """The labels of ``y`` that are none of the known ``classes``, each as often as it comes."""
    known = set(classes)
    return [name for name in _names(y) if name not in known]


def _names(y: Any) -> list[Any]:
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    return [v.item() if hasattr(v, "item") else v for v in values.reshape(-1)]


def is_classification(y: Any) -> bool:
    """Integers, booleans and strings are classes; floats are regression targets."""
    if isinstance(y, Tensor):
        return not y.is_floating_point()
    return np.asarray(y).dtype.kind not in "fc"
