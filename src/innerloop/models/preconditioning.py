"""What every denoiser here shares: the frame around its network, and how a network is told the noise level.

Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import ConfigError, ShapeError

_FASTEST = 100.0  # radians that the fastest of the features turns for one unit of c_noise


def preconditioned(
    network: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "examples ..."],
    sigma: Float[Tensor, " examples"],
    sigma_data: float,
) -> Float[Tensor, "examples ..."]:
    """``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``, the clean example that ``x`` is a noisy one of.

    ``c_skip = s^2 / (sigma^2 + s^2)``, ``c_out = sigma s / sqrt(sigma^2 + s^2)``, ``c_in = 1 / sqrt(sigma^2 + s^2)``,
    ``c_noise = ln(sigma) / 4`` with s = ``sigma_data`` (table 1 of the paper): whatever the noise, the network's input and what
    it has to give are of size 1.

    Args:
        network: F, of (c_in x, c_noise).
        x: noisy examples.
        sigma: the standard deviation of the noise of each, above 0.
        sigma_data: that of the clean data.
    """
    if sigma.shape != x.shape[:1]:
        raise ShapeError(
            f"a denoiser expected one noise level for each of {x.shape[0]} examples, got {tuple(sigma.shape)}"
        )
    level = sigma.reshape(-1, *[1] * (x.ndim - 1))
    total = level.square() + sigma_data**2
    found = network(x / total.sqrt(), sigma.log() / 4)
    return sigma_data**2 / total * x + level * sigma_data / total.sqrt() * found


class NoiseLevel(nn.Module):
    """``c_noise`` as the vector that a network's layers read: sines and cosines of many speeds, then two linear layers.

    Args:
        width: of the vector.
        features: sines and cosines, an even number.
    """

    def __init__(self, width: int, features: int = 32) -> None:
        super().__init__()
        speeds = torch.exp(torch.linspace(0.0, math.log(_FASTEST), features // 2))
        self.register_buffer("speeds", speeds)
        self.net: nn.Sequential = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, noise: Float[Tensor, " examples"]) -> Float[Tensor, "examples width"]:
        speeds: Tensor = self.speeds  # type: ignore[assignment]
        turned = noise[:, None] * speeds
        return self.net(torch.cat([turned.sin(), turned.cos()], -1))


def mean_code(
    tokens: Float[Tensor, "tokens width"], counts: Float[Tensor, " tokens"], nothing: Float[Tensor, " width"]
) -> Float[Tensor, " width"]:
    """The mean of the tokens that count; ``nothing`` where none does."""
    number = counts.sum()
    mean = (tokens * counts[:, None]).sum(0) / number.clamp(min=1.0)
    return torch.where(number > 0, mean, nothing)


def expect_sigma_data(value: float) -> None:
    """Raise ConfigError for a spread of the data that cannot be."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(
            f"sigma_data expected a finite number above 0, got {value}; give the data's standard deviation"
        )
