"""What the peers that keep torch modules and loop over tasks have in common."""

from __future__ import annotations

from abc import abstractmethod
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.contenders.contender import Contender

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


class ModulePeer(Contender):
    """A plain module, torch's Adam around it, and the peer's own way to add one task's gradient to ``.grad``."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def prepare(self, problem: Problem) -> None:
        self.problem = problem
        self.loss = problem.loss_function()
        self.module = problem.plain_module().to(self.dtype)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=problem.outer_lr)
        self.given = [batch.tensors(self.dtype) for batch in problem.batches]
        self.batches = cycle(self.given)
        self.set_up()

    def set_up(self) -> None:
        """What the peer makes once, before the first step."""

    @abstractmethod
    def backward(self, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, weight: float) -> None:
        """Add ``weight`` times one task's meta-gradient to the module's ``.grad``."""

    def _batch(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        self.optimizer.zero_grad()
        num_tasks = batch[0].shape[0]
        for t in range(num_tasks):
            sx, sy, qx, qy = (side[t] for side in batch)
            self.backward(sx, sy, qx, qy, 1 / num_tasks)

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        self._batch(self.given[batch])
        return self.problem.named([p.grad.clone() for p in self.module.parameters() if p.grad is not None])

    def step(self) -> None:
        self._batch(next(self.batches))
        self.optimizer.step()
