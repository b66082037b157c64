"""The vmapped outer gradient through torch.compile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task
from innerloop.engine.gradient import Grads, batch_loss, value_gradient

_log = logging.getLogger("innerloop")


def compiled_gradient(
    cache: dict[Any, Callable[..., Any]], learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int
) -> tuple[Grads, Grads, Any]:
    """As the vmapped strategy, compiled once for each learner and shape of the tasks; falls back to it where that fails.

    The inner gradients are traced into one graph; the outer one is torch.func.grad around it, so that forward and backward
    are a single compiled function.
    """
    leaves, spec = pytree.tree_flatten(tasks)
    phase = getattr(learner, "phase", None)
    key = (id(learner), str(spec), phase(outer_step) if phase else 0, tuple(v.shape for v in leaves))
    if key not in cache:

        def whole(params: Any, rule: Any, buffers: Any, leaves: Any) -> Any:
            batch = pytree.tree_unflatten(leaves, spec)

            def loss_of(diff: Any) -> Any:
                return batch_loss(learner, Meta(diff[0], diff[1], buffers), batch, outer_step)

            (params_grad, rule_grad), aux = torch.func.grad(loss_of, has_aux=True)((params, rule))
            return params_grad, rule_grad, aux

        cache[key] = torch.compile(whole, dynamic=False)
    detached = pytree.tree_map(lambda v: v.detach(), (meta.params, meta.rule, meta.buffers))
    try:
        return cache[key](*detached, leaves)
    except (
        Exception
    ) as error:  # no compiler on the machine, or a function that cannot be traced: the numbers are the same
        _log.warning("torch.compile failed (%s); going on with the vmapped strategy", str(error).splitlines()[0])
        cache[key] = lambda params, rule, buffers, leaves: value_gradient(
            lambda m: batch_loss(learner, m, pytree.tree_unflatten(leaves, spec), outer_step),
            Meta(params, rule, buffers),
        )
        return cache[key](*detached, leaves)
