"""TorchOpt (Ren et al. 2022, arXiv:2211.06934), as its MAML example uses it: MetaSGD, the state taken out and put back."""

from __future__ import annotations

from torch import Tensor

from benchmarks.speed.contenders.module_peer import ModulePeer


class TorchOpt(ModulePeer):
    name = "torchopt"
    distribution = "torchopt"
    modules = ("torchopt",)

    def set_up(self) -> None:
        import torchopt  # pyright: ignore[reportMissingImports]

        self.parameters = list(self.module.parameters())
        self.inner = torchopt.MetaSGD(self.module, lr=self.problem.inner_lr)
        self.net_state = torchopt.extract_state_dict(self.module, by="reference", detach_buffers=True)
        self.inner_state = torchopt.extract_state_dict(self.inner, by="reference")

    def backward(self, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, weight: float) -> None:
        import torchopt  # pyright: ignore[reportMissingImports]

        for _ in range(self.problem.inner_steps):
            self.inner.step(self.loss(self.module(sx), sy))
        (weight * self.loss(self.module(qx), qy)).backward()
        torchopt.recover_state_dict(self.module, self.net_state)
        torchopt.recover_state_dict(self.inner, self.inner_state)
