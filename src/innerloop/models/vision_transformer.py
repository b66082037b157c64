"""A small vision transformer: a picture as a sequence of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.attention import EncoderBlock
from innerloop.models.description import check_input, described, input_shape, positive


class VisionTransformer(nn.Module):
    """Patches, positions, encoder blocks, one vector: (examples, channels, height, width) to (examples, outputs)."""

    shape: tuple[int, ...]
    patch: int
    rows: int
    columns: int

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int | None,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        expansion: int,
        norm: str,
        positions: str,
        pooling: str,
    ) -> None:
        super().__init__()
        self.shape, self.patch = shape, patch
        channels, height, breadth = shape
        self.rows, self.columns = height // patch, breadth // patch
        self.embed: nn.Linear = nn.Linear(channels * patch * patch, width)
        self.class_token: nn.Parameter | None = nn.Parameter(0.02 * torch.randn(width)) if pooling == "class" else None
        if positions == "learned":
            self.position: nn.Parameter | None = nn.Parameter(0.02 * torch.randn(self.rows * self.columns, width))
        else:
            self.position = None
            # Made from the sizes alone, so files need not hold it.
            self.register_buffer("waves", sin_cos_positions(self.rows, self.columns, width), persistent=False)
        self.body: nn.Sequential = nn.Sequential(*(EncoderBlock(width, heads, expansion, norm) for _ in range(depth)))
        self.norm: nn.LayerNorm | nn.Identity = nn.LayerNorm(width) if norm == "layer" else nn.Identity()
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def patches(
        self, x: Float[Tensor, "examples channels height width"]
    ) -> Float[Tensor, "examples patches patch_pixels"]:
        """The picture cut into squares, row by row, each with all its channels as one vector."""
        examples, channels = x.shape[:2]
        cut = x.reshape(examples, channels, self.rows, self.patch, self.columns, self.patch)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(examples, self.rows * self.columns, -1)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("vit", x, self.shape)
        tokens = self.embed(self.patches(x))
        tokens = tokens + (self.waves.to(tokens.dtype) if self.position is None else self.position)
        if self.class_token is not None:
            first = self.class_token.expand(tokens.shape[0], 1, -1)
            tokens = torch.cat([first, tokens], 1)
        encoded = self.norm(self.body(tokens))
        return self.head(encoded.mean(1) if self.class_token is None else encoded[:, 0])


def sin_cos_positions(rows: int, columns: int, width: int) -> Float[Tensor, "patches width"]:
    """Sines and cosines of a patch's row, then of its column, at wavelengths from 2 pi to about 20,000 pi patches.

    As Vaswani 2017 (1706.03762), a half of the width for each direction; ``width`` is a multiple of 4.
    """
    rates = 10_000.0 ** (-torch.arange(width // 4) / (width // 4))

    def waves(places: int) -> Tensor:
        angles = torch.arange(places)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], 1)

    down = waves(rows)[:, None].expand(rows, columns, -1)
    along = waves(columns)[None].expand(rows, columns, -1)
    return torch.cat([down, along], -1).reshape(rows * columns, width)


@described
def vit(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    patch: int = 7,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    expansion: int = 2,
    norm: Literal["layer", "none"] = "layer",
    positions: Literal["learned", "sin_cos"] = "sin_cos",
    pooling: Literal["mean", "class"] = "mean",
) -> VisionTransformer:
    """A small vision transformer (Dosovitskiy 2021, 2010.11929), with the norm before each part.

    Args:
        inputs: (channels, height, width), or the number of channels of 28x28 pictures.
        outputs: number of logits; None: no linear layer, the encoding comes out (an embedding of ``width`` numbers).
        patch: side of the square patches in pixels; it divides height and width.
        width: of the vectors inside; a multiple of ``heads``, and of 4 for "sin_cos" positions.
        depth: number of blocks.
        heads: of the attention.
        expansion: the two-layer nets inside are this many times as wide as ``width``.
        norm: "layer" or "none".
        positions: "learned" for each patch, as in the paper, or fixed sines and cosines of its row and column.
        pooling: "class": the encoding of a learned class token, as in the paper; "mean": of all patches.

    Shapes: (examples, channels, height, width) to (examples, outputs).

    Differs from the paper: sizes for small pictures and few of them, fixed positions and the mean over patches by
    default (Beyer 2022, 2205.01580), no position for the class token, nets twice as wide inside, no dropout.

    Raises:
        ConfigError: a size below 1, a patch that does not divide the picture, a width that does not fit, or an unknown
            option.
        ShapeError: from the model, when pictures of another shape come in.
    """
    shape = input_shape((inputs, 28, 28) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(
        outputs=1 if outputs is None else outputs,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        expansion=expansion,
    )
    if shape[1] % patch or shape[2] % patch:
        common = math.gcd(shape[1], shape[2])
        fitting = [side for side in range(1, common + 1) if common % side == 0]
        nearest = min(fitting, key=lambda side: abs(side - patch))
        raise ConfigError(
            f"patch expected a divisor of height and width {shape[1]}x{shape[2]}, got {patch}: use {nearest}"
        )
    step = math.lcm(heads, 4) if positions == "sin_cos" else heads
    if width % step:
        raise ConfigError(
            f'width expected a multiple of {step} for heads={heads} and positions="{positions}", got {width}: '
            f"use {width - width % step + step}"
        )
    return VisionTransformer(shape, outputs, patch, width, depth, heads, expansion, norm, positions, pooling)
