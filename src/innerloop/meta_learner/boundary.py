"""Checks and conversions where data comes in, before anything is traced or vmapped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Examples, Task
from innerloop.data.arrays import as_tensor as as_tensor
from innerloop.data.arrays import expect_dense
from innerloop.errors import ConfigError, DivergedError, InputError, ShapeError, expect_whole
from innerloop.objectives import losses


def as_inputs(value: Any, name: str) -> Any:
    """Inputs as a tensor; those of a model that takes a dictionary as a dictionary of tensors."""
    if isinstance(value, Mapping):
        return {key: as_inputs(part, f"{name}[{key!r}]") for key, part in value.items()}
    return as_tensor(value, name)


def inputs_like(value: Any, like: Any, device: torch.device, name: str = "x") -> Any:
    """Inputs as those of a support set were, in its dtypes.

    Raises:
        ShapeError: another shape of one input, other parts, or parts of unequal lengths.
        InputError: none, integers for floats or the other way about, or values that are not finite.
    """
    given, tree = pytree.tree_flatten_with_path(as_inputs(value, name))
    wanted, expected = pytree.tree_flatten(like)
    if tree != expected:
        parts = [f"{name}{pytree.keystr(path)}" for path, _ in pytree.tree_flatten_with_path(like)[0]]
        got = ", ".join(f"{name}{pytree.keystr(path)}" for path, _ in given)
        raise ShapeError(f"{name} expected the parts that the support set had, {', '.join(parts)}, got {got or 'none'}")
    found = []
    for (path, part), model in zip(given, wanted, strict=True):
        where, part, shape = f"{name}{pytree.keystr(path)}", part.to(device), model.shape[1:]
        if part.ndim == 0 or part.shape[1:] != shape:
            raise ShapeError(
                f"{where} expected shape (examples, {', '.join(map(str, shape))}) as the support set had, "
                f"got {tuple(part.shape)}"
            )
        if part.shape[0] == 0:
            raise InputError(f"{where} is empty; give at least one input")
        if part.is_floating_point() != model.is_floating_point():
            raise InputError(f"{where} expected the support set's kind of numbers ({model.dtype}), got {part.dtype}")
        found.append(part.to(model.dtype))
        check_finite(found[-1], where)
    lengths = [len(part) for part in found]
    if len(set(lengths)) > 1:
        raise ShapeError(f"all parts of {name} expected equally many examples, got {lengths}")
    return pytree.tree_unflatten(found, expected)


def check_finite(value: Tensor, name: str) -> None:
    if not value.is_floating_point():
        return
    # The sum is one pass without a copy, and finite only where all numbers are; an overflow is looked into.
    value = value.detach().to(torch.float32) if value.itemsize == 1 else value.detach()
    if math.isfinite(float(value.sum())):
        return
    if not bool(torch.isfinite(value).all()):
        places = (~torch.isfinite(value)).nonzero()
        at = places[0].tolist()
        first = f"row {at[0] + 1}" if len(at) == 1 else f"place {at}"
        raise InputError(
            f"{name} expected finite numbers, got {len(places)} NaN or infinite of {value.numel()}, the first at {first}; "
            "clean or impute them first"
        )


def check_task(task: Task, dtype: torch.dtype, device: torch.device, loss: Any = None) -> Task:
    """A batch of tasks in the model's dtype and on its device, or a clear error.

    Args:
        task: the batch.
        dtype, device: of the model.
        loss: the learner's own, which goes before the tasks'.

    Raises:
        InputError: an empty side, values that are not finite, negative labels.
        ShapeError: sides or axes that do not fit together.
    """
    if not isinstance(task, Task):
        raise InputError(f"expected an innerloop.Task (support and query), got {type(task).__name__}")
    if losses.is_labelled(task.objective) and task.shared is None:
        _check_examples(task, task.objective if loss is None else loss)
    else:
        _check_any(task)
        losses.as_objective(task.objective).check(task)
    return dataclasses.replace(
        task,
        support=_moved(task.support, dtype, device),
        query=_moved(task.query, dtype, device),
        class_ids=None if task.class_ids is None else task.class_ids.to(device),
        noise=None if task.noise is None else task.noise.to(device),
    )


def _check_any(task: Task) -> None:
    """Sides that only their objective understands: tensors with one leading tasks axis, and finite."""
    lengths: dict[str, int] = {}
    for name, side in (("support", task.support), ("query", task.query)):
        leaves = [(f"{name}{pytree.keystr(path)}", leaf) for path, leaf in pytree.tree_flatten_with_path(side)[0]]
        if not any(isinstance(leaf, Tensor) for _, leaf in leaves):
            raise InputError(
                f"the {name} side expected tensors, got none; give at least one, such as a key for each task"
            )
        for where, leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise InputError(f"{where} expected a torch.Tensor, got {type(leaf).__name__}; use torch.as_tensor")
            if leaf.ndim < 1:
                raise ShapeError(f"{where} expected a leading tasks axis, got a tensor without axes; use value[None]")
            expect_dense(leaf, where)
            if leaf.numel() == 0:
                raise InputError(f"{where} is empty: shape {tuple(leaf.shape)}; give at least one entry")
            check_finite(leaf, where)
            lengths[where] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"all tensors of a batch expected the same number of tasks, got {lengths}")


def _check_examples(task: Task, objective: Any) -> None:
    """Labelled examples: sides, axes and dtypes that fit together."""
    sides = {"support": task.support, "query": task.query}
    lengths: dict[str, int] = {}
    for name, side in sides.items():
        if not isinstance(side, Examples):
            raise InputError(
                f"{name} expected il.Examples(x, y), got {type(side).__name__}; data of another kind need an objective that "
                "knows them: Task(..., objective=MyObjective())"
            )
        inputs = pytree.tree_flatten_with_path(side.x)[0]
        for part, value in [*((f"x{pytree.keystr(path)}", leaf) for path, leaf in inputs), ("y", side.y)]:
            if not isinstance(value, Tensor):
                raise InputError(
                    f"{name}.{part} expected a torch.Tensor, got {type(value).__name__}; use torch.as_tensor"
                )
            expect_dense(value, f"{name}.{part}")
            if value.ndim < 2:
                raise ShapeError(
                    f"{name}.{part} expected a leading tasks axis (tasks, examples, ...), got shape {tuple(value.shape)}"
                )
            if value.shape[0] == 0 or value.shape[1] == 0:
                raise InputError(
                    f"the {name} set is empty: {name}.{part} has shape {tuple(value.shape)}; give at least one example"
                )
            if part == "y" and losses.takes_missing(objective, value[0]):
                check_finite(value.nan_to_num(), f"{name}.{part}")  # a NaN among several labels is a missing one
            else:
                check_finite(value, f"{name}.{part}")
            lengths[f"{name}.{part}"] = value.shape[0]
        for path, value in inputs:
            if value.shape[:2] != side.y.shape[:2]:
                raise ShapeError(
                    f"{name}.x{pytree.keystr(path)} and {name}.y expected the same tasks and examples axes, "
                    f"got {tuple(value.shape)} and {tuple(side.y.shape)}"
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
    one, other = pytree.tree_leaves(s.x), pytree.tree_leaves(q.x)
    widths = [[tuple(x.shape[2:]) for x in side] for side in (one, other)]
    kinds = [[x.dtype for x in side] for side in (one, other)]
    if widths[0] != widths[1]:
        plain = [w[0] if len(w) == 1 else w for w in widths]
        raise ShapeError(f"support and query inputs expected one width, got {plain[0]} and {plain[1]}")
    if kinds[0] != kinds[1] or s.y.dtype != q.y.dtype:
        plain = [k[0] if len(k) == 1 else k for k in kinds]
        raise ShapeError(
            f"support and query expected one dtype, got x {plain[0]} and {plain[1]}, y {s.y.dtype} and {q.y.dtype}"
        )
    if s.y.shape[2:] != q.y.shape[2:]:
        raise ShapeError(
            f"support and query targets expected one width, got {tuple(s.y.shape[2:])} and {tuple(q.y.shape[2:])}"
        )


def admitted(learner: BaseLearner, batch: Task) -> Task:
    """A checked batch as the learner takes it (`BaseLearner.admit`).

    Raises:
        ConfigError: missing targets for a method that has no use for a loss that leaves them out.
    """
    y = batch.support.y
    if (
        not learner.adapts_by_gradients
        and y.is_floating_point()
        and bool(y.isnan().any() | batch.query.y.isnan().any())
    ):
        raise ConfigError(
            "expected a target in every place, got missing ones (NaN), which only methods that adapt by gradients leave out; use "
            "one, such as maml, or give one target at a time"
        )
    return learner.admit(batch)


def check_labels(batch: Task, outputs: int) -> None:
    """Raise InputError for integer labels beyond what a model with so many outputs tells apart."""
    y = batch.support.y
    if y.is_floating_point() or y.ndim != 2:
        return
    top = max(int(y.max()), int(batch.query.y.max()))
    if top >= max(outputs, 2):
        raise InputError(f"labels expected 0 to {outputs - 1} for a model with {outputs} outputs, got {top}")


def looked_up(batch: Task) -> Task:
    """A batch of row numbers into shared examples as a batch of those examples."""
    data = losses.as_objective(batch.objective).data
    return dataclasses.replace(
        batch, support=data(batch.support, batch.shared), query=data(batch.query, batch.shared), shared=None
    )


def moved(tree: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A pytree on a device, its floating-point tensors in a dtype."""
    return pytree.tree_map(
        lambda v: v.to(device, dtype if v.is_floating_point() else None) if isinstance(v, Tensor) else v, tree
    )


def _moved(side: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if not isinstance(side, Examples):
        return moved(side, dtype, device)
    y = side.y.to(device, dtype if side.y.is_floating_point() else torch.int64)
    return Examples(moved(side.x, dtype, device), y, None if side.mask is None else side.mask.to(device, torch.bool))


def accumulate(p: nn.Parameter, grad: Tensor) -> None:
    """Add to ``p.grad``."""
    if p.grad is None:
        # In the parameter's own layout: fused optimizers read both as they lie in memory, and a compiled step lays
        # gradients of convolutions out by channels.
        p.grad = torch.empty_like(p).copy_(grad)
    else:
        p.grad = p.grad + grad.detach()


def expect_steps(steps: Any) -> None:
    """Raise ConfigError for what is no number of inner steps; None is the learner's own."""
    if steps is not None:
        expect_whole("steps", steps, 0)


def expect_adapted(fast: Any, otherwise: str) -> None:
    """Raise DivergedError with this text where what was adapted is not finite."""
    if not all(bool(torch.isfinite(leaf).all()) for leaf in pytree.tree_leaves(fast) if leaf.is_floating_point()):
        raise DivergedError(otherwise)


def expect_finite(loss: float, norm: float, step: int) -> None:
    """Raise DivergedError where the outer loss or the meta-gradient's norm is not finite."""
    for what, value in (("outer loss", loss), ("meta-gradient's norm", norm)):
        if not math.isfinite(value):
            raise DivergedError(
                f"the {what} at outer step {step} is {value}; lower inner_lr or outer_lr, clip the gradient "
                "(clip_norm), or use fewer inner steps"
            )
