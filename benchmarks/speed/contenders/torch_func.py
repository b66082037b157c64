"""What one writes with torch.func: the task's loss as a function, vmapped over tasks, torch.func.grad around and within.

Through `F.batch_norm` this gives a wrong meta-gradient without an error (pytorch/functorch#534).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from benchmarks.speed.contenders.contender import Contender

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


class TorchFunc(Contender):
    name = "torch_func"

    def prepare(self, problem: Problem) -> None:
        self.problem = problem
        self.weights = [torch.from_numpy(w.copy()).requires_grad_() for w in problem.weights.values()]
        self.optimizer = torch.optim.Adam(self.weights, lr=problem.outer_lr)
        self.given = [batch.tensors() for batch in problem.batches]
        self.batches = cycle(self.given)
        loss, forward = problem.loss_function(), problem.net.forward

        def support_loss(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
            return loss(forward(weights, x), y)

        def task_loss(weights: list[Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
            for _ in range(problem.inner_steps):
                grads = grad(support_loss)(weights, sx, sy)
                weights = [w - problem.inner_lr * g for w, g in zip(weights, grads, strict=True)]
            return loss(forward(weights, qx), qy)

        def batch_loss(weights: list[Tensor], *batch: Tensor) -> Tensor:
            return vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(weights, *batch).mean()

        self.gradient = grad(batch_loss)

    def _gradient(self, batch: Sequence[Tensor]) -> list[Tensor]:
        return self.gradient([w.detach() for w in self.weights], *batch)

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        return self.problem.named(self._gradient(self.given[batch]))

    def step(self) -> None:
        for w, g in zip(self.weights, self._gradient(next(self.batches)), strict=True):
            w.grad = g
        self.optimizer.step()
