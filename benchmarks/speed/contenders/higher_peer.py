"""higher (Grefenstette et al. 2019, arXiv:1910.01727), as its MAML example uses it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.speed.contenders.module_peer import ModulePeer


class Higher(ModulePeer):
    name = "higher"
    distribution = "higher"
    modules = ("higher",)

    def set_up(self) -> None:
        self.inner = torch.optim.SGD(self.module.parameters(), lr=self.problem.inner_lr)

    def backward(self, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, weight: float) -> None:
        import higher  # pyright: ignore[reportMissingImports]

        with higher.innerloop_ctx(self.module, self.inner, copy_initial_weights=False) as (net, inner):
            for _ in range(self.problem.inner_steps):
                inner.step(self.loss(net(sx), sy))
            (weight * self.loss(net(qx), qy)).backward()
