"""Inner steps that start elsewhere, come in order, go on from a state, and are counted in a tensor."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import innerloop as il
from innerloop.engine import take
from innerloop.learners.gradient import GradientLearner, drawn_weights
from innerloop.rules import SGD, Adam, PerLayerPerStepRates

STEPS = 7


def learner_with(rule, **more) -> il.MetaLearner:
    torch.manual_seed(0)

    def make(pure, rule):
        return GradientLearner(pure, rule, inner_steps=STEPS, **more)

    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    return il.MetaLearner.of(model, rule=rule, learner=make, meta_gradient=il.meta_gradients.Backprop).double()


def tasks_of(learner: il.MetaLearner, number: int = 3) -> il.Task:
    draw = torch.Generator().manual_seed(1)
    sides = [
        il.Examples(torch.randn(number, 9, 3, generator=draw), torch.randn(number, 9, 2, generator=draw)) for _ in "sq"
    ]
    return learner.ready(il.Task(*sides, objective="mse"), 0)


RULES = {"sgd": SGD(0.1), "momentum": SGD(0.1, momentum=0.9), "adam": Adam(0.05), "rates": PerLayerPerStepRates(0.1, 4)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("more", [{}, {"inner_batch": 4}, {"inner_batch": 2, "ordered": True}], ids=str)
def test_going_on_is_going_through(rule, more):
    learner = learner_with(RULES[rule], **more)
    task, meta, own = take(tasks_of(learner), 0), learner.meta(), learner.learner
    whole = own.adapt(meta, task, STEPS)
    part = own.adapt(meta, task, 3)
    again = own.adapt(meta, task, STEPS - 3, fast=part, first=3)
    assert again.step == STEPS
    for name, p in whole.params.items():
        assert torch.equal(p, again.params[name])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("more", [{}, {"inner_batch": 4}, {"inner_batch": 2, "ordered": True}], ids=str)
def test_tasks_need_not_be_in_step(rule, more):
    """Three tasks at steps 0, 2 and 5, two steps further in one vmapped call."""
    learner = learner_with(RULES[rule], **more)
    tasks, meta, own = tasks_of(learner), learner.meta(), learner.learner
    starts, expected = [], []
    for i, done in enumerate((0, 2, 5)):
        task = take(tasks, i)
        begun = own.adapt(meta, task, done)
        expected.append(own.adapt(meta, task, 2, fast=begun, first=done).params)
        starts.append(dataclasses.replace(begun, step=0, count=torch.tensor(done)))
    together = torch.utils._pytree.tree_map(lambda *v: torch.stack(v), *starts)
    found = torch.vmap(lambda task, fast: own.adapt(meta, task, 2, fast=fast, first=fast.count))(tasks, together)
    assert found.count.tolist() == [2, 4, 7]
    for i, params in enumerate(expected):
        for name, p in params.items():
            torch.testing.assert_close(found.params[name][i], p, rtol=1e-9, atol=1e-12)


def test_a_stream_is_read_in_its_order():
    learner = learner_with(SGD(0.1), inner_batch=2, ordered=True)
    task = take(tasks_of(learner), 0)
    for i, rows in ((0, [0, 1]), (1, [2, 3]), (4, [8, 0])):
        assert torch.equal(learner.learner.batch(task, i).x, task.support.x[rows])


def test_weights_may_be_drawn_for_each_task():
    learner = learner_with(SGD(0.1), start=drawn_weights)
    tasks, own = tasks_of(learner), learner.learner
    first = [own.init(learner.meta(), take(tasks, i)).params["0.weight"] for i in (0, 1, 0)]
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], learner.model.get_parameter("0.weight"))
    wide = drawn_weights({"w": torch.zeros(400, 100)}, torch.tensor(3))["w"]
    assert float(wide.std()) == pytest.approx(0.1, rel=0.02)
    metrics = learner.backward(tasks)
    assert float(metrics["loss"]) > 0
    assert not learner.model.get_parameter("0.weight").grad.any()  # the learned ones are not where a task begins


def test_no_inner_steps_are_said():
    """Where tasks are not adapted to in training, that is one line; methods without inner steps have none."""
    model = il.models.mlp(1, 1)
    assert any("adapts to no task" in note for note in il.maml(model, inner_steps=0).notes)
    assert not il.maml(model, inner_steps=1).notes and not il.protonet(model).notes
