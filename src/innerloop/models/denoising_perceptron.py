"""A perceptron that takes noise out of vectors, beside a few clean vectors of the same kind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.cross_attention import AttentionBlock
from innerloop.models.description import check_input, described, positive
from innerloop.models.preconditioning import NoiseLevel, expect_sigma_data, mean_code, preconditioned

_STARTING = 0.3  # spread of what stands for no support


class DenoisingPerceptron(nn.Module):
    """(noisy vectors, noise levels, support vectors, which of them count) to clean vectors."""

    inputs: int
    sigma_data: float

    def __init__(self, inputs: int, width: int, depth: int, heads: int, sigma_data: float) -> None:
        super().__init__()
        self.inputs, self.sigma_data = inputs, sigma_data
        self.level: NoiseLevel = NoiseLevel(width)
        self.nothing: nn.Parameter = nn.Parameter(_STARTING * torch.randn(width))
        self.example: nn.Sequential = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        self.look: nn.ModuleList = nn.ModuleList(AttentionBlock(width, heads, 2 * width) for _ in range(depth))
        self.code: nn.Linear = nn.Linear(width, width)
        self.stem: nn.Sequential = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        self.told: nn.ModuleList = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.read: nn.ModuleList = nn.ModuleList(AttentionBlock(width, heads, 2 * width) for _ in range(depth))
        self.head: nn.Linear = nn.Linear(width, inputs)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        x: Float[Tensor, "examples inputs"],
        sigma: Float[Tensor, " examples"],
        support: Float[Tensor, "support inputs"] | None = None,
        counts: Float[Tensor, " support"] | None = None,
    ) -> Float[Tensor, "examples inputs"]:
        check_input("denoising_mlp", x, (self.inputs,))
        tokens, seen, code = self.nothing[None], x.new_ones(1), self.nothing
        if support is not None:
            check_input("denoising_mlp", support, (self.inputs,))
            counts = x.new_ones(support.shape[0]) if counts is None else counts
            each = self.example(support / self.sigma_data)
            for block in self.look:  # the support examples look at each other first
                each = block(each, each, counts)
            code = mean_code(each, counts, self.nothing)
            tokens, seen = torch.cat([tokens, each]), torch.cat([seen, counts])
        told = self.code(code)

        def net(z: Tensor, noise: Tensor) -> Tensor:
            level = F.silu(self.level(noise) + told)
            inside = self.stem(z)
            for tell, block in zip(self.told, self.read, strict=True):
                inside = block(inside + tell(level), tokens, seen)
            return self.head(inside)

        return preconditioned(net, x, sigma, self.sigma_data)


@described
def denoising_mlp(
    inputs: int, *, width: int = 64, depth: int = 3, heads: int = 4, sigma_data: float = 1.0
) -> DenoisingPerceptron:
    """A net that denoises vectors, beside the clean vectors that it is shown.

    ``model(x, sigma, support, counts)`` gives the clean vectors; without ``support`` it knows of none. The support vectors look
    at each other, and a noisy vector looks at them, at every depth. Their order does not matter.

    Args:
        inputs: numbers in a vector.
        width: of all inner layers; a multiple of ``heads``.
        depth: blocks of attention and a two-layer net, for the support and for the noisy vectors.
        heads: of the attention.
        sigma_data: standard deviation of the data; 1 for data that was scaled.

    Shapes: (examples, inputs), (examples,), (support, inputs), (support,) to (examples, inputs).

    Raises:
        ConfigError: sizes below 1, or a width that the heads do not divide.
        ShapeError: from the model, when what it is given has another shape.
    """
    positive(inputs=inputs, width=width, depth=depth, heads=heads)
    expect_sigma_data(sigma_data)
    if width % heads or width % 2:
        raise ConfigError(f"width expected an even multiple of heads={heads}, got {width}; change one")
    return DenoisingPerceptron(inputs, width, depth, heads, sigma_data)
