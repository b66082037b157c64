"""A small residual net for features of a trained network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.models.description import check_input, described, positive


class Adapter(nn.Module):
    """``scale unit(z + W2 relu(W1 z))`` of ``z = x - centre``, then a linear head where there are outputs."""

    centre: Tensor
    shape: tuple[int, ...]
    down: nn.Linear
    up: nn.Linear

    def __init__(self, shape: tuple[int, ...], outputs: int | None, hidden: int, scale: float) -> None:
        super().__init__()
        self.shape, width = shape, math.prod(shape)
        self.register_buffer("centre", torch.zeros(width))
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.scale: nn.Parameter = nn.Parameter(torch.tensor(math.log(scale)))
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("adapter", x, self.shape)
        z = x.flatten(1) - self.centre
        z = z + self.up(self.down(z).relu())
        # Safe for all derivatives, at zero too.
        return self.head(self.scale.exp() * z * (z.square().sum(1, keepdim=True) + 1e-12).rsqrt())


@described
def adapter(
    inputs: int | Sequence[int], outputs: int | None = None, *, hidden: int = 64, scale: float = 4.0
) -> Adapter:
    """A bottleneck with a residual connection (Houlsby et al. 2019, arXiv:1902.00751) on features of a trained network.

    Features are centred and brought to one length (Wang et al. 2019, arXiv:1911.04623), which alone helps with one example a
    class; the bottleneck's last matrix begins at zero. So training starts, for ``protonet``, from the class means of such
    features. The centre is not learned: in models of tasks behind an embedding it is the mean of the training examples, else
    zero.

    Args:
        inputs: features, or the shape of one example, which is flattened.
        outputs: size of the head's output; None: no head, features of the same width come out (an embedding).
        hidden: width of the bottleneck.
        scale: what features are multiplied by at first, learned by its logarithm: distances of features of length one are too
            short for a softmax.

    Shapes: (examples, *inputs) to (examples, outputs), or to (examples, features).

    Raises:
        ConfigError: a size below 1.
        ShapeError: from the model, when what it is given has another width.
    """
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    positive(outputs=1 if outputs is None else outputs, hidden=hidden, axes=len(shape))
    positive(**{f"inputs[{i}]": size for i, size in enumerate(shape)})
    return Adapter(shape, outputs, hidden, scale)
