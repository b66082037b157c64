"""A meta-gradient as one compiled function, for each shape of tasks and each phase of training."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import Meta, MetaGradient, OuterGradient, Task, batch_size
from innerloop.engine import Engine, Plan, take
from innerloop.engine.compiling import STANDARD, Compiled, CompileFailed, Limits, compile_function

PLAN = Plan("compiled")


class CompiledGradients:
    """Compiles on the first call for tasks of a shape; where that fails, the meta-gradient runs as it is.

    All tasks at once, or where `engine.deciding` says so one task, and what comes out is averaged.

    Attributes:
        trouble: why compiling failed the last time that it did; "" where it never has.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._functions: dict[Any, Compiled | None] = {}

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
        by_task: bool,
    ) -> OuterGradient:
        function = self.ready(meta_gradient, engine, carry, meta, tasks, outer_step, by_task)
        if function is None:
            return meta_gradient(carry, meta, tasks, outer_step, None)
        if not by_task:
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
        by_task: bool,
        limits: Limits = STANDARD,
    ) -> Compiled | None:
        """The function for tasks like these, compiled now where it is not yet; None where it cannot be."""
        if by_task:
            tasks = take(tasks, slice(0, 1))
        args = (carry, meta, tasks)
        leaves, spec = pytree.tree_flatten(args)
        key = (meta_gradient.phase(outer_step), str(spec), tuple((v.shape, v.dtype, v.device) for v in leaves))
        if key not in self._functions:

            def whole(carry: dict[str, Any], meta: Meta, tasks: Task) -> OuterGradient:
                return meta_gradient(carry, meta, tasks, outer_step, None)

            try:
                with engine.forced(PLAN):
                    self._functions[key] = compile_function(whole, args, limits)
            except CompileFailed as error:
                self.trouble, self._functions[key] = str(error), None
        return self._functions[key]
