"""A meta-gradient as one compiled function, for each shape of tasks and each phase of training."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task, batch_size
from innerloop.engine import Engine, Plan, take
from innerloop.engine.compiling import STANDARD, Compiled, CompileFailed, Limits, Pending, StepTooLarge, begin
from innerloop.engine.deciding import IN_PHASES, META_GRADIENT_BY_TASK
from innerloop.engine.phases import MOST_AT_ONCE, InPhases, NotInPhases, begin_phases, cut

PLAN = Plan("compiled")
# Of the carry, meta, the tasks and the outer step.
Function = Callable[[dict[str, Any], Meta, Task, int], OuterGradient]


class CompiledGradients:
    """Compiles on the first call for tasks of a shape; where that fails, the meta-gradient runs as it is.

    All tasks at once, or where `engine.deciding` says so one task, and what comes out is averaged; or in phases.

    Attributes:
        trouble: why compiling failed the last time that it did; "" where it never has.
    """

    def __init__(self) -> None:
        self.trouble: str = ""
        self._functions: dict[Any, Function | None] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledGradients:
        del memo  # compiled functions belong to the original's parts; a copy makes its own
        return CompiledGradients()

    def __call__(
        self,
        meta_gradient: MetaGradient,
        engine: Engine,
        carry: dict[str, Any],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        what: str,
    ) -> OuterGradient:
        key = _key(what, meta_gradient.phase(outer_step), carry, meta, tasks)
        if key not in self._functions:
            try:
                self.begin(meta_gradient, engine, carry, meta, tasks, outer_step, what).wait()
            except CompileFailed as error:
                self.trouble, self._functions[key] = str(error), None
        function = self._functions[key]
        if function is None:
            return meta_gradient(carry, meta, tasks, outer_step, None)
        return function(carry, meta, tasks, outer_step)

    def begin(
        self,
        meta_gradient: MetaGradient,
        engine: Engine,
        carry: dict[str, Any],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        what: str,
        limits: Limits = STANDARD,
    ) -> Pending[Function]:
        """Begin to compile it in other processes. Once it has been waited for, calls take it.

        Raises:
            CompileFailed: see `compiling.begin`.
        """
        key = _key(what, meta_gradient.phase(outer_step), carry, meta, tasks)
        known = self._functions.get(key)
        if known is not None:
            return Pending(0, lambda: known, lambda: None)

        def kept(function: Function) -> Function:
            self._functions[key] = function
            return function

        return _begun(meta_gradient, engine, (carry, meta, tasks), outer_step, what, limits).then(kept)


def _key(what: str, phase: Any, carry: dict[str, Any], meta: Meta, tasks: Task) -> Any:
    leaves, spec = pytree.tree_flatten((carry, meta, tasks))
    return what, phase, str(spec), tuple((v.shape, v.dtype, v.device) for v in leaves)


def _begun(
    meta_gradient: MetaGradient,
    engine: Engine,
    args: tuple[dict[str, Any], Meta, Task],
    outer_step: int,
    what: str,
    limits: Limits,
) -> Pending[Function]:
    """The meta-gradient on its way to the compiler: in phases where that is asked for and can be, or where it is too large."""
    carry, meta, tasks = args
    begun: list[Pending[InPhases]] = []

    def whole(carry: dict[str, Any], meta: Meta, tasks: Task) -> OuterGradient:
        return meta_gradient(carry, meta, tasks, outer_step, None)

    def cut_and_begin(learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> Any:
        most = (engine.chunk_size or MOST_AT_ONCE) if engine.convolutional else engine.chunk_size
        parts = cut(learner, meta, tasks, outer_step, most, by_task=engine.convolutional)
        begun.append(begin_phases(parts, meta, tasks, limits))
        return parts(meta, tasks)

    def in_phases() -> Pending[Function]:
        with engine.computed_by(cut_and_begin):
            whole(*args)
        return begun[0].then(lambda parts: functools.partial(_by_phases, meta_gradient, engine, parts))

    if what == IN_PHASES:
        with contextlib.suppress(NotInPhases):
            return in_phases()
    by_task = what == META_GRADIENT_BY_TASK or (engine.convolutional and meta_gradient.shardable)
    try:
        with engine.forced(PLAN):
            given = (carry, meta, take(tasks, slice(0, 1))) if by_task else args
            pending = begin([(whole, given)], limits)
    except StepTooLarge:
        if what == IN_PHASES or by_task or not meta_gradient.of_mean_gradient:
            raise
        return in_phases()
    return pending.then(lambda found: functools.partial(_task_by_task if by_task else _at_once, found[0]))


def _by_phases(
    meta_gradient: MetaGradient,
    engine: Engine,
    parts: InPhases,
    carry: dict[str, Any],
    meta: Meta,
    tasks: Task,
    outer_step: int,
) -> OuterGradient:
    with engine.computed_by(lambda learner, meta, tasks, outer_step: parts(meta, tasks)):
        return meta_gradient(carry, meta, tasks, outer_step, None)


def _at_once(compiled: Compiled, carry: dict[str, Any], meta: Meta, tasks: Task, outer_step: int) -> OuterGradient:
    del outer_step  # of which only the phase counts
    return compiled(carry, meta, tasks)


def _task_by_task(compiled: Compiled, carry: dict[str, Any], meta: Meta, tasks: Task, outer_step: int) -> OuterGradient:
    """The mean over the tasks of what is found for each."""
    del outer_step
    fixed, num_tasks = pytree.tree_leaves((carry, meta)), batch_size(tasks)
    total: list[Tensor] = []
    for i in range(num_tasks):
        found = compiled.flat(*fixed, *pytree.tree_leaves(take(tasks, slice(i, i + 1))))
        # Results may share memory with what was given, so the first ones are copied.
        total = [t.add_(f) for t, f in zip(total, found, strict=True)] if total else [f.clone() for f in found]
    return pytree.tree_unflatten([value.div_(num_tasks) for value in total], compiled.results)
