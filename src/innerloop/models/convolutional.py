"""The four-layer convolutional net of the few-shot literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described_with, input_shape, positive


class Conv4(nn.Module):
    """Four convolutions, the first ``halvings`` of them halving height and width: (examples, *inputs) to (examples, outputs)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int | None,
        filters: int,
        downsample: str,
        norm: str,
        spatial: str,
        halvings: int,
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        self.shape = shape
        channels, height, width = shape
        layers: list[nn.Module] = []
        for block in range(4):
            halves = block < halvings
            stride = 2 if halves and downsample == "stride" else 1
            layers.append(nn.Conv2d(channels, filters, 3, stride=stride, padding=1))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(filters))
            if last_relu or block < 3:
                layers.append(nn.ReLU())
            if halves and downsample == "max_pool":
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            elif halves:
                height, width = (height + 1) // 2, (width + 1) // 2
            channels = filters
        self.body: nn.Sequential = nn.Sequential(*layers)
        self.spatial = spatial
        features = filters if spatial == "mean" else filters * height * width
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(features, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples ..."]:
        check_input("conv4", x, self.shape)
        maps = self.body(x)
        if self.spatial == "map":
            return maps
        return self.head(maps.mean((-2, -1)) if self.spatial == "mean" else maps.flatten(1))


@described_with(newer=("init", "last_relu"))
def conv4(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    filters: int = 64,
    downsample: Literal["stride", "max_pool"] = "stride",
    norm: Literal["batch", "none"] = "batch",
    spatial: Literal["mean", "flatten", "map"] | None = None,
    halvings: int = 4,
    init: Literal["torch", "rajeswaran"] = "torch",
    last_relu: bool = True,
) -> Conv4:
    """Four blocks of 3x3 convolution, batch norm and ReLU, then a linear layer.

    With ``downsample="stride"`` it is the net of Finn, Abbeel and Levine 2017 (1703.03400): stride 2, then
    the mean over what is left of the picture. With ``"max_pool"`` it is that of Vinyals 2016 (1606.04080)
    and Snell 2017 (1703.05175): stride 1, 2x2 max-pooling after each ReLU, then flattened. Both have 64
    features on a 28x28 picture.

    Args:
        inputs: (channels, height, width), or the number of channels of 28x28 pictures.
        outputs: number of logits; None: no linear layer, the features themselves come out (an embedding).
        filters: channels of every block; 32 for Finn's miniImageNet net.
        downsample: how each block halves the picture: "stride" or "max_pool".
        norm: "batch" or "none".
        spatial: "mean" or "flatten", how a map becomes a vector; None: "mean" for strides, "flatten" for
            pooling. "map": it stays a map, for a method that compares maps; with ``outputs=None``.
        halvings: how many of the blocks, from the first on, halve the picture; 2 for the net of Sung et al. 2018
            (1711.06025).
        init: "torch" (PyTorch's uniform) or "rajeswaran" (as the code of Rajeswaran 2019, 1909.04630: weights Xavier uniform
            with gain 1.73, in the inner blocks some three times as large; biases uniform between 0 and 0.05).
        last_relu: False: no ReLU after the last block, so that features lie on both sides of 0.

    Shapes: (examples, channels, height, width) to (examples, outputs), or to (examples, filters, height, width) for a map.

    Differs from the authors' TensorFlow code: symmetric padding for strides, PyTorch's initialisation, and
    batch norm has a learned scale.

    Raises:
        ConfigError: a size below 1, a picture too small for its poolings, a map with outputs, or an unknown option.
        ShapeError: from the model, when pictures of another shape come in.
    """
    shape = input_shape((inputs, 28, 28) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(filters=filters, outputs=1 if outputs is None else outputs)
    spatial = spatial or ("mean" if downsample == "stride" else "flatten")
    if isinstance(halvings, bool) or not isinstance(halvings, int) or not 0 <= halvings <= 4:
        raise ConfigError(f"halvings expected 0 to 4, one for each block at most, got {halvings!r}")
    if spatial == "map" and outputs is not None:
        raise ConfigError(f'conv4 with spatial="map" has no linear layer: expected outputs=None, got {outputs}')
    least = 2**halvings
    if downsample == "max_pool" and min(shape[1:]) < least:
        raise ConfigError(
            f"conv4 with max-pooling expected pictures of at least {least}x{least}, got {shape[1]}x{shape[2]}: "
            'enlarge them or use downsample="stride"'
        )
    model = Conv4(shape, outputs, filters, downsample, norm, spatial, halvings, last_relu)
    if init == "rajeswaran":
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=1.73)
                assert layer.bias is not None
                nn.init.uniform_(layer.bias, 0.0, 0.05)
    return model
