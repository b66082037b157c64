"""A meta-gradient as one compiled function, for each shape of tasks and each phase of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task, batch_size
from innerloop.engine import Engine, Plan, take
from innerloop.engine.compiling import STANDARD, Compiled, CompileFailed, Limits, StepTooLarge, compile_function
from innerloop.engine.deciding import IN_PHASES, META_GRADIENT_BY_TASK
from innerloop.engine.phases import MOST_AT_ONCE, InPhases, NotInPhases, compile_phases, cut

PLAN = Plan("compiled")


class CompiledGradients:
    """Compiles on the first call for tasks of a shape; where that fails, the meta-gradient runs as it is.

    All tasks at once, or where `engine.deciding` says so one task, and what comes out is averaged; or in phases.

    Attributes:
        trouble: why compiling failed the last time that it did; "" where it never has.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._functions: dict[Any, Compiled | InPhases | None] = {}

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
        function = self.ready(meta_gradient, engine, carry, meta, tasks, outer_step, what)
        if isinstance(function, InPhases):
            with engine.computed_by(lambda learner, meta, tasks, outer_step: function(meta, tasks)):
                return meta_gradient(carry, meta, tasks, outer_step, None)
        if function is None:
            return meta_gradient(carry, meta, tasks, outer_step, None)
        if what != META_GRADIENT_BY_TASK:
            return function(carry, meta, tasks)
        fixed, num_tasks = pytree.tree_leaves((carry, meta)), batch_size(tasks)
        total: list[Tensor] = []
        for i in range(num_tasks):
            found = function.flat(*fixed, *pytree.tree_leaves(take(tasks, slice(i, i + 1))))
            # Results may share memory with what was given, so the first ones are copied.
            total = [t.add_(f) for t, f in zip(total, found, strict=True)] if total else [f.clone() for f in found]
        return pytree.tree_unflatten([value.div_(num_tasks) for value in total], function.results)

    def ready(
        self,
        meta_gradient: MetaGradient,
        engine: Engine,
        carry: dict[str, Any],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        what: str,
        limits: Limits = STANDARD,
    ) -> Compiled | InPhases | None:
        """The function for tasks like these, compiled now where it is not yet; None where it cannot be."""
        if what == META_GRADIENT_BY_TASK:
            tasks = take(tasks, slice(0, 1))
        leaves, spec = pytree.tree_flatten((carry, meta, tasks))
        shapes = tuple((v.shape, v.dtype, v.device) for v in leaves)
        key = (what, meta_gradient.phase(outer_step), str(spec), shapes)
        if key not in self._functions:

            def whole(carry: dict[str, Any], meta: Meta, tasks: Task) -> OuterGradient:
                return meta_gradient(carry, meta, tasks, outer_step, None)

            by_phases = meta_gradient.of_mean_gradient and what != META_GRADIENT_BY_TASK
            try:
                self._functions[key] = _compiled(
                    whole, (carry, meta, tasks), engine, what == IN_PHASES, by_phases, limits
                )
            except CompileFailed as error:
                self.trouble, self._functions[key] = str(error), None
        return self._functions[key]


def _compiled(
    whole: Callable[..., OuterGradient],
    args: tuple[Any, ...],
    engine: Engine,
    first: bool,
    possible: bool,
    limits: Limits,
) -> Compiled | InPhases:
    """``whole``, compiled as it is or in phases: these ``first``, or where they are ``possible`` and it is too large."""
    made: list[InPhases] = []

    def cut_and_compile(learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> Any:
        most = (engine.chunk_size or MOST_AT_ONCE) if engine.convolutional else engine.chunk_size
        parts = cut(learner, meta, tasks, outer_step, most, by_task=engine.convolutional)
        made.append(compile_phases(parts, meta, tasks, limits))
        return made[0](meta, tasks)

    def in_phases() -> InPhases:
        with engine.computed_by(cut_and_compile):
            whole(*args)
        return made[0]

    if first:
        with contextlib.suppress(NotInPhases):
            return in_phases()
    try:
        with engine.forced(PLAN):
            return compile_function(whole, args, limits)
    except StepTooLarge:
        if first or not possible:  # phases were tried before
            raise
    return in_phases()
