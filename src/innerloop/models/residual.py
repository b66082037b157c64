"""The twelve-layer residual net of the few-shot literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described, input_shape, positive


def _convolution(channels: int, width: int, kernel: int, norm: str) -> nn.Sequential:
    # A bias before batch norm would be subtracted again, so it is there only without norm.
    layers: list[nn.Module] = [nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=norm == "none")]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(width))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 convolution, then 2x2 max-pooling."""

    def __init__(self, channels: int, width: int, norm: str) -> None:
        super().__init__()
        self.first: nn.Sequential = _convolution(channels, width, 3, norm)
        self.second: nn.Sequential = _convolution(width, width, 3, norm)
        self.third: nn.Sequential = _convolution(width, width, 3, norm)
        self.shortcut: nn.Sequential = _convolution(channels, width, 1, norm)
        self.activation: nn.LeakyReLU = nn.LeakyReLU(0.1)
        self.pool: nn.MaxPool2d = nn.MaxPool2d(2)

    def forward(
        self, x: Float[Tensor, "examples channels height width"]
    ) -> Float[Tensor, "examples wider half_height half_width"]:
        inner = self.activation(self.second(self.activation(self.first(x))))
        return self.pool(self.activation(self.third(inner) + self.shortcut(x)))


class ResNet12(nn.Module):
    """Four residual blocks: (examples, channels, height, width) to (examples, outputs)."""

    def __init__(self, shape: tuple[int, ...], outputs: int | None, widths: Sequence[int], norm: str) -> None:
        super().__init__()
        self.shape = shape
        before = [shape[0], *widths[:-1]]
        self.body: nn.Sequential = nn.Sequential(
            *(ResidualBlock(channels, width, norm) for channels, width in zip(before, widths, strict=True))
        )
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(widths[-1], outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("resnet12", x, self.shape)
        return self.head(self.body(x).mean((-2, -1)))


@described
def resnet12(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    widths: Sequence[int] = (64, 160, 320, 640),
    norm: Literal["batch", "none"] = "batch",
) -> ResNet12:
    """ResNet-12 in the form of Lee 2019 (MetaOptNet, 1904.03758), after Mishra 2018 (1707.03141).

    Four blocks of three 3x3 convolutions with batch norm and LeakyReLU(0.1), a 1x1 convolution as shortcut,
    2x2 max-pooling after each block, then the mean over the picture and a linear layer. Convolutions start
    from He's normal (fan out).

    Args:
        inputs: (channels, height, width), or the number of channels of 84x84 pictures.
        outputs: number of logits; None: no linear layer, the ``widths[-1]`` features come out.
        widths: channels of the four blocks; smaller ones make a small net (any number of blocks works).
        norm: "batch" or "none".

    Shapes: (examples, channels, height, width) to (examples, outputs).

    Differs from Lee 2019: no dropout and no DropBlock; the mean over the picture instead of all 5x5
    positions.

    Raises:
        ConfigError: a size below 1, a picture too small for the poolings, or an unknown option.
        ShapeError: from the model, when pictures of another shape come in.
    """
    shape = input_shape((inputs, 84, 84) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(outputs=1 if outputs is None else outputs, blocks=len(widths))
    positive(**{f"widths[{i}]": width for i, width in enumerate(widths)})
    smallest = 2 ** len(widths)
    if min(shape[1:]) < smallest:
        raise ConfigError(
            f"resnet12 expected pictures of at least {smallest}x{smallest}, got {shape[1]}x{shape[2]}: "
            "enlarge them or give fewer widths"
        )
    model = ResNet12(shape, outputs, tuple(widths), norm)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="leaky_relu")
    return model
