"""What one writes in PyTorch without a library: weights in a list, a loop over tasks, torch.autograd.grad."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.contenders.contender import Contender

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


class PlainLoop(Contender):
    """The reference: every other contender's meta-gradient is compared with this one's in float64."""

    name = "plain_loop"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def prepare(self, problem: Problem) -> None:
        self.problem = problem
        self.loss = problem.loss_function()
        self.weights = [
            torch.from_numpy(w).to(self.dtype, copy=True).requires_grad_() for w in problem.weights.values()
        ]
        self.optimizer = torch.optim.Adam(self.weights, lr=problem.outer_lr)
        self.given = [batch.tensors(self.dtype) for batch in problem.batches]
        self.batches = cycle(self.given)

    def _backward(self, batch: Sequence[Tensor]) -> None:
        """Add the meta-gradient to ``.grad``, task by task, so that one task's graph is in memory at a time."""
        forward, problem = self.problem.net.forward, self.problem
        support_x, support_y, query_x, query_y = batch
        num_tasks = support_x.shape[0]
        for t in range(num_tasks):
            fast = self.weights
            for _ in range(problem.inner_steps):
                inner = self.loss(forward(fast, support_x[t]), support_y[t])
                grads = torch.autograd.grad(inner, fast, create_graph=True)
                fast = [w - problem.inner_lr * g for w, g in zip(fast, grads, strict=True)]
            outer = self.loss(forward(fast, query_x[t]), query_y[t])
            (outer / num_tasks).backward()

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        self.optimizer.zero_grad()
        self._backward(self.given[batch])
        found = self.problem.named([w.grad.clone() for w in self.weights if w.grad is not None])
        self.optimizer.zero_grad()
        return found

    def step(self) -> None:
        self.optimizer.zero_grad()
        self._backward(next(self.batches))
        self.optimizer.step()
