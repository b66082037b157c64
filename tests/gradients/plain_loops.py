"""Meta-gradients by plain torch loops, written without innerloop: what learners are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from innerloop.core import Task

Params = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def plain_gradient(
    model: nn.Module,
    tasks: Task,
    loss: Loss,
    lr: float,
    steps: int,
    *,
    first_order: bool,
    adapted: Callable[[str], bool],
) -> Params:
    """MAML's and first-order MAML's meta-gradient, averaged over tasks, one task after the other."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count = tasks.support.y.shape[0]
    for i in range(count):
        start = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        fast = dict(start)
        for _ in range(steps):
            support = loss(torch.func.functional_call(model, fast, (tasks.support.x[i],)), tasks.support.y[i])
            names = [name for name in fast if adapted(name)]
            inner = torch.autograd.grad(support, [fast[n] for n in names], create_graph=not first_order)
            fast = {**fast, **{n: fast[n] - lr * g for n, g in zip(names, inner, strict=True)}}
        query = loss(torch.func.functional_call(model, fast, (tasks.query.x[i],)), tasks.query.y[i])
        for name, g in zip(start, torch.autograd.grad(query, list(start.values())), strict=True):
            total[name] += g / count
    return total


def first_order_by_definition(model: nn.Module, tasks: Task, loss: Loss, lr: float, steps: int) -> Params:
    """The mean over tasks of the query gradient AT the adapted parameters, in a copy that an optimizer has moved."""
    import copy

    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count = tasks.support.y.shape[0]
    for i in range(count):
        clone = copy.deepcopy(model)
        optimizer = torch.optim.SGD(clone.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(clone(tasks.support.x[i]), tasks.support.y[i]).backward()
            optimizer.step()
        optimizer.zero_grad()
        loss(clone(tasks.query.x[i]), tasks.query.y[i]).backward()
        for name, p in clone.named_parameters():
            assert p.grad is not None
            total[name] += p.grad / count
    return total


def outer_loss(learner: object, tasks: Task, outer_step: int) -> float:
    """The mean outer loss at the learner's present weights, from the learner's own one-task function."""
    meta = learner.meta()  # type: ignore[attr-defined]
    values = []
    for i in range(tasks.support.y.shape[0]):
        one = torch.utils._pytree.tree_map(lambda v, i=i: v[i], tasks)
        values.append(learner.learner.meta_loss(meta, one, outer_step)[0].detach())  # type: ignore[attr-defined]
    return float(torch.stack(values).mean())
