"""Is the meta-gradient right on this very model? Loop, vmap and float64 finite differences, compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import Task
from innerloop.doctor.examination import Examination, seed_generators
from innerloop.doctor.report import Diagnosis
from innerloop.errors import ConfigError, InputError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.waiting import waiting

_DIFFERENCES = 1e-4  # what kinks and rounding leave of an agreement with finite differences, with room


@waiting("computing the meta-gradient in several ways")
def check_meta_gradient(
    learner: MetaLearner, task: Task, *, directions: int = 4, tolerance: float | None = None, seed: int = 0
) -> Diagnosis:
    """Measure whether ``learner.backward`` computes what its method claims, on float64 copies.

    Neither the learner nor the task nor torch's global generator is changed. The first 2 tasks of the batch are used. Cost:
    about 2 x (directions + 3) outer losses of these tasks where the model is smooth, up to seven times that where it has
    many kinks, and half a dozen meta-gradients.

    Args:
        learner: any MetaLearner.
        task: a batch of tasks (leading ``tasks`` axis), or a single one that shows that it is: targets (examples,), or a
            noise key or class ids without a tasks axis.
        directions: random directions over all parameters together, at least 1; the largest three tensors get one each besides.
        tolerance: relative disagreement with finite differences that is allowed; None: 1e-4. Loop and vmap, the first-order
            definitions and the norm layers are held to 1e-7.
        seed: of directions, and of models that draw random numbers themselves.

    Returns:
        A `Diagnosis`; ``ok`` is False where something contradicts, and ``problems`` says what and where.

    Raises:
        InputError, ShapeError: a task that does not fit the learner.
        ConfigError: settings out of range, or a model that cannot compute in float64.
        DivergedError: an outer loss that is not finite.
    """
    begun = time.perf_counter()
    if not isinstance(learner, MetaLearner):
        raise InputError(f"expected a MetaLearner (il.maml(model), ...), got {type(learner).__name__}")
    if directions < 1:
        raise ConfigError(f"directions expected at least 1, got {directions}")
    if tolerance is not None and not 0 < tolerance < 1:
        raise ConfigError(f"tolerance expected a number between 0 and 1, got {tolerance}")
    with _own_generator(learner, seed):
        return Examination(learner, as_batch(task), seed, tolerance or _DIFFERENCES).diagnosis(directions, begun)


def naive_vmap_error(learner: MetaLearner, task: Task, *, seed: int = 0) -> float | None:
    """How wrong the vmapped meta-gradient would be with torch's own norm layers: relative, in float64, against the loop.

    torch's batching rule for the double backward of affine norm layers is wrong (pytorch/functorch#534), which is why
    they are rewritten. None where the learner has no rewritten norm layers, or cannot be vmapped.

    Args:
        learner: any MetaLearner; it is not changed.
        task: as for `check_meta_gradient`.
        seed: for models that draw random numbers themselves.
    """
    with _own_generator(learner, seed):
        return Examination(learner, as_batch(task), seed, _DIFFERENCES).naive_error()


@contextmanager
def _own_generator(learner: MetaLearner, seed: int) -> Iterator[None]:
    devices = [learner.device] if learner.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed_generators(learner, seed)
        yield


def as_batch(task: Task) -> Task:
    """A batch of tasks from a batch or from a single task that shows that it is one; else an InputError.

    What only their objective understands shows it by its key or class ids; without these it is taken for a batch.
    """
    if not isinstance(task, Task):
        return task  # `MetaLearner.check` says what is wrong
    keyed = (task.noise is not None and task.noise.ndim == 0) or (
        task.class_ids is not None and task.class_ids.ndim == 1
    )
    batched = (task.noise is not None and task.noise.ndim == 1) or (
        task.class_ids is not None and task.class_ids.ndim == 2
    )
    if keyed:
        return pytree.tree_map(lambda v: v[None], task)
    x, y = getattr(task.support, "x", None), getattr(task.support, "y", None)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return task
    if y.ndim == 1:
        return pytree.tree_map(lambda v: v[None], task)
    if not batched and y.is_floating_point() and x.is_floating_point() and x.ndim == 2 and y.ndim == 2:
        raise InputError(
            f"expected a leading tasks axis, (tasks, examples, ...), got support.x {tuple(x.shape)} and support.y "
            f"{tuple(y.shape)}, which may be one task or many; add the axis to all tensors (x[None])"
        )
    return task
