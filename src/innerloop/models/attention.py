"""A small transformer encoder whose attention has a second derivative everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described, input_shape, positive


class SelfAttention(nn.Module):
    """Multi-head softmax attention written out as matrix products.

    torch's fused attention has no second derivative on the CPU, which second-order meta-gradients need.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix_in: nn.Linear = nn.Linear(width, 3 * width)
        self.mix_out: nn.Linear = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "examples time width"]) -> Float[Tensor, "examples time width"]:
        examples, time, width = x.shape
        parts = self.mix_in(x).reshape(examples, time, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (examples, heads, time, width / heads)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores, -1) @ value
        return self.mix_out(mixed.transpose(1, 2).reshape(examples, time, width))


class EncoderBlock(nn.Module):
    """Attention and a two-layer net, each behind its norm and beside a skip connection."""

    def __init__(self, width: int, heads: int, expansion: int, norm: str) -> None:
        super().__init__()
        self.attention_norm: nn.Module = _norm(width, norm)
        self.attention: SelfAttention = SelfAttention(width, heads)
        self.net_norm: nn.Module = _norm(width, norm)
        self.net: nn.Sequential = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Float[Tensor, "examples time width"]) -> Float[Tensor, "examples time width"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.net(self.net_norm(x))


def _norm(width: int, norm: str) -> nn.Module:
    return nn.LayerNorm(width) if norm == "layer" else nn.Identity()


class Transformer(nn.Module):
    """Encoder and mean over time: (examples, time, features) to (examples, outputs)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int | None,
        width: int,
        depth: int,
        heads: int,
        expansion: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.shape = shape
        time, features = shape
        self.embed: nn.Linear = nn.Linear(features, width)
        self.position: nn.Parameter = nn.Parameter(0.02 * torch.randn(time, width))
        self.body: nn.Sequential = nn.Sequential(*(EncoderBlock(width, heads, expansion, norm) for _ in range(depth)))
        self.norm: nn.Module = _norm(width, norm)
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("transformer", x, self.shape)
        encoded = self.body(self.embed(x) + self.position)
        return self.head(self.norm(encoded).mean(-2))


@described
def transformer(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    expansion: int = 2,
    norm: Literal["layer", "none"] = "layer",
) -> Transformer:
    """A small transformer encoder for sequences, with the norm before each part.

    After Vaswani 2017 (1706.03762) and, for the place of the norm, Xiong 2020 (2002.04745).

    Args:
        inputs: (time, features) of one sequence; a single int is refused.
        outputs: size of the output; None: no last layer, the mean of the encodings comes out (an embedding).
        width: of the vectors inside; a multiple of ``heads``.
        depth: number of blocks.
        heads: of the attention.
        expansion: the two-layer nets inside are this many times as wide as ``width``.
        norm: "layer" or "none".

    Shapes: (examples, time, features) to (examples, outputs).

    Differs from the papers: learned positions, GELU, no dropout; the output is a linear function of the
    mean over time.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, or an unknown norm.
        ShapeError: from the model, when sequences of another shape come in.
    """
    shape = input_shape(inputs, ("time", "features"))
    positive(outputs=1 if outputs is None else outputs, width=width, depth=depth, heads=heads, expansion=expansion)
    if width % heads:
        raise ConfigError(
            f"width expected a multiple of heads={heads}, got {width}: use {width - width % heads + heads}"
        )
    return Transformer(shape, outputs, width, depth, heads, expansion, norm)
