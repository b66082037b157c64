"""Learners whose predictions are known in advance, for pictures that must show exactly those."""

from __future__ import annotations

import torch
from torch import Tensor

from innerloop.core import Task


class LineLearner:
    """Predicts ``slope * x + steps``: every inner step lifts the line by one."""

    name = "line"
    inner_steps = 2
    eval_steps = 2

    def __init__(self, slope: float = 1.0) -> None:
        self.slope = slope

    def trajectory(self, tasks: Task, steps: int) -> Tensor:
        return torch.stack([self.slope * tasks.query.x + i for i in range(steps + 1)])


class LabelLearner:
    """Classifies an image by its mean brightness, rounded; ``wrong`` is added to every label."""

    name = "brightness"
    inner_steps = 1
    eval_steps = 1

    def __init__(self, ways: int, wrong: int = 0) -> None:
        self.ways, self.wrong = ways, wrong

    def predict_queries(self, tasks: Task, steps: int | None = None) -> Tensor:
        del steps
        label = (tasks.query.x.mean((-1, -2, -3)).round().long() + self.wrong) % self.ways
        return torch.nn.functional.one_hot(label, self.ways).float()
