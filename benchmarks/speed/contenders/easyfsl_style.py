"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175) one task after the other, as easyfsl trains them.

easyfsl itself needs torchvision; these are its steps: embeddings, their mean by class, distances to the means as logits.
Two things are as in the paper's code instead, so that the meta-gradient is ours: the distance is squared, and support and
query set go through the net together, which batch norm's statistics depend on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.speed.contenders.module_peer import ModulePeer
from benchmarks.speed.problem import Problem


class EasyfslStyle(ModulePeer):
    name = "easyfsl_style"

    def refuses(self, problem: Problem) -> str | None:
        return None if problem.kind == "prototypes" else f"does not do {problem.kind}"

    def backward(self, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, weight: float) -> None:
        support, query = self.module(torch.cat([sx, qx])).split([len(sx), len(qx)])
        prototypes = torch.stack([support[sy == label].mean(0) for label in range(int(sy.max()) + 1)])
        scores = -((query[:, None] - prototypes) ** 2).sum(-1)
        (weight * self.loss(scores, qy)).backward()
