"""The multi-task average: every solution starts from the first weights, wherever the mean of the solutions is by now."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = pytest.mark.usefixtures("double")


def test_solutions_start_from_the_first_weights():
    """One weight w, loss (w x - y)^2 at x = 1 and inner rate 0.1: a step moves it by 0.2 (y - w)."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    learner = il.multitask_average(model, inner_lr=0.1, inner_steps=1, inner_optimizer="sgd")
    side = Examples(torch.ones(2, 1, 1), torch.tensor([[[1.0]], [[2.0]]]))
    with torch.no_grad():
        next(learner.parameters()).fill_(5.0)
    learner.backward(Task(side, side))
    solutions = [3.0 + 0.2 * (y - 3.0) for y in (1.0, 2.0)]
    assert float(next(learner.parameters()).grad) == pytest.approx(5.0 - sum(solutions) / 2, rel=1e-12)
