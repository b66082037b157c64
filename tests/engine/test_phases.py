"""The gradient in phases: what it can be cut from, what it keeps, and that a compiler takes it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.engine import Plan, phases
from innerloop.engine.deciding import IN_PHASES
from innerloop.engine.tracing import trace


def learner_of(steps: int, method=il.maml, **options) -> il.MetaLearner:
    torch.manual_seed(0)
    return method(il.models.mlp(1, 1, hidden=(8,), activation="tanh"), inner_steps=steps, **options)


def parts_of(learner, tasks, **options):
    return phases.cut(learner.learner, learner.meta(), tasks, 0, **options)


def looped(learner, tasks):
    with learner.engine.forced(Plan("looped")):
        return learner.engine.mean_gradient(learner.learner, learner.meta(), tasks, 0)


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max() / other[name].abs().max()) for name in other)


@pytest.mark.parametrize("options", [{}, {"method": il.fomaml}, {"method": il.meta_sgd}, {"inner_optimizer": "adam"}])
def test_many_steps_are_those_of_the_loop(options):
    learner = learner_of(30, **options)
    tasks = learner.ready(il.tasks.sinusoid().train.at(0, 0, 4), 0)
    found, expected = parts_of(learner, tasks)(learner.meta(), tasks), looped(learner, tasks)
    assert largest_difference(found[0], expected[0]) < 1e-4
    assert float(found[2]["metrics"]["loss"]) == pytest.approx(float(expected[2]["metrics"]["loss"]), rel=1e-5)


def test_no_graph_is_larger_than_a_steps():
    sizes = {}
    for steps in (3, 60):
        learner = learner_of(steps)
        tasks = learner.ready(il.tasks.sinusoid().train.at(0, 0, 2), 0)
        cut = parts_of(learner, tasks).phases
        given = (*(v.detach() for v in learner.meta().params.values()), *torch.utils._pytree.tree_leaves(tasks))
        graph = trace(cut.later, (*given, *cut.first(*given), torch.tensor(1)))[0]
        sizes[steps] = len(graph.graph.nodes)
    assert sizes[3] == sizes[60] < 150


def test_what_is_made_before_the_inner_loop_is_made_once_and_has_its_gradient():
    calls = []

    class Scaled(type(learner_of(1).learner)):
        def adapt(self, meta, task, steps, observe=None, **more):
            calls.append(1)
            scale = meta.params["body.0.weight"].square().mean()  # of all tasks, and of no input
            task = dataclasses.replace(task, support=dataclasses.replace(task.support, x=task.support.x * scale))
            return super().adapt(meta, task, steps, observe, **more)

    learner = learner_of(3)
    fields = {f.name: getattr(learner.learner, f.name) for f in dataclasses.fields(learner.learner)}
    learner.learner = Scaled(**fields)
    tasks = learner.ready(il.tasks.sinusoid().train.at(0, 0, 4), 0)
    found, expected = parts_of(learner, tasks)(learner.meta(), tasks), looped(learner, tasks)
    assert calls and largest_difference(found[0], expected[0]) < 1e-5


def test_what_cannot_be_cut():
    learner = il.mamlpp(il.models.mlp(1, 1, hidden=(8,)), inner_steps=3)
    tasks = learner.ready(il.tasks.sinusoid().train.at(0, 0, 2), 0)
    with pytest.raises(phases.NotInPhases, match="every inner step"):
        parts_of(learner, tasks)
    learner = il.protonet(il.models.mlp(4, 8))
    side = il.core.Examples(torch.randn(2, 4, 4), torch.tensor([[0, 1, 0, 1]] * 2))
    tasks = learner.ready(il.core.Task(side, side), 0)
    with pytest.raises(phases.NotInPhases, match="no inner loop"):
        parts_of(learner, tasks)


@pytest.mark.slow
def test_a_learner_compiles_in_phases_and_steps_as_before():
    learner, tasks = learner_of(12), il.tasks.sinusoid().train.at(0, 0, 4)
    assert (
        il.engine.deciding.compiling(dataclasses.replace(learner.facts(tasks), following=Plan("compiled"))).what
        == IN_PHASES
    )
    learner.compile(tasks)
    learner.strategy = "compiled"
    learner.backward(tasks)
    found = {name: p.grad.clone() for name, p in learner.named_parameters()}
    learner.zero_grad()
    learner.strategy, learner.outer_step = "looped", 0
    learner.backward(tasks)
    assert largest_difference(found, {name: p.grad for name, p in learner.named_parameters()}) < 1e-5
    assert not learner.compiled.trouble


@pytest.mark.slow
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_convolutions_of_their_own_go_through_a_compiler_as_one_operation(inner_steps):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.Flatten(), nn.Linear(36, 2)
    )
    learner = il.maml(net, inner_steps=inner_steps, inner_lr=0.1)
    x, y = torch.randn(4, 4, 1, 8, 8), torch.arange(4).expand(4, -1) % 2
    tasks = il.core.Task(il.core.Examples(x, y), il.core.Examples(x.flip(1), y.flip(1)))
    ready = learner.ready(tasks, 0)
    parts = parts_of(learner, ready, most=2, by_task=True)
    compiled = phases.begin_phases(parts, learner.meta(), ready).wait()
    assert largest_difference(compiled(learner.meta(), ready)[0], looped(learner, ready)[0]) < 1e-4
