"""Runs a function of one task over a batch of tasks: one after the other, batched, or compiled; in chunks.

All strategies compute the same numbers up to rounding. ``looped`` needs the least memory and takes any model; ``vmapped`` is
many times faster for small dense networks, but turns convolutions with per-task weights into grouped convolutions, which
CPUs run slowly; ``per_task`` batches everything but these convolutions; ``compiled`` fuses the vmapped step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task, batch_size
from innerloop.engine import deciding, memory, recompute
from innerloop.engine import plan as planning
from innerloop.engine.deciding import Facts
from innerloop.engine.gradient import Grads, batch_loss, gradient, mean_over_tasks, value_gradient
from innerloop.engine.plan import Plan
from innerloop.functional.convolutions import per_task_convolutions

# A batch of these shapes is met this often before it is measured: whoever takes a step or two does not wait for a plan.
_MET_BEFORE = 2


@dataclasses.dataclass(eq=False)
class Engine:
    """How to run, and what is known of the model.

    Attributes:
        strategy: "auto" or one of `plan.STRATEGIES`.
        chunk_size: tasks held in memory at once when batched; None: all, or what is fastest.
        convolutional: tasks adapt convolution weights of their own.
        needs_loop: functions of the model that vmap gets wrong or refuses (see `functional.probe`).
        precision: in which the model computes, where not in its own.
        identity: what is computed, apart from the tasks' shapes; under it plans are kept.
        plans: what was decided, by signature.
    """

    strategy: str = "auto"
    chunk_size: int | None = None
    convolutional: bool = False
    needs_loop: tuple[str, ...] = ()
    precision: str = ""
    identity: str = ""
    plans: dict[str, Plan] = dataclasses.field(default_factory=dict, repr=False)
    _met: dict[str, int] = dataclasses.field(default_factory=dict, repr=False)
    _forced: Plan | None = dataclasses.field(default=None, repr=False)
    _made: list[Plan] | None = dataclasses.field(default=None, repr=False)
    _instead: Callable[..., tuple[Grads, Grads, Any]] | None = dataclasses.field(default=None, repr=False)

    # ---- choosing --------------------------------------------------------------------------------------------------
    @property
    def facts(self) -> Facts:
        """What it knows that decides how a step is run; see `deciding`."""
        return Facts(self.strategy, self.chunk_size, self._forced, self.needs_loop, self.convolutional)

    def rule(self, tasks: Task) -> Plan:
        """The plan for a batch like this by its shapes alone, so the same everywhere."""
        return deciding.rule(self.facts, tasks)

    def choose(self, tasks: Task) -> str:
        """The strategy of `rule`."""
        return self.rule(tasks).strategy

    def candidates(self, tasks: Task) -> list[Plan]:
        """The plans worth measuring, the rule's first."""
        return deciding.candidates(self.facts, tasks)

    def plan(self, job: planning.Job, kind: str, tasks: Task, fitting: Callable[[], memory.Room] = memory.Room) -> Plan:
        """The plan for this job on a batch like this: the rule's for the first two calls, then the measured one.

        Args:
            job: runs a plan on some tasks and changes nothing.
            kind: what is computed, where one engine computes several things.
            tasks: the batch.
            fitting: estimates memory.
        """
        forced = self._forced
        found = deciding.beneath(forced, self.facts) if forced else self._plan(job, kind, tasks, fitting)
        if self._made is not None:
            self._made.append(found)
        return found

    def _plan(self, job: planning.Job, kind: str, tasks: Task, fitting: Callable[[], memory.Room]) -> Plan:
        settings = (self.strategy, self.chunk_size, self.needs_loop, self.precision, recompute.wanted())
        name = planning.signature(self.identity, tasks, kind, *settings)
        if name in self.plans:
            return self.plans[name]
        # Where somebody has asked for a plan (`planning`), the first call is the time to measure.
        self._met[name] = self._met.get(name, 0) + 1
        if self._met[name] <= _MET_BEFORE and self._made is None:
            return self.rule(tasks)
        candidates = self.candidates(tasks)
        found = candidates[0] if len(candidates) == 1 else planning.recall(name)
        if found is None:
            room = fitting()
            found = planning.measure(job, tasks, deciding.bounded(candidates, room.chunk_size))
            if room.need is not None:
                at_once = 1 if found.strategy == "looped" else found.chunk_size or batch_size(tasks)
                found = dataclasses.replace(found, megabytes=round(room.need.of(at_once) / 1e6, 1))
            planning.remember(name, found)
        self.plans[name] = found
        return found

    @contextmanager
    def planning(self) -> Iterator[list[Plan]]:
        """What runs inside is planned now; gives the list of plans that are made or found."""
        before, self._made = self._made, []
        try:
            yield self._made
        finally:
            self._made = before

    @contextmanager
    def forced(self, plan: Plan) -> Iterator[None]:
        """All that runs inside follows this plan."""
        before, self._forced = self._forced, plan
        try:
            yield
        finally:
            self._forced = before

    @contextmanager
    def computed_by(
        self, function: Callable[[BaseLearner, Meta, Task, int], tuple[Grads, Grads, Any]]
    ) -> Iterator[None]:
        """`mean_gradient` is this function inside."""
        before, self._instead = self._instead, function
        try:
            yield
        finally:
            self._instead = before

    # ---- running ---------------------------------------------------------------------------------------------------
    def mean_gradient(self, learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> tuple[Grads, Grads, Any]:
        """Gradient of the mean outer loss by params and rule, and the mean of aux."""
        if self._instead is not None:
            return self._instead(learner, meta, tasks, outer_step)

        def run(plan: Plan, tasks: Task) -> tuple[Grads, Grads, Any]:
            num_tasks = batch_size(tasks)
            if plan.strategy == "looped":
                parts = (gradient(learner, meta, take(tasks, i), outer_step) for i in range(num_tasks))
                return weighted_mean((1 / num_tasks, part) for part in parts)
            with per_task_convolutions(plan.strategy == "per_task"):
                return weighted_mean(
                    (
                        # The mean of chunks of unequal size is weighted, so that the last, shorter one does not count more.
                        n / num_tasks,
                        value_gradient(lambda m, chunk=chunk: batch_loss(learner, m, chunk, outer_step), meta),
                    )
                    for n, chunk in chunks(tasks, plan.chunk_size)
                )

        kind = f"gradient {getattr(learner, 'first_order', '')}"
        plan = self.plan(run, kind, tasks, lambda: memory.room_for(learner, meta, tasks, outer_step))
        together = plan.strategy != "looped"
        with memory.explained(learner, meta, tasks, outer_step, together=together, chunk_size=plan.chunk_size):
            return run(plan, tasks)

    def mean(self, function: Callable[[Meta, Task], Any], meta: Meta, tasks: Task) -> Any:
        """The mean over tasks of a function that returns a pytree of tensors; no graph is kept."""

        def run(plan: Plan, tasks: Task) -> Any:
            return mean_over_tasks(_map(plan, function, meta, tasks))

        return run(self.plan(run, f"mean {function.__qualname__}", tasks), tasks)

    def each(self, function: Callable[[Meta, Any], Any], meta: Meta, tasks: Task) -> Any:
        """As `map`, by a plan for this job."""

        def run(plan: Plan, tasks: Task) -> Any:
            return _map(plan, function, meta, tasks)

        return run(self.plan(run, f"each {function.__qualname__}", tasks), tasks)

    def map(self, function: Callable[[Meta, Task], Any], meta: Meta, tasks: Task) -> Any:
        """The function's results for all tasks, stacked along a leading tasks axis; no graph is kept."""
        return _map(deciding.mapping(self.facts, tasks), function, meta, tasks)


@torch.no_grad()
def _map(plan: Plan, function: Callable[[Meta, Any], Any], meta: Meta, tasks: Task) -> Any:
    if plan.strategy == "looped":
        results = [function(meta, take(tasks, i)) for i in range(batch_size(tasks))]
        return pytree.tree_map(lambda *values: torch.stack(values), results[0], *results[1:])
    with per_task_convolutions(plan.strategy == "per_task"):
        results = [torch.vmap(lambda t: function(meta, t))(chunk) for _, chunk in chunks(tasks, plan.chunk_size)]
    return pytree.tree_map(lambda *values: torch.cat(values), results[0], *results[1:])


def chunks(tasks: Task, size: int | None) -> list[tuple[int, Task]]:
    """(number of tasks, those tasks) of each chunk."""
    total = batch_size(tasks)
    size = min(size or total, total)
    if size == total:
        return [(total, tasks)]
    return [(min(size, total - a), take(tasks, slice(a, a + size))) for a in range(0, total, size)]


def take(tasks: Task, index: int | slice) -> Task:
    """One task (int) or some of a batch (slice)."""
    return pytree.tree_map(lambda v: v[index], tasks)


def weighted_mean(parts: Any) -> Any:
    """Sum of weight x pytree, one part in memory at a time."""
    total = kinds = None
    for weight, part in parts:
        # All tasks at once: not even a product with 1, so the same bits as without an engine.
        if total is None and weight == 1:
            return pytree.tree_map(lambda v: v.detach(), part)
        # A count that a model keeps is a whole number and is one again in the end.
        kinds = kinds or [v.dtype for v in pytree.tree_leaves(part)]
        scaled = pytree.tree_map(lambda v, w=weight: v.detach() * w, part)
        total = scaled if total is None else pytree.tree_map(torch.add, total, scaled)
    leaves, tree = pytree.tree_flatten(total)
    whole = (v if d.is_floating_point else v.round().to(d) for v, d in zip(leaves, kinds or (), strict=True))
    return pytree.tree_unflatten(list(whole), tree)
