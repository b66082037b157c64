"""Small networks in the place of large trained ones: what a test gives as module:factory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Colours(nn.Module):
    """Pictures of 8 x 8 pixels as a fixed mixture of them."""

    size, mean, sd = 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(192, 16)
        self.seen = 0  # pictures
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(16, 192, generator=generator) / 14)
            self.mix.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.mix(x.flatten(1))


class Letters(nn.Module):
    """Texts as how often they have each letter."""

    takes = "texts"

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def tokens(self, texts: Sequence[str], longest: int) -> tuple[Tensor, Tensor]:
        rows = [[ord(c) for c in text.lower() if "a" <= c <= "z"][:longest] for text in texts]
        mask = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        found = mask.clone()
        for i, row in enumerate(rows):
            found[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        return found, mask

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        self.seen += len(x)
        return torch.stack([((x == ord("a") + i) * mask).sum(1) for i in range(26)], 1).float()
