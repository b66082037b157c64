"""Checks and conversions where data comes in, before anything is traced or vmapped."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.core import Examples, Task
from innerloop.errors import DivergedError, InputError, ShapeError


def as_tensor(value: Any, name: str) -> Tensor:
    """A tensor from a tensor, an array or nested lists of numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} expected a tensor, an array or lists of numbers, got {type(value).__name__} ({error})"
        ) from None


def check_finite(value: Tensor, name: str) -> None:
    # The sum is one pass without a copy, and finite only where all numbers are; an overflow is looked into.
    if not value.is_floating_point() or math.isfinite(float(value.sum())):
        return
    if not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        raise InputError(
            f"{name} expected finite numbers, got {bad} NaN or infinite of {value.numel()}; clean or impute them first"
        )


def check_task(task: Task, dtype: torch.dtype, device: torch.device) -> Task:
    """A batch of tasks in the model's dtype and on its device, or a clear error.

    Raises:
        InputError: an empty side, values that are not finite, negative labels.
        ShapeError: sides or axes that do not fit together.
    """
    if not isinstance(task, Task):
        raise InputError(f"expected an innerloop.Task (support and query Examples), got {type(task).__name__}")
    sides = {"support": task.support, "query": task.query}
    lengths: dict[str, int] = {}
    for name, side in sides.items():
        for part in ("x", "y"):
            value = getattr(side, part)
            if not isinstance(value, Tensor):
                raise InputError(
                    f"{name}.{part} expected a torch.Tensor, got {type(value).__name__}; use torch.as_tensor"
                )
            if value.ndim < 2:
                raise ShapeError(
                    f"{name}.{part} expected a leading tasks axis (tasks, examples, ...), got shape {tuple(value.shape)}"
                )
            if value.shape[0] == 0 or value.shape[1] == 0:
                raise InputError(
                    f"the {name} set is empty: {name}.{part} has shape {tuple(value.shape)}; give at least one example"
                )
            check_finite(value, f"{name}.{part}")
            lengths[f"{name}.{part}"] = value.shape[0]
        if side.x.shape[:2] != side.y.shape[:2]:
            raise ShapeError(
                f"{name}.x and {name}.y expected the same tasks and examples axes, "
                f"got {tuple(side.x.shape)} and {tuple(side.y.shape)}"
            )
        if side.mask is not None and tuple(side.mask.shape) != tuple(side.y.shape[:2]):
            raise ShapeError(
                f"{name}.mask expected shape {tuple(side.y.shape[:2])} (tasks, examples), got {tuple(side.mask.shape)}"
            )
        if not side.y.is_floating_point() and bool((side.y < 0).any()):
            raise InputError(f"{name}.y expected labels from 0 up, got {int(side.y.min())}")
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"support and query expected the same number of tasks, got {lengths}")
    s, q = task.support, task.query
    if s.x.shape[2:] != q.x.shape[2:]:
        raise ShapeError(
            f"support and query inputs expected one width, got {tuple(s.x.shape[2:])} and {tuple(q.x.shape[2:])}"
        )
    if s.x.dtype != q.x.dtype or s.y.dtype != q.y.dtype:
        raise ShapeError(
            f"support and query expected one dtype, got x {s.x.dtype} and {q.x.dtype}, y {s.y.dtype} and {q.y.dtype}"
        )
    if s.y.shape[2:] != q.y.shape[2:]:
        raise ShapeError(
            f"support and query targets expected one width, got {tuple(s.y.shape[2:])} and {tuple(q.y.shape[2:])}"
        )
    return dataclasses.replace(
        task,
        support=_cast(s, dtype, device),
        query=_cast(q, dtype, device),
        class_ids=None if task.class_ids is None else task.class_ids.to(device),
        noise=None if task.noise is None else task.noise.to(device),
    )


def _cast(side: Examples, dtype: torch.dtype, device: torch.device) -> Examples:
    x = side.x.to(device, dtype if side.x.is_floating_point() else None)
    y = side.y.to(device, dtype if side.y.is_floating_point() else torch.int64)
    return Examples(x, y, None if side.mask is None else side.mask.to(device, torch.bool))


def expect_finite(loss: float, norm: float, step: int) -> None:
    """Raise DivergedError where the outer loss or the meta-gradient's norm is not finite."""
    for what, value in (("outer loss", loss), ("meta-gradient's norm", norm)):
        if not math.isfinite(value):
            raise DivergedError(
                f"the {what} at outer step {step} is {value}; lower inner_lr or outer_lr, clip the gradient "
                "(clip_norm), or use fewer inner steps"
            )
