"""Pieces that methods put behind a model: plain layers, and attention over examples that heeds which of them count."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import ConfigError

_FAR = 1e9  # taken off the scores of examples that do not count: their weight is exactly 0


def layers(inputs: int, width: int, outputs: int, depth: int) -> nn.Sequential:
    """``depth`` linear layers with ReLU between them, the inner ones ``width`` wide.

    Raises:
        ConfigError: a depth or a size below 1.
    """
    for what, value in (("layers", depth), ("width", width), ("outputs", outputs), ("features", inputs)):
        if value < 1:
            raise ConfigError(f"{what} expected at least 1, got {value}; raise it")
    sizes = [inputs, *[width] * (depth - 1), outputs]
    made: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*made[:-1])


def drawn_by_glorot(module: nn.Module) -> None:
    """Give all linear layers inside weights whose outputs vary as much as their inputs, and no bias.

    PyTorch's own weights let every layer's outputs shrink, so that deep nets begin with little to tell apart. Glorot and Bengio
    2010, "Understanding the difficulty of training deep feedforward neural networks".
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for part in module.modules():
        if isinstance(part, CrossAttention):
            part.compare_alike()


class CrossAttention(nn.Module):
    """Multi-head softmax attention in plain matrix products, which have second derivatives everywhere.

    Queries start out from the same weights as keys, so that attention begins with what is alike (see `methods.snail`).
    """

    query: nn.Linear
    value: nn.Linear
    out: nn.Linear

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width < 1 or heads < 1 or width % heads:
            raise ConfigError(f"width expected a multiple of heads, got width={width} and heads={heads}; change one")
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key: nn.Linear = nn.Linear(width, width, bias=False)  # a bias would add the same to all scores of a query
        self.compare_alike()

    def compare_alike(self) -> None:
        """Queries by the keys' weights."""
        with torch.no_grad():
            self.query.weight.copy_(self.key.weight)
            self.query.bias.zero_()

    def forward(
        self,
        queries: Float[Tensor, "query width"],
        keys: Float[Tensor, "support width"],
        values: Float[Tensor, "support width"],
        counts: Float[Tensor, "*groups support"],
    ) -> Float[Tensor, "*groups query width"]:
        """For each query the weighted mean of the values, once for each group of examples.

        Args:
            queries, keys: what is compared.
            values: what is averaged; where no example of a group counts, zeros are.
            counts: 1 for an example that counts, 0 for one that does not.
        """

        def heads(x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], self.heads, -1).transpose(0, 1)

        q, k, v = heads(self.query(queries)), heads(self.key(keys)), heads(self.value(values))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + ((counts - 1) * _FAR)[..., None, None, :]
        mixed = torch.softmax(scores, -1) @ v * counts.amax(-1)[..., None, None, None]
        return self.out(mixed.transpose(-3, -2).flatten(-2))


class ResidualAttention(nn.Module):
    """`CrossAttention` to which the queries are added, then a layer that is added too, each sum normalised.

    As in the code of Nguyen and Grover 2022, arXiv:2207.04179, for attentive neural processes.
    """

    read_norm: nn.LayerNorm
    out_norm: nn.LayerNorm

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention: CrossAttention = CrossAttention(width, heads)
        self.read_norm, self.out_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.out: nn.Linear = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "query width"],
        keys: Float[Tensor, "support width"],
        values: Float[Tensor, "support width"],
        counts: Float[Tensor, "*groups support"],
    ) -> Float[Tensor, "*groups query width"]:
        """As `CrossAttention.forward`; where no example of a group counts, the queries alone go on."""
        read = self.read_norm(queries + self.attention(queries, keys, values, counts))
        return self.out_norm(read + torch.relu(self.out(read)))


class AttentionBlock(nn.Module):
    """Attention to a memory and a two-layer net, each behind its norm and beside a skip connection."""

    attention_norm: nn.LayerNorm
    net_norm: nn.LayerNorm

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.net_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention: CrossAttention = CrossAttention(width, heads)
        self.net: nn.Sequential = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self,
        x: Float[Tensor, "examples width"],
        memory: Float[Tensor, "support width"],
        counts: Float[Tensor, " support"],
    ) -> Float[Tensor, "examples width"]:
        seen = self.attention_norm(memory)
        x = x + self.attention(self.attention_norm(x), seen, seen, counts)
        return x + self.net(self.net_norm(x))
