"""The outer gradient of a scalar function of meta, by reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task

Grads = dict[str, Tensor]


def value_gradient(function: Callable[[Meta], tuple[Tensor, Any]], meta: Meta) -> tuple[Grads, Grads, Any]:
    """Gradients of ``function(meta)[0]`` by params and by rule (zeros where nothing arrives), and ``function(meta)[1]``."""
    # Leaves of our own: what meta was computed from is not differentiated, and nobody's `.grad` is touched.
    params = {name: p.detach().requires_grad_() for name, p in meta.params.items()}
    rule = {name: p.detach().requires_grad_() for name, p in meta.rule.items()}
    # Callers may look on without a graph (the doctor, evaluation).
    with torch.enable_grad():
        loss, aux = function(Meta(params, rule, meta.buffers))
    leaves = [*params.values(), *rule.values()]
    # A loss that depends on no leaf (all frozen, no inner steps) has slope zero; autograd would raise.
    if loss.requires_grad:
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    else:
        found = [torch.zeros_like(p) for p in leaves]
    # The slopes of params come first; there are more of them than params, as those of rule follow.
    return dict(zip(params, found, strict=False)), dict(zip(rule, found[len(params) :], strict=True)), aux


def gradient(learner: BaseLearner, meta: Meta, task: Task, outer_step: int) -> tuple[Grads, Grads, Any]:
    """The gradient of one task's outer loss, and its aux."""
    return value_gradient(lambda m: learner.meta_loss(m, task, outer_step), meta)


def batch_loss(learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> tuple[Tensor, Any]:
    """The mean outer loss of a batch and the mean of aux, vmapped."""
    loss, aux = torch.vmap(lambda t: learner.meta_loss(meta, t, outer_step))(tasks)
    return loss.mean(), mean_over_tasks(aux)


def mean_over_tasks(tree: Any) -> Any:
    """The mean over the leading tasks axis; of whole numbers (a count that a model keeps) the nearest one."""
    return pytree.tree_map(
        lambda v: v.mean(0) if v.is_floating_point() else v.double().mean(0).round().to(v.dtype), tree
    )
