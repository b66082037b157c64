"""Class names of one task: they come back from `predict` as they went into `adapt`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.data.arrays import alike, as_tensor, label_names
from innerloop.data.arrays import is_classification as is_classification
from innerloop.errors import InputError


def whole(y: Any) -> bool:
    """Whether floats are class labels: one an example, each a whole number.

    Raises:
        InputError: a missing one, or one-hot rows, which are classes too but in no form that names them.
    """
    value = as_tensor(y, "y")
    if value.ndim == 2 and value.shape[1] > 1 and bool(((value == 0) | (value == 1)).all() & (value.sum(1) == 1).all()):
        raise InputError(
            f"y: class labels expected shape (examples,), got one-hot rows {tuple(value.shape)}; give y.argmax(1)"
        )
    if value.ndim != 1 and value.shape[1:] != (1,):
        return False
    names = label_names(y)
    odd = next((row for row, name in enumerate(names, 1) if not float(name).is_integer()), None)
    if odd is not None:
        raise InputError(f"y row {odd} expected a class label, got {names[odd - 1]}; give whole numbers or texts")
    return True


def encode(y: Any) -> tuple[list[Any], Tensor]:
    """(sorted class names, label numbers 0..n-1) of integers, booleans or strings.

    Raises:
        InputError: labels with more than one axis, missing or of several kinds, names that no array holds as they are, or one
            class only: there would be nothing to tell apart.
    """
    names = label_names(y)
    classes = sorted(set(names))
    if len(classes) == 1:
        raise InputError(
            f"expected examples of at least two classes, got one class ({classes[0]!r}); add examples of another class"
        )
    held = np.asarray(classes)  # as `predict` gives them
    if classes and (held.dtype.kind not in {bool: "b", int: "i", float: "f", str: "U"}[type(classes[0])]):
        raise InputError("class labels expected integers below 2**63, got a larger one; give them as texts")
    if held.tolist() != classes:
        raise InputError("class labels expected texts that do not end in NUL, got one that does; strip it")
    return classes, _numbered(names, classes)


def extended(classes: list[Any], numbers: Tensor, y: Any) -> tuple[list[Any], Tensor]:
    """`encode` of examples that were encoded before, ``numbers`` among ``classes``, and more examples ``y`` after them.

    Raises:
        InputError: names of another kind than the classes have.
    """
    return encode([classes[i] for i in numbers.tolist()] + alike(label_names(y), classes))


def number(y: Any, classes: list[Any]) -> Tensor:
    """Label numbers of ``y`` among known ``classes``; an unknown label is an InputError."""
    names = alike(label_names(y), classes)
    for name in _lacking(names, classes):
        raise InputError(f"label {name!r} was not in the support set; known labels: {classes}")
    return _numbered(names, classes)


def unknown(y: Any, classes: list[Any]) -> list[Any]:
    """The labels of ``y`` that are none of the known ``classes``, each as often as it comes."""
    return _lacking(alike(label_names(y), classes), classes)


def _lacking(names: list[Any], classes: list[Any]) -> list[Any]:
    known = set(classes)
    return [name for name in names if name not in known]


def _numbered(names: list[Any], classes: list[Any]) -> Tensor:
    index = {name: i for i, name in enumerate(classes)}
    return torch.tensor([index[name] for name in names], dtype=torch.int64)
