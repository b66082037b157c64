"""Implicit and evolutionary estimates, computed again from their definitions in plain loops over tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Meta, Task, batch_size
from innerloop.doctor.held_rules import Values
from innerloop.engine import take
from innerloop.learners import GradientLearner
from innerloop.meta_gradients import ES, PES, Implicit
from innerloop.meta_gradients.conjugate_gradient import conjugate_gradient
from innerloop.meta_gradients.perturbations import moved, noise, perturbed, trials


def from_the_solution(estimator: Implicit, meta: Meta, tasks: Task) -> Values:
    """The implicit meta-gradient, task by task, with every product of the Hessian differentiated anew."""
    learner = estimator.learner
    count = batch_size(tasks)
    total = {name: torch.zeros_like(p) for name, p in (meta.params | meta.rule).items()}
    for i in range(count):
        task = take(tasks, i)
        with torch.no_grad():
            fast = learner.adapt(meta, task, learner.inner_steps)
        ends = {name: p.detach().requires_grad_() for name, p in (meta.params | fast.params).items()}
        around = Meta(ends, meta.rule, meta.buffers)
        there = dataclasses.replace(fast, params={name: ends[name] for name in fast.params})

        def slopes(loss: Tensor, of: Values = ends) -> Values:
            found = torch.autograd.grad(
                loss, list(of.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
            return dict(zip(of, found, strict=True))

        def product(v: Values, around: Meta = around, there: Any = there, task: Task = task) -> Values:
            """Second derivatives of the support loss by all parameters, times a vector of the adapted ones."""
            inner = GradientLearner.support_loss(learner, around, there, there.params, task.support)[0]
            found = slopes(inner, there.params)
            along = torch.stack([(found[name] * p).sum() for name, p in v.items()]).sum()
            return {name: p.detach() for name, p in slopes(along, around.params).items()}

        def matrix(v: Values, product: Callable[[Values], Values] = product) -> Values:
            curved = product(v)
            return {n: (1 + estimator.damping) * p + curved[n] / learner.strength for n, p in v.items()}

        outer = {name: p.detach() for name, p in slopes(learner.query_loss(around, there, task)[0]).items()}
        solution, _ = conjugate_gradient(matrix, {n: outer[n] for n in fast.params}, estimator.cg_steps)
        crossed = product(solution)
        for name in ends:
            found = solution[name] if name in solution else outer[name] - crossed[name] / learner.strength
            total[name] += found / count
    return total


def perturbed_losses(estimator: ES | PES, meta: Meta, tasks: Task, outer_step: int) -> Values:
    """Evolution strategies with the estimator's own noise, one loss after the other."""
    every = trials(tasks, estimator.num_pairs)
    like = perturbed(meta, estimator.learner)
    total = {name: torch.zeros_like(p) for name, p in (meta.params | meta.rule).items()}
    count = batch_size(every)
    for i in range(count):
        one: Any = take(every, i)
        direction = noise(one.key, like)
        with torch.no_grad():
            up, down = (
                float(estimator.learner.meta_loss(moved(meta, direction, by), one, outer_step)[0])
                for by in (estimator.sigma, -estimator.sigma)
            )
        for name, e in direction.items():
            total[name] += (up - down) / (2 * estimator.sigma * count) * e
    return total


def first_part(estimator: PES, meta: Meta, tasks: Task, outer_step: int) -> Values:
    """What persistent evolution strategies are in an inner loop's first part: `perturbed_losses` of a shorter loop."""
    learner = estimator.learner
    shorter = dataclasses.replace(learner, inner_steps=min(estimator.truncation, learner.inner_steps))
    return perturbed_losses(dataclasses.replace(estimator, learner=shorter), meta, tasks, outer_step)
