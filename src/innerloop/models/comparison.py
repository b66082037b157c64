"""The comparison network of relation networks (Sung et al. 2018, arXiv:1711.06025)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import ConfigError


class Relation(nn.Module):
    """How well each query goes with each class: features of both side by side, through a small net, to one logit.

    Features are maps (channels, height, width), for two blocks of 3x3 convolution, batch norm, ReLU and, where there is room,
    2x2 max-pooling; or vectors, for one linear layer with ReLU. Two linear layers with a leaky ReLU between them follow.

    The first layer takes the two side by side, so it is a sum of one layer on the class and one on the query: these are computed
    once for each class and each query, not for each pair.

    Args:
        features: shape of one example's features.
        filters: channels of both blocks, or width of the linear layer.
        hidden: width between the last two layers.

    Raises:
        ConfigError: features of another rank.
    """

    def __init__(self, features: tuple[int, ...], filters: int, hidden: int) -> None:
        super().__init__()
        if len(features) not in (1, 3):
            raise ConfigError(
                "the model expected to return a vector (features,) or a map (channels, height, width) for each example, "
                f"got {len(features)} axes {features}; flatten it (nn.Flatten) or give it three axes"
            )
        maps = len(features) == 3
        if maps:
            self.of_class = nn.Conv2d(features[0], filters, 3, padding=1)
            self.of_query = nn.Conv2d(features[0], filters, 3, padding=1, bias=False)
        else:
            self.of_class, self.of_query = nn.Linear(features[0], filters), nn.Linear(features[0], filters, bias=False)
        with torch.no_grad():  # PyTorch's range for as many inputs as both together have
            for p in (*self.of_class.parameters(), *self.of_query.parameters()):
                p.mul_(math.sqrt(0.5))
        layers: list[nn.Module] = [nn.BatchNorm2d(filters)] if maps else []
        layers.append(nn.ReLU())
        width = filters
        if maps:
            size = features[1:]
            first, size = _pooling(size)
            second, size = _pooling(size)
            layers += [*first, nn.Conv2d(filters, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(), *second]
            layers.append(nn.Flatten())
            width = filters * size[0] * size[1]
        # The paper has ReLU here. Eight of them are often all off at once, and then classes tie (measured: one query in five).
        self.rest = nn.Sequential(*layers, nn.Linear(width, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, 1))

    def forward(
        self, classes: Float[Tensor, "ways ..."], queries: Float[Tensor, "queries ..."]
    ) -> Float[Tensor, "pairs 1"]:
        """One logit a pair, pairs (query, class) in the order of queries, then of classes."""
        both = self.of_query(queries)[:, None] + self.of_class(classes)
        return self.rest(both.flatten(0, 1))


def _pooling(size: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    """A 2x2 max-pooling where there is room for it, and the size after it."""
    return ([nn.MaxPool2d(2)], (size[0] // 2, size[1] // 2)) if min(size) > 1 else ([], size)
