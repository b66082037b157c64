"""A linear layer on histograms of oriented gradients: for photographs of one kind (faces, say) with few classes to train on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described, input_shape, positive

_FLAT = 0.005  # of squared gradient strength: flat parts of a picture have no direction to speak of
_TINY = 1e-8  # roots stay differentiable where there is no gradient at all


class OrientedGradients(nn.Module):
    """Features that are not learned, then one linear layer: (examples, *inputs) to (examples, outputs)."""

    sobel: Tensor
    rows: Tensor
    columns: Tensor
    shape: tuple[int, ...]
    directions: int
    stride: int
    mirror: bool
    length: float | None

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int | None,
        directions: int,
        cell: int,
        stride: int,
        mirror: bool,
        length: float | None,
    ) -> None:
        super().__init__()
        self.shape, self.directions, self.stride, self.mirror, self.length = shape, directions, stride, mirror, length
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8  # a ramp's slope a pixel
        self.register_buffer("sobel", torch.stack([across, across.T])[:, None], persistent=False)
        self.register_buffer("rows", _around(shape[1], cell, stride), persistent=False)
        self.register_buffer("columns", _around(shape[2], cell, stride), persistent=False)
        features = directions * len(self.rows) * len(self.columns)
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(features, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("oriented_gradients", x, self.shape)
        grey = x.mean(1, keepdim=True)
        maps = self.histograms(grey)
        if self.mirror:
            maps = (maps + self.histograms(grey.flip(-1))) / 2
        z = self.head(maps.flatten(1))
        return z if self.length is None else self.length * functional.normalize(z, dim=-1)

    def histograms(
        self, grey: Float[Tensor, "examples 1 height width"]
    ) -> Float[Tensor, "examples directions rows columns"]:
        """Roots of how strongly brightness rises in each direction around each place."""
        sobel, rows, columns = (t.to(grey.dtype) for t in (self.sobel, self.rows, self.columns))
        slope = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), sobel)
        strength = (slope.square().sum(1, keepdim=True) + _TINY).sqrt()
        angle = torch.atan2(slope[:, 1:], slope[:, :1]) * (self.directions / (2 * math.pi))
        bins = torch.arange(self.directions, device=grey.device, dtype=grey.dtype)[:, None, None]
        apart = (angle - bins).abs()
        share = (1 - torch.minimum(apart, (self.directions - apart).abs())).clamp(min=0)  # the last is beside the first
        maps = rows @ (share * strength) @ columns.T
        return (maps / (maps.square().sum(1, keepdim=True) + _FLAT).sqrt() + _TINY).sqrt()


def _around(pixels: int, cell: int, stride: int) -> Float[Tensor, "places pixels"]:
    """How much each pixel of a row or column counts for each place: a bell curve, cut off at two standard deviations."""
    apart = (torch.arange(0, pixels, stride)[:, None] - torch.arange(pixels)).abs() / (cell / 2)
    bell = torch.exp(-(apart**2) / 2) * (apart <= 2)
    return bell / bell.sum(1, keepdim=True)


@described
def oriented_gradients(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    directions: int = 8,
    cell: int = 12,
    stride: int = 4,
    mirror: bool = False,
    length: float | None = None,
) -> OrientedGradients:
    """A linear layer on histograms of oriented gradients, which are not learned themselves.

    What is learned is which of these features tell classes apart. That takes far fewer training classes than a convolutional
    network does, and `il.models.whiten` gives the layer a start in closed form.

    Args:
        inputs: channels (of 28 x 28 pictures) or the shape (channels, height, width); colours are averaged.
        outputs: size of the output; None: the features themselves, nothing is learned.
        directions: into which the full turn is divided; a gradient counts for the two nearest.
        cell: pixels around a place that count for it: two standard deviations of a bell curve.
        stride: pixels between places.
        mirror: features are the mean over a picture and its mirror image, for what may look either way.
        length: outputs are scaled to this length, above 0, so that only their direction counts; None: as they are.

    Shapes: (examples, *inputs) to (examples, outputs); outputs None: (examples, directions * rows * columns).

    Differs from the paper: opposite directions are two, a bell curve stands in for square cells, each place is divided by its
    own length instead of a block's, and the root is taken of what is left (Arandjelovic and Zisserman 2012).

    Raises:
        ConfigError: a size below 1, fewer than 3 directions, or a length that is not above 0.
        ShapeError: from the model, when pictures of another shape come in.

    Example:
        >>> import innerloop as il
        >>> il.models.oriented_gradients((1, 56, 46), 128).head.in_features
        1344

    Reference: Dalal and Triggs 2005, "Histograms of oriented gradients for human detection", CVPR.
    """
    shape = input_shape((inputs, 28, 28) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(outputs=1 if outputs is None else outputs, directions=directions, cell=cell, stride=stride)
    if directions < 3:
        raise ConfigError(f"directions expected at least 3, got {directions}: raise it")
    if length is not None and not (0 < length < math.inf):
        raise ConfigError(
            f"length expected a number above 0 or None, got {length!r}: leave it out for outputs as they are"
        )
    return OrientedGradients(shape, outputs, directions, cell, stride, mirror, length)
