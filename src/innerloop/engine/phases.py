"""The gradient of a mean outer loss in phases: the first inner step, the later ones, the outer loss, and the way back.

A graph of the whole computation grows with the inner steps, and so does the time that it takes to compile. Here one inner step
is a function of its own, called in a Python loop, and so is the product of a vector with its derivatives. On the way back a
step is computed again from the state before it, which is all that was kept (Griewank and Walther 2000, "Algorithm 799").

The first step is apart from the later ones: before it all tasks have the same weights, so what they share is computed once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task, batch_size
from innerloop.engine.compiling import STANDARD, Compiled, CompileFailed, Limits, Pending, begin
from innerloop.engine.engine import chunks, take, weighted_mean
from innerloop.engine.gradient import Grads, mean_over_tasks
from innerloop.engine.inner_loops import run_by
from innerloop.errors import ConfigError
from innerloop.functional.convolutions import per_task_convolutions

Leaves = Sequence[Tensor]
MOST_AT_ONCE = 8  # tasks with convolutions of their own, whose graph has one for each


class NotInPhases(CompileFailed):
    """The outer loss is no inner loop of equal steps followed by a loss."""


class _Reached(Exception):
    """The inner loop begins here."""

    def __init__(self, step: Callable[..., Any], state: Any, given: Any, steps: int) -> None:
        self.step, self.state, self.given, self.steps = step, state, given, steps


class Functions(NamedTuple):
    """What `Phases` consists of; see there."""

    first: Callable[..., Leaves]
    later: Callable[..., Leaves]
    last: Callable[..., Leaves]
    back_first: Callable[..., Leaves]
    back_later: Callable[..., Leaves]


class Phases:
    """The functions of which the gradient is made, from tensors to tensors, for a learner and tasks like these.

    The tensors of meta, of the tasks and of the states of all tasks are laid end to end in this order. A state is what the steps
    change, and what was made on the way to the inner loop.

    Args:
        learner: whose outer loss it is.
        meta, tasks: examples.
        outer_step: of which phase of training.
        by_task: `last` is of one task; else of all, and of their mean.

    Attributes:
        steps: how many inner steps there are.

    Raises:
        NotInPhases: the outer loss has another form.
    """

    learner: BaseLearner
    outer_step: int
    by_task: bool
    weights: int

    def __init__(self, learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int, by_task: bool = False) -> None:
        self.learner, self.outer_step, self.by_task = learner, outer_step, by_task
        leaves, self._meta_spec = pytree.tree_flatten(meta)
        of_tasks, self._task_spec = pytree.tree_flatten(tasks)
        self.learned: int = len(meta.params) + len(meta.rule)
        self._num_meta, self._num_tasks = len(leaves), len(of_tasks)
        self._state_spec: Any = None
        self.aux_spec: Any = None
        self.steps: int = 0
        state = self.first(*(leaf.detach() for leaf in leaves), *of_tasks)
        self._num_state, self.weights = len(state), len(_floats(state))

    @property
    def functions(self) -> Functions:
        return Functions(self.first, self.later, self.last, self.back_first, self.back_later)

    # ---- one task --------------------------------------------------------------------------------------------------
    def _outer_loss(self, loop: Callable[..., Any], meta: Meta, task: Task) -> Any:
        with run_by(loop):
            return self.learner.meta_loss(meta, task, self.outer_step)

    def _begun(self, meta: Meta, task: Task) -> _Reached:
        """What the inner loop begins with."""

        def loop(step: Any, state: Any, given: Any, steps: int, observe: Any = None) -> Any:
            if observe is not None:
                raise NotInPhases("the outer loss looks at every inner step")
            raise _Reached(step, state, given, steps)

        try:
            self._outer_loss(loop, meta, task)
        except _Reached as reached:
            return reached
        raise NotInPhases("the outer loss has no inner loop")

    def _first(self, meta: Meta, task: Task) -> list[Tensor]:
        begun = self._begun(meta, task)
        if begun.steps < 1:
            raise NotInPhases("there are no inner steps")
        self.steps = begun.steps
        leaves, _, made = _others(begun.given, meta, task)
        return [*self._flat(begun.step(begun.state, begun.given, 0)), *(leaves[i] for i in made)]

    def _later(self, meta: Meta, task: Task, state: Leaves, i: Tensor) -> list[Tensor]:
        begun = self._begun(meta, task)
        leaves, spec, made = _others(begun.given, meta, task)
        fast, own = self._fast(state, i, len(made))
        for place, value in zip(made, own, strict=True):
            leaves[place] = value
        return [*self._flat(begun.step(fast, pytree.tree_unflatten(leaves, spec), i)), *own]

    def _last(self, meta: Meta, task: Task, state: Leaves, i: Tensor) -> Any:
        """The outer loss, and its aux, with this state in the place of what the inner loop gives."""
        times = 0

        def loop(step: Any, begin: Any, given: Any, steps: int, observe: Any = None) -> Any:
            nonlocal times
            times += 1
            if times > 1:
                raise NotInPhases("the outer loss has more than one inner loop")
            return self._fast(state, i, len(_others(given, meta, task)[2]))[0]

        return self._outer_loss(loop, meta, task)

    def _flat(self, fast: Any) -> list[Tensor]:
        leaves, spec = pytree.tree_flatten(self.learner.counted(fast, None))
        if self._state_spec is None:
            self._state_spec = spec
        if spec != self._state_spec or not all(isinstance(leaf, Tensor) for leaf in leaves):
            raise NotInPhases("inner steps change more than values")
        return leaves

    def _fast(self, state: Leaves, i: Tensor, others: int) -> tuple[Any, list[Tensor]]:
        """What is adapted, with ``i`` steps taken, and what else a state holds."""
        changed = len(state) - others
        fast = pytree.tree_unflatten(list(state[:changed]), self._state_spec)
        return self.learner.counted(fast, i), list(state[changed:])

    # ---- all tasks -------------------------------------------------------------------------------------------------
    def first(self, *leaves: Tensor) -> list[Tensor]:
        """Meta, tasks -> the states after the first inner step."""
        meta, tasks = _cut(leaves, self._num_meta, self._num_tasks)

        def one(tasks: Leaves) -> list[Tensor]:
            return self._first(self._meta(meta), self._tasks(tasks))

        return [v.contiguous() for v in torch.vmap(one)(tasks)]

    def later(self, *leaves: Tensor) -> list[Tensor]:
        """Meta, tasks, states, the number of steps taken -> the states after one more."""
        meta, tasks, state, (i,) = _cut(leaves, self._num_meta, self._num_tasks, self._num_state, 1)

        def one(tasks: Leaves, state: Leaves) -> list[Tensor]:
            return self._later(self._meta(meta), self._tasks(tasks), state, i)

        return [v.contiguous() for v in torch.vmap(one)(tasks, state)]

    def last(self, *leaves: Tensor) -> list[Tensor]:
        """Meta, tasks, states, the number of steps taken -> gradients of the outer loss by meta and by states, and aux.

        Of the mean over the tasks, or with `by_task` of one task, whose tensors then have no tasks axis.
        """
        meta, tasks, state, (i,) = _cut(leaves, self._num_meta, self._num_tasks, self._num_state, 1)

        def loss(learned: Leaves, floats: Leaves) -> tuple[Tensor, Any]:
            whole = self._meta([*learned, *meta[self.learned :]])

            def one(tasks: Leaves, state: Leaves) -> Any:
                return self._last(whole, self._tasks(tasks), state, i)

            found = (one if self.by_task else torch.vmap(one))(tasks, _with_floats(state, floats))
            value, aux = found if self.by_task else (found[0].mean(), mean_over_tasks(found[1]))
            leaves, self.aux_spec = pytree.tree_flatten(aux)
            return value, leaves

        grads, aux = torch.func.grad(loss, (0, 1), has_aux=True)(meta[: self.learned], _floats(state))
        return [v.contiguous() for v in (*grads[0], *grads[1], *aux)]

    def back_later(self, *leaves: Tensor) -> list[Tensor]:
        """Meta, tasks, states, steps taken, gradients by meta and by the states after one more -> both before that step."""
        sizes = (self._num_meta, self._num_tasks, self._num_state, 1, self.learned, self.weights)
        meta, tasks, state, count, total, weights = _cut(leaves, *sizes)

        def step(learned: Leaves, floats: Leaves) -> list[Tensor]:
            return _floats(self.later(*learned, *meta[self.learned :], *tasks, *_with_floats(state, floats), *count))

        of_meta, of_state = torch.func.vjp(step, meta[: self.learned], _floats(state))[1](weights)
        return [*(t + g for t, g in zip(total, of_meta, strict=True)), *(g.contiguous() for g in of_state)]

    def back_first(self, *leaves: Tensor) -> list[Tensor]:
        """Meta, tasks, gradients by meta and by the states after the first step -> the gradient by meta."""
        meta, tasks, total, weights = _cut(leaves, self._num_meta, self._num_tasks, self.learned, self.weights)

        def step(learned: Leaves) -> list[Tensor]:
            return _floats(self.first(*learned, *meta[self.learned :], *tasks))

        (of_meta,) = torch.func.vjp(step, meta[: self.learned])[1](weights)
        return [t + g for t, g in zip(total, of_meta, strict=True)]

    def _meta(self, leaves: Leaves) -> Meta:
        return pytree.tree_unflatten(list(leaves), self._meta_spec)

    def _tasks(self, leaves: Leaves) -> Task:
        return pytree.tree_unflatten(list(leaves), self._task_spec)


def _others(given: Any, meta: Meta, task: Task) -> tuple[list[Any], Any, list[int]]:
    """What the steps are given, its structure, and which of it is neither of meta nor of the task."""
    known = {id(leaf) for leaf in (*pytree.tree_leaves(meta), *pytree.tree_leaves(task))}
    leaves, spec = pytree.tree_flatten(given)
    return leaves, spec, [i for i, v in enumerate(leaves) if isinstance(v, Tensor) and id(v) not in known]


def _cut(leaves: Leaves, *sizes: int) -> list[list[Tensor]]:
    rest = iter(leaves)
    return [[next(rest) for _ in range(size)] for size in sizes]


def _floats(leaves: Leaves) -> list[Tensor]:
    return [v for v in leaves if v.is_floating_point()]


def _with_floats(leaves: Leaves, floats: Leaves) -> list[Tensor]:
    rest = iter(floats)
    return [next(rest) if v.is_floating_point() else v for v in leaves]


@dataclasses.dataclass(frozen=True)
class InPhases:
    """The gradient of the mean outer loss, by functions like those of `phases`.

    Attributes:
        phases: what they are, and how many tensors of each kind.
        functions: compiled or not.
        counts: the numbers of inner steps taken, 0 to all, each a tensor.
        chunk_size: tasks that the functions take at once; a batch holds a multiple of it.
    """

    phases: Phases
    functions: Functions
    counts: Leaves
    chunk_size: int

    def __call__(self, meta: Meta, tasks: Task) -> tuple[Grads, Grads, Any]:
        """Gradients by params and by rule, and the mean of aux, as `Engine.mean_gradient`."""
        leaves, total = [v.detach() for v in pytree.tree_leaves(meta)], batch_size(tasks)
        with torch.no_grad():
            parts = (self._chunk(leaves, pytree.tree_leaves(chunk)) for _, chunk in chunks(tasks, self.chunk_size))
            grads, aux = weighted_mean((self.chunk_size / total, part) for part in parts)
        n = len(meta.params)
        params, rule = (
            dict(zip(part, g, strict=True)) for part, g in ((meta.params, grads[:n]), (meta.rule, grads[n:]))
        )
        return params, rule, pytree.tree_unflatten(aux, self.phases.aux_spec)

    def _chunk(self, meta: Leaves, tasks: Leaves) -> tuple[list[Tensor], list[Tensor]]:
        given, steps = [*meta, *tasks], self.phases.steps
        states = [self.functions.first(*given)]
        for i in range(1, steps):
            states.append(self.functions.later(*given, *states[-1], self.counts[i]))
        back, aux = self.at_end(meta, tasks, states[-1])
        for i in range(steps - 1, 0, -1):
            states.pop()
            back = self.functions.back_later(*given, *states[-1], self.counts[i], *back)
        return list(self.functions.back_first(*given, *back)), aux

    def at_end(self, meta: Leaves, tasks: Leaves, state: Leaves) -> tuple[list[Tensor], list[Tensor]]:
        """What `back_first` and `back_later` begin with, and the mean of aux."""
        if self.phases.by_task:
            return self._by_task(meta, tasks, state)
        found = self.functions.last(*meta, *tasks, *state, self.counts[-1])
        n = self.phases.learned + self.phases.weights
        return list(found[:n]), list(found[n:])

    def _by_task(self, meta: Leaves, tasks: Leaves, state: Leaves) -> tuple[list[Tensor], list[Tensor]]:
        n, learned, weights = self.chunk_size, self.phases.learned, self.phases.weights
        total: list[Tensor] = []
        rest: list[Leaves] = []
        for t in range(n):
            found = self.functions.last(*meta, *_of_task(tasks, t), *_of_task(state, t), self.counts[-1])
            # Results may share memory with what was given, so the first ones are copied.
            total = [a.add_(g) for a, g in zip(total, found, strict=False)] or [g.clone() for g in found[:learned]]
            rest.append(found[learned:])
        stacked = [torch.stack(some) for some in zip(*rest, strict=True)]
        return [g.div_(n) for g in (*total, *stacked[:weights])], mean_over_tasks(stacked[weights:])


def cut(
    learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int, most: int | None = None, by_task: bool = False
) -> InPhases:
    """The gradient of the mean outer loss in phases, not compiled.

    Args:
        learner: whose outer loss it is.
        meta, tasks: examples; tasks of other numbers or shapes need functions of their own.
        outer_step: of which phase of training.
        most: tasks that are held in memory at once; None: all.
        by_task: see `Phases`.

    Raises:
        NotInPhases: the outer loss has another form.
    """
    total = batch_size(tasks)
    size = max(k for k in range(1, min(most or total, total) + 1) if total % k == 0)
    with torch.no_grad():
        try:
            phases = Phases(learner, meta, take(tasks, slice(0, size)), outer_step, by_task)
        except ConfigError as error:
            raise NotInPhases(str(error)) from error
    counts = [torch.tensor(i, device=next(iter(meta.params.values())).device) for i in range(phases.steps + 1)]
    return InPhases(phases, phases.functions, counts, size)


def begin_phases(parts: InPhases, meta: Meta, tasks: Task, limits: Limits = STANDARD) -> Pending[InPhases]:
    """The same with compiled functions, which other processes begin to compile.

    Args:
        parts: from `cut`.
        meta, tasks: examples.
        limits: what compiling may cost, all together.

    Raises:
        CompileFailed: see `compiling.begin`.
    """
    phases, counts = parts.phases, parts.counts
    of_meta = [v.detach() for v in pytree.tree_leaves(meta)]
    of_tasks = pytree.tree_leaves(take(tasks, slice(0, parts.chunk_size)))
    given = (*of_meta, *of_tasks)
    with per_task_convolutions(phases.by_task), torch.no_grad():
        try:
            state = phases.first(*given)
            back = parts.at_end(of_meta, of_tasks, state)[0]
        except ConfigError as error:
            raise NotInPhases(str(error)) from error
        last = (*of_meta, *_of_task(of_tasks, 0), *_of_task(state, 0)) if phases.by_task else (*given, *state)
        jobs = [(phases.first, given), (phases.last, (*last, counts[-1])), (phases.back_first, (*given, *back))]
        if phases.steps > 1:
            jobs.append((phases.later, (*given, *state, counts[1])))
            jobs.append((phases.back_later, (*given, *state, counts[1], *back)))
        pending = begin(jobs, limits)

    def compiled(found: Sequence[Compiled]) -> InPhases:
        made = {job[0]: function.flat for job, function in zip(jobs, found, strict=True)}
        functions = Functions(*(made.get(function, function) for function in phases.functions))
        return dataclasses.replace(parts, functions=functions)

    return pending.then(compiled)


def _of_task(leaves: Leaves, t: int) -> list[Tensor]:
    return [v[t] for v in leaves]
