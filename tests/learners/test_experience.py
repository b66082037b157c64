"""What a learner goes out to see before an outer step: once, without a graph, for all passes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import innerloop as il
from innerloop.learners.gradient import GradientLearner
from innerloop.rules import SGD

SEEN: list[bool] = []


@dataclasses.dataclass(frozen=True, eq=False)
class Explorer(GradientLearner):
    """Judged on inputs that it chooses itself: the task's own, moved by where its first weight is."""

    def experience(self, meta, tasks, key):
        SEEN.append(torch.is_grad_enabled())
        moved = tasks.query.x + next(iter(meta.params.values())).mean() + 1
        return dataclasses.replace(tasks, query=dataclasses.replace(tasks.query, x=moved))


def explorer() -> il.MetaLearner:
    torch.manual_seed(0)
    return il.MetaLearner.of(
        il.models.mlp(1, 1, hidden=(8,)),
        rule=SGD(0.01),
        learner=lambda pure, rule: Explorer(pure, rule, inner_steps=2),
        meta_gradient=il.meta_gradients.Backprop,
    )


@pytest.mark.parametrize("passes", [1, 3])
def test_fit_goes_out_once_a_step(passes):
    learner, tasks = explorer(), il.tasks.sinusoid()
    SEEN.clear()
    il.fit(learner, tasks, steps=4, num_tasks=2, outer_passes=passes, validate_every=0, quiet=True)
    # Planning may look at one draw before the first step.
    assert 4 <= len(SEEN) <= 5 and not any(SEEN)


def test_in_ones_own_loop_it_is_stored_and_used_again():
    learner, tasks = explorer(), il.tasks.sinusoid()
    batch = tasks.train.at(0, 0, 3)
    stored = learner.experience(batch)
    assert torch.equal(stored.query.x, batch.query.x + next(iter(learner.parameters())).detach().mean() + 1)
    losses = []
    for data in (stored, stored, batch):
        learner.zero_grad()
        losses.append(float(learner.backward(data, outer_step=0)["loss"]))
    assert losses[0] == losses[1] != losses[2]


def test_most_learners_take_the_tasks_as_they_come():
    learner, batch = il.maml(il.models.mlp(1, 1)), il.tasks.sinusoid().train.at(0, 0, 3)
    assert learner.experience(batch) is batch
