"""Dropout drawn from the task's own key, so that it is the same under every strategy, chunk size and number of processes."""

from __future__ import annotations

from torch import Tensor, nn

from innerloop import keys
from innerloop.functional import context


class Dropout(nn.Module):
    """nn.Dropout and, with ``per_channel``, nn.Dropout1d/2d/3d."""

    def __init__(self, p: float, index: int, per_channel: bool) -> None:
        super().__init__()
        self.p = p
        self.index = index
        self.per_channel = per_channel

    def forward(self, x: Tensor) -> Tensor:
        call = context.current()
        if not call.training or call.noise is None or self.p == 0:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.per_channel else x.shape
        kept = keys.uniform(call.noise, shape, salt=self.index, dtype=x.dtype) >= self.p
        return x * kept.to(x.dtype) / (1 - self.p) if self.p < 1 else x * 0

    def extra_repr(self) -> str:
        return f"p={self.p}, per_channel={self.per_channel}"
