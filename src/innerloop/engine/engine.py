"""Runs a function of one task over a batch of tasks: one after the other, vmapped, or compiled; in chunks.

All strategies compute the same numbers up to rounding. ``looped`` needs the least memory and takes any model; ``vmapped``
is many times faster for small dense networks, but turns convolutions with per-task weights into grouped convolutions, which
CPUs run no faster than the loop when a task has many pictures; ``compiled`` fuses the vmapped step (small dense networks only).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task
from innerloop.engine.compiled import compiled_gradient
from innerloop.engine.gradient import Grads, batch_loss, gradient, value_gradient
from innerloop.errors import ConfigError

# Below this many tasks vmap costs more than it saves, on every model measured so far.
_FEW_TASKS = 4
# Conv4 on 28x28 pictures, one thread: with 10 pictures a task vmap takes half the loop's time or less, with 80 as much or more.
_FEW_PICTURES = 32


@dataclasses.dataclass(eq=False)
class Engine:
    """How to run, and what is known of the model.

    Attributes:
        strategy: "auto", "looped", "vmapped" or "compiled".
        chunk_size: tasks held in memory at once when vmapped; None: all.
        convolutional: tasks adapt convolution weights of their own.
        needs_loop: functions of the model that vmap gets wrong or refuses (see `functional.probe`).
    """

    strategy: str = "auto"
    chunk_size: int | None = None
    convolutional: bool = False
    needs_loop: tuple[str, ...] = ()
    _compiled: dict[Any, Callable[..., Any]] = dataclasses.field(default_factory=dict, repr=False)

    def choose(self, tasks: Task) -> str:
        """The strategy for a batch like this: a rule of its shapes, so that equal seeds stay equal runs."""
        num_tasks = tasks.support.y.shape[0]
        many_pictures = self.convolutional and tasks.support.y.shape[1] + tasks.query.y.shape[1] > _FEW_PICTURES
        if self.strategy in ("vmapped", "compiled"):
            if self.needs_loop:
                raise ConfigError(
                    f"strategy {self.strategy!r} gives wrong or no gradients through {', '.join(self.needs_loop)}; "
                    "use strategy 'looped' or a model built from primitives (il.models.lstm, il.models.transformer)"
                )
            if self.strategy == "compiled" and self.convolutional:
                raise ConfigError(
                    "strategy 'compiled' is not for convolutional models (it can take minutes and crash); "
                    "use 'looped' or 'vmapped'"
                )
            return self.strategy
        if self.strategy == "looped" or self.needs_loop or many_pictures or num_tasks < _FEW_TASKS:
            return "looped"
        if self.strategy == "auto":
            return "vmapped"
        raise ConfigError(f"strategy expected 'auto', 'looped', 'vmapped' or 'compiled', got {self.strategy!r}")

    def mean_gradient(self, learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> tuple[Grads, Grads, Any]:
        """Gradient of the mean outer loss by params and rule, and the mean of aux."""
        num_tasks = tasks.support.y.shape[0]
        strategy = self.choose(tasks)
        if strategy == "looped":
            parts = (gradient(learner, meta, take(tasks, i), outer_step) for i in range(num_tasks))
            return weighted_mean((1 / num_tasks, part) for part in parts)

        def one_chunk(chunk: Task) -> tuple[Grads, Grads, Any]:
            if strategy == "compiled":
                return compiled_gradient(self._compiled, learner, meta, chunk, outer_step)
            return value_gradient(lambda m: batch_loss(learner, m, chunk, outer_step), meta)

        return weighted_mean((n / num_tasks, one_chunk(chunk)) for n, chunk in self.chunks(tasks))

    def mean(self, function: Callable[[Meta, Task], Any], meta: Meta, tasks: Task) -> Any:
        """The mean over tasks of a function that returns a pytree of tensors; no graph is kept."""
        return pytree.tree_map(lambda v: v.mean(0), self.map(function, meta, tasks))

    @torch.no_grad()
    def map(self, function: Callable[[Meta, Task], Any], meta: Meta, tasks: Task) -> Any:
        """The function's results for all tasks, stacked along a leading tasks axis; no graph is kept."""
        num_tasks = tasks.support.y.shape[0]
        if self.choose(tasks) == "looped":
            results = [function(meta, take(tasks, i)) for i in range(num_tasks)]
            return pytree.tree_map(lambda *values: torch.stack(values), results[0], *results[1:])
        results = [torch.vmap(lambda t: function(meta, t))(chunk) for _, chunk in self.chunks(tasks)]
        return pytree.tree_map(lambda *values: torch.cat(values), results[0], *results[1:])

    def chunks(self, tasks: Task) -> list[tuple[int, Task]]:
        """(number of tasks, those tasks) of each chunk."""
        total = tasks.support.y.shape[0]
        size = min(self.chunk_size or total, total)
        return [(min(size, total - a), take(tasks, slice(a, a + size))) for a in range(0, total, size)]


def take(tasks: Task, index: int | slice) -> Task:
    """One task (int) or some of a batch (slice)."""
    return pytree.tree_map(lambda v: v[index], tasks)


def weighted_mean(parts: Any) -> Any:
    """Sum of weight x pytree, one part in memory at a time."""
    total = None
    for weight, part in parts:
        scaled = pytree.tree_map(lambda v, w=weight: v.detach() * w, part)
        total = scaled if total is None else pytree.tree_map(torch.add, total, scaled)
    return total
