"""The meta-gradient of one outer step, its tasks shared out over the processes of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import Task
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training.distributed import Group, Part, flattened, unflattened


def own_part(group: Group, learner: MetaLearner, num_tasks: int) -> Part:
    """The tasks of each outer step that this process takes: none of them, or all, where they cannot be shared out."""
    # A model that draws random numbers by itself is left to one process.
    if group.size == 1 or (learner.meta_gradient.shardable and not learner.pure.draws_itself):
        return group.part(num_tasks)
    return Part(0, num_tasks if group.leads else 0, num_tasks)


def shared_backward(
    group: Group,
    learner: MetaLearner,
    draw: Callable[[], Task],
    part: Part,
    outer_step: int,
    interrupted: Callable[[], bool],
) -> tuple[float, bool]:
    """As `MetaLearner.backward` on the tasks of all processes: ``.grad`` and running statistics end up the same on each.

    One all_reduce carries all that has to be agreed on. A process without tasks takes part in it with zeros.

    Args:
        group: the processes.
        learner: the same on every process, with ``.grad`` None.
        draw: gives this process's tasks.
        part: which these are.
        outer_step: number of the step.
        interrupted: says whether this process was asked to stop.

    Returns:
        The mean outer loss, and whether any process was asked to stop.

    Raises:
        DivergedError, InputError: on all processes when on one; the learner is then as it was.
    """
    if group.size == 1:
        return float(learner.backward(draw(), outer_step=outer_step)["loss"]), interrupted()
    parameters = [p for p in learner.parameters() if p.requires_grad]
    buffers = list(learner.meta().buffers.values())
    earlier, carry, counted = [b.clone() for b in buffers], learner.carry, learner.outer_step
    weight = part.count / part.total
    trouble: Exception | None = None
    loss = 0.0
    try:
        if part.count:
            loss = float(learner.backward(_with_noise(draw(), counted, part), outer_step=outer_step)["loss"])
        learner.outer_step = outer_step + 1
    except Exception as error:
        trouble, weight = error, 0.0
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad * weight for p in parameters]
    # Changes, not values: what no process changed stays the same to the last bit.
    pieces += [(new - old) * weight for new, old in zip(buffers, earlier, strict=True)]
    going_on = [n for n, v in carry.items() if learner.meta_gradient.shardable and v.is_floating_point()]
    pieces += [(learner.carry[name] - carry[name]) * weight for name in going_on]
    flat = group.add(flattened(pieces, [loss * weight, float(interrupted()), float(trouble is not None)]))
    mean_loss, stop, failed = flat[-3:].tolist()
    sums = unflattened(flat, pieces)
    for buffer, old, change in zip(buffers, earlier, sums[len(parameters) :], strict=False):
        buffer.copy_(old if failed else old + change)
    changes = dict(zip(going_on, sums[len(parameters) + len(buffers) :], strict=True))
    for p, gradient in zip(parameters, sums, strict=False):
        p.grad = None if failed else gradient.to(p.dtype, copy=True)
    if failed:
        learner.carry, learner.outer_step = carry, counted
        group.agree(trouble)
    elif going_on:
        learner.carry = {**learner.carry, **{name: carry[name] + changes[name] for name in going_on}}
    return mean_loss, bool(stop)


def _with_noise(tasks: Task, outer_step: int, part: Part) -> Task:
    """Tasks without a key of their own get the one that they would get in one process."""
    if tasks.noise is not None:
        return tasks
    drawn = keys.task_keys(0, "bare", outer_step, part.first, part.count)
    some = next(leaf for leaf in pytree.tree_leaves(tasks) if isinstance(leaf, torch.Tensor))
    return dataclasses.replace(tasks, noise=drawn.to(some.device))
