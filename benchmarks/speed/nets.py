"""The nets of the benchmarks: as ours, as a plain torch module for the peers, and as a function of a list of weights.

All three have the same parameters in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import models


@dataclasses.dataclass(frozen=True)
class Mlp:
    """Linear layers with ReLU between them."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int

    def ours(self) -> nn.Module:
        return models.mlp(self.inputs, self.outputs, hidden=self.hidden)

    def plain(self) -> nn.Module:
        sizes = (self.inputs, *self.hidden, self.outputs)
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 1):
            layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        for i in range(0, len(weights) - 2, 2):
            x = F.relu(F.linear(x, weights[i], weights[i + 1]))
        return F.linear(x, weights[-2], weights[-1])


class _SpatialMean(nn.Module):
    def forward(self, x: Tensor, **_: object) -> Tensor:
        return x.mean((-2, -1))


@dataclasses.dataclass(frozen=True)
class ConvNet:
    """Four blocks of 3x3 convolution, batch norm by the statistics of the examples at hand, ReLU.

    With ``pool`` 2x2 max-pooling after each block and the flattened map, else stride 2 and the mean over what is left.
    ``outputs`` None: no linear layer.
    """

    channels: int
    size: int
    filters: int
    outputs: int | None
    pool: bool = False

    def ours(self) -> nn.Module:
        how = "max_pool" if self.pool else "stride"
        shape = (self.channels, self.size, self.size)
        return models.conv4(shape, self.outputs, filters=self.filters, downsample=how)

    def plain(self) -> nn.Module:
        layers: list[nn.Module] = []
        channels, left = self.channels, self.size
        for _ in range(4):
            layers.append(nn.Conv2d(channels, self.filters, 3, stride=1 if self.pool else 2, padding=1))
            layers.append(nn.BatchNorm2d(self.filters, track_running_stats=False))
            layers.append(nn.ReLU())
            if self.pool:
                layers.append(nn.MaxPool2d(2))
            left = left // 2 if self.pool else (left + 1) // 2
            channels = self.filters
        layers.append(nn.Flatten() if self.pool else _SpatialMean())
        if self.outputs is not None:
            layers.append(nn.Linear(self.filters * (left * left if self.pool else 1), self.outputs))
        return nn.Sequential(*layers)

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        for i in range(0, 16, 4):
            x = F.conv2d(x, weights[i], weights[i + 1], stride=1 if self.pool else 2, padding=1)
            x = F.relu(F.batch_norm(x, None, None, weights[i + 2], weights[i + 3], training=True))
            if self.pool:
                x = F.max_pool2d(x, 2)
        x = x.flatten(1) if self.pool else x.mean((-2, -1))
        return x if self.outputs is None else F.linear(x, weights[16], weights[17])


Net = Mlp | ConvNet
