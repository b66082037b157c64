"""A small U-Net that takes noise out of pictures, beside a few clean pictures of the same kind.

Ronneberger et al. 2015, "U-Net", arXiv:1505.04597; as a denoiser Karras et al. 2022, arXiv:2206.00364; conditioned on a set by
attention Giannone et al. 2022, "Few-shot diffusion models", arXiv:2205.15463.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.cross_attention import CrossAttention
from innerloop.models.description import check_input, described, input_shape, positive
from innerloop.models.preconditioning import NoiseLevel, expect_sigma_data, mean_code, preconditioned

_GROUPS = 8
_SHRUNK = 4  # a support picture becomes one token for each square of so many pixels
_STARTING = 0.3  # spread of the learned places and of what stands for no support


def _normed(x: Tensor) -> Tensor:
    return F.group_norm(x, _GROUPS)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection; scale and shift between them say noise level and support."""

    def __init__(self, before: int, after: int, told: int) -> None:
        super().__init__()
        self.first: nn.Conv2d = nn.Conv2d(before, after, 3, padding=1)
        self.second: nn.Conv2d = nn.Conv2d(after, after, 3, padding=1)
        self.told: nn.Linear = nn.Linear(told, 2 * after)
        self.skip: nn.Conv2d | nn.Identity = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "examples before height width"], told: Float[Tensor, "examples told"]) -> Tensor:
        scale, shift = self.told(told)[..., None, None].chunk(2, 1)
        inside = self.first(F.silu(_normed(x)))
        return self.skip(x) + self.second(F.silu(_normed(inside) * (1 + scale) + shift))


class Read(nn.Module):
    """Every place of a map looks at the tokens of the support pictures."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens: nn.Linear = nn.Linear(width, channels)
        self.attention: CrossAttention = CrossAttention(channels, heads)
        nn.init.zeros_(self.attention.out.weight)

    def forward(self, x: Tensor, tokens: Float[Tensor, "tokens width"], counts: Float[Tensor, " tokens"]) -> Tensor:
        places = _normed(x).permute(0, 2, 3, 1)  # (examples, height, width, channels)
        memory = self.tokens(tokens)
        found = self.attention(places.reshape(-1, x.shape[1]), memory, memory, counts)
        return x + found.reshape(places.shape).permute(0, 3, 1, 2)


class SupportPictures(nn.Module):
    """Pictures as tokens, one for each square of 4 x 4 pixels, each with its learned place."""

    def __init__(self, channels: int, width: int, places: int) -> None:
        super().__init__()
        self.net: nn.ModuleList = nn.ModuleList(
            [
                nn.Conv2d(channels, width // 2, 3, padding=1, stride=2),
                nn.Conv2d(width // 2, width // 2, 3, padding=1),
                nn.Conv2d(width // 2, width, 3, padding=1, stride=2),
                nn.Conv2d(width, width, 3, padding=1),
            ]
        )
        self.place: nn.Parameter = nn.Parameter(_STARTING * torch.randn(places, width))
        self.out: nn.Linear = nn.Linear(width, width)

    def forward(self, pictures: Float[Tensor, "support channels height width"]) -> Float[Tensor, "support places told"]:
        for i, layer in enumerate(self.net):
            pictures = layer(F.silu(_normed(pictures)) if i else pictures)
        tokens = pictures.flatten(2).transpose(1, 2) + self.place
        return self.out(F.group_norm(tokens.flatten(0, 1), 1).reshape(tokens.shape))


class DenoisingUNet(nn.Module):
    """(noisy pictures, noise levels, support pictures, which of them count) to clean pictures."""

    shape: tuple[int, ...]
    patch: int
    blocks: int
    levels: int
    sigma_data: float
    down: nn.ModuleList
    down_read: nn.ModuleList
    up: nn.ModuleList
    up_read: nn.ModuleList

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: Sequence[int],
        blocks: int,
        patch: int,
        width: int,
        heads: int,
        sigma_data: float,
    ) -> None:
        super().__init__()
        self.shape, self.patch, self.blocks, self.levels, self.sigma_data = (
            shape,
            patch,
            blocks,
            len(channels),
            sigma_data,
        )
        told, pixels = width, shape[0] * patch**2
        places = (shape[1] // _SHRUNK) * (shape[2] // _SHRUNK)
        self.level: NoiseLevel = NoiseLevel(told)
        self.support: SupportPictures = SupportPictures(shape[0], width, places)
        self.nothing: nn.Parameter = nn.Parameter(_STARTING * torch.randn(width))
        self.code: nn.Linear = nn.Linear(width, told)
        self.stem: nn.Conv2d = nn.Conv2d(pixels, channels[0], 3, padding=1)
        self.down, self.down_read = nn.ModuleList(), nn.ModuleList()
        self.up, self.up_read = nn.ModuleList(), nn.ModuleList()
        kept, now = [channels[0]], channels[0]
        for i, size in enumerate(channels):
            for _ in range(blocks):
                self.down.append(ResidualBlock(now, size, told))
                self.down_read.append(Read(size, width, heads))
                now = size
                kept.append(now)
            if i < self.levels - 1:
                kept.append(now)
        self.middle: ResidualBlock = ResidualBlock(now, now, told)
        for size in reversed(channels):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(now + kept.pop(), size, told))
                self.up_read.append(Read(size, width, heads))
                now = size
        self.head: nn.Conv2d = nn.Conv2d(now, pixels, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        x: Float[Tensor, "examples channels height width"],
        sigma: Float[Tensor, " examples"],
        support: Float[Tensor, "support channels height width"] | None = None,
        counts: Float[Tensor, " support"] | None = None,
    ) -> Float[Tensor, "examples channels height width"]:
        check_input("denoising_unet", x, self.shape)
        tokens, seen = self.nothing[None], x.new_ones(1)  # what is always there to look at
        code = self.nothing
        if support is not None:
            check_input("denoising_unet", support, self.shape)
            each = self.support(support)
            counts = x.new_ones(support.shape[0]) if counts is None else counts
            own = counts[:, None].expand(-1, each.shape[1]).reshape(-1)
            code = mean_code(each.flatten(0, 1), own, self.nothing)
            tokens, seen = torch.cat([tokens, each.flatten(0, 1)]), torch.cat([seen, own])
        told = self.code(code)
        return preconditioned(lambda z, noise: self._net(z, noise, told, tokens, seen), x, sigma, self.sigma_data)

    def _net(self, x: Tensor, noise: Tensor, told: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        told = F.silu(self.level(noise) + told)
        x = self.stem(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        kept = [x]
        for i in range(self.levels):
            for j in range(i * self.blocks, (i + 1) * self.blocks):
                x = self.down_read[j](self.down[j](x, told), tokens, seen)
                kept.append(x)
            if i < self.levels - 1:
                x = F.avg_pool2d(x, 2)
                kept.append(x)
        x = self.middle(x, told)
        for i in range(self.levels):
            for j in range(i * (self.blocks + 1), (i + 1) * (self.blocks + 1)):
                x = self.up_read[j](self.up[j](torch.cat([x, kept.pop()], 1), told), tokens, seen)
            if i < self.levels - 1:
                x = x.repeat_interleave(2, -2).repeat_interleave(2, -1)
        x = self.head(F.silu(_normed(x)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


@described
def denoising_unet(
    inputs: Sequence[int],
    *,
    channels: Sequence[int] = (32, 64),
    blocks: int = 1,
    patch: int = 2,
    width: int = 64,
    heads: int = 4,
    sigma_data: float = 0.5,
) -> DenoisingUNet:
    """A small U-Net that denoises pictures, beside the clean pictures that it is shown.

    ``model(x, sigma, support, counts)`` gives the clean pictures; without ``support`` it knows of none. A support picture becomes
    tokens, one for each square of 4 x 4 pixels, at which every place of every map looks; their mean goes into every layer.
    The order of the support pictures does not matter.

    Args:
        inputs: (channels, height, width) of one picture, values about -1 to 1.
        channels: of the maps at each size; from one size to the next height and width are halved. Multiples of 8.
        blocks: residual blocks at each size on the way down; one more on the way up.
        patch: squares of so many pixels become one place with as many channels, which saves most of the time; 1: none.
        width: of the tokens and of what layers are told; a multiple of 16.
        heads: of the attention.
        sigma_data: standard deviation of the data (the paper's 0.5).

    Shapes: (examples, channels, height, width), (examples,), (support, channels, height, width), (support,) to
        (examples, channels, height, width).

    Raises:
        ConfigError: sizes below 1, or that do not divide.
        ShapeError: from the model, when what it is given has another shape.
    """
    shape = input_shape(inputs, ("channels", "height", "width"))
    positive(blocks=blocks, patch=patch, width=width, heads=heads, sizes=len(channels))
    positive(**{f"channels[{i}]": size for i, size in enumerate(channels)})
    expect_sigma_data(sigma_data)
    for i, size in enumerate(channels):
        if size % _GROUPS or size % heads:
            raise ConfigError(
                f"channels[{i}] expected a multiple of {_GROUPS} and of heads={heads}, got {size}; change one"
            )
    if width % (2 * _GROUPS):
        raise ConfigError(f"width expected a multiple of {2 * _GROUPS}, got {width}; change it")
    halved = max(_SHRUNK, patch * 2 ** (len(channels) - 1))
    if any(size % halved or size % (patch * 2 ** (len(channels) - 1)) for size in shape[1:]):
        raise ConfigError(
            f"inputs expected a height and width that are multiples of {halved}, got {shape[1]} x {shape[2]}; resize the "
            "pictures, or give fewer channels or a smaller patch"
        )
    return DenoisingUNet(shape, tuple(channels), blocks, patch, width, heads, sigma_data)
