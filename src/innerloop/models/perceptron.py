"""The fully connected net."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.models.description import described, flat_rows, positive

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Perceptron(nn.Module):
    """Linear layers with an activation between them: (examples, *inputs) to (examples, outputs)."""

    def __init__(
        self, width: int, outputs: int | None, hidden: Sequence[int], activation: str, batch_norm: bool, bias: bool
    ) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for size in hidden:
            layers.append(nn.Linear(width, size, bias=bias))
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(ACTIVATIONS[activation]())
            width = size
        self.body: nn.Sequential = nn.Sequential(*layers)
        # No activation after it: a ReLU there would cut the logits.
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(width, outputs, bias=bias)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        return self.head(self.body(flat_rows("mlp", x, self.width)))


@described
def mlp(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    hidden: Sequence[int] = (40, 40),
    activation: Literal["relu", "tanh", "sigmoid"] = "relu",
    batch_norm: bool = False,
    bias: bool = True,
    init: Literal["torch", "finn"] = "torch",
) -> Perceptron:
    """A fully connected net; by default the 40-40 ReLU net of the sine (Finn 2017, 1703.03400).

    Args:
        inputs: features, or the shape of one example, which is flattened.
        outputs: size of the output, without activation; None: no last layer, the last hidden layer comes out (an embedding).
        hidden: widths of the hidden layers; ``()`` gives a linear model. (64, 64) with tanh is Reptile's
            sine net (Nichol 2018, 1803.02999), (256, 128, 64, 64) with ``batch_norm`` the net without
            convolutions of Finn 2017.
        activation: between the layers: "relu", "tanh" or "sigmoid".
        batch_norm: normalise before each activation.
        bias: whether the linear layers have one.
        init: "torch" (PyTorch's uniform) or "finn" (as the authors' code: weights truncated normal with sd
            0.01, biases 0).

    Shapes: (examples, *inputs) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, or an unknown activation or init.
        ShapeError: from the model, when what it is given has another width.
    """
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    positive(
        outputs=1 if outputs is None else outputs,
        axes=len(shape),
        **{f"inputs[{i}]": size for i, size in enumerate(shape)},
    )
    positive(**{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    model = Perceptron(math.prod(shape), outputs, hidden, activation, batch_norm, bias)
    if init == "finn":
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return model
