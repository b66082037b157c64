"""What adapting takes: bytes that can be counted by hand, time that grows with the work, and the same tasks for all."""

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.errors import ConfigError, DivergedError
from innerloop.evaluation.costs import costs


class Wide(nn.Module):
    """Holds a (examples, width) tensor in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.scale = width, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (x * self.scale).expand(-1, self.width).contiguous().mean(1, keepdim=True)


TASKS = il.tasks.sinusoid(shots=10, queries=40).test


def test_memory_is_that_of_the_tensors_in_between():
    learners = {str(width): il.maml(Wide(width), inner_lr=0.0) for width in (1000, 11000)}
    found = {label: cost.peak_bytes for label, cost in costs(learners, TASKS, rounds=1).items()}
    # 40 queries of 10,000 more numbers of 4 bytes, held at least once.
    assert 1 <= (found["11000"] - found["1000"]) / (40 * 10_000 * 4) <= 3


def test_more_steps_take_longer_and_nothing_of_the_learner_changes():
    torch.manual_seed(0)
    learners = {str(steps): il.maml(il.models.mlp(1, 1), eval_steps=steps) for steps in (1, 40)}
    before = [p.clone() for p in learners["40"].parameters()]
    found = costs(learners, TASKS, rounds=3)
    assert found["40"].seconds > 3 * found["1"].seconds > 0
    assert all(torch.equal(p, q) for p, q in zip(before, learners["40"].parameters(), strict=True))
    with pytest.raises(ConfigError, match="rounds expected at least 1, got 0"):
        costs(learners, TASKS, rounds=0)


def test_compare_measures_costs_when_asked_and_may_keep_what_diverged():
    torch.manual_seed(0)
    learners = {"wild": il.maml(il.models.mlp(1, 1), inner_lr=1e9, inner_steps=9), "one": il.maml(il.models.mlp(1, 1))}
    with pytest.raises(DivergedError):
        il.compare(learners, TASKS, num_tasks=3)
    found = il.compare(learners, TASKS, num_tasks=3, allow_diverged=True, with_costs=True)
    assert list(found.reports) == ["one", "wild"] and set(found.costs) == {"one", "wild"}
    assert found.differences[0].winner is None and not found.differences[0].tied and found.as_good == ("one",)
    assert not il.compare({"one": learners["one"]}, TASKS, num_tasks=3).costs
