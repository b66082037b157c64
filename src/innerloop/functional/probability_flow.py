"""From a denoiser to new examples and to densities: the probability flow, its Heun sampler, and the variational bound.

``denoiser(x, sigma)`` gives the clean examples for noisy ones (examples, ...) at noise levels (examples,), each by itself. The
score of the density with noise sigma is ``(D(x; sigma) - x) / sigma^2``. Karras et al. 2022, arXiv:2206.00364, algorithm 1; Song
et al. 2021, "Score-based generative modeling through stochastic differential equations", arXiv:2011.13456; Kingma et al. 2021,
"Variational diffusion models", arXiv:2107.00630.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys

Denoiser = Callable[[Tensor, Tensor], Tensor]
_RHO = 7.0  # how the sampler's levels crowd towards the least one (the paper's)
_LEVELS, _NOISE = 1, 2  # salts


def levels(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """The sampler's ``steps`` noise levels from the largest to the least, and 0."""
    if steps == 1:
        return [sigma_max, 0.0]
    high, low = sigma_max ** (1 / _RHO), sigma_min ** (1 / _RHO)
    return [(high + i / (steps - 1) * (low - high)) ** _RHO for i in range(steps)] + [0.0]


def heun(
    denoiser: Denoiser, start: Float[Tensor, "examples ..."], steps: int, sigma_min: float, sigma_max: float
) -> Float[Tensor, "examples ..."]:
    """Examples, from standard normal numbers ``start``: the probability flow, integrated by Heun's second-order method.

    ``2 steps - 1`` calls of the denoiser. The noise that starts it is all that is random.
    """
    every = levels(steps, sigma_min, sigma_max)
    x = start * every[0]
    for now, then in itertools.pairwise(every):
        slope = (x - denoiser(x, x.new_full(x.shape[:1], now))) / now
        moved = x + (then - now) * slope
        if then > 0:
            other = (moved - denoiser(moved, x.new_full(x.shape[:1], then))) / then
            moved = x + (then - now) * 0.5 * (slope + other)
        x = moved
    return x


def guided(conditioned: Denoiser, unconditioned: Denoiser, guidance: float) -> Denoiser:
    """``D_c + guidance (D_c - D_u)``: away from what is likely anyway (Ho and Salimans 2022, arXiv:2207.12598)."""
    if not guidance:
        return conditioned

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        found = conditioned(x, sigma)
        return found + guidance * (found - unconditioned(x, sigma))

    return denoise


def flow_log_density(
    denoiser: Denoiser,
    x: Float[Tensor, "examples dim"],
    steps: int,
    sigma_min: float,
    sigma_max: float,
    sigma_data: float,
) -> Float[Tensor, " examples"]:
    """Log densities in nats by the change of variables along the probability flow, for few dimensions.

    With u = ln sigma, ``dx/du = x - D(x)`` and ``d ln p/du = -(dim - trace dD/dx)``, by Runge and Kutta's fourth-order method
    from ``sigma_min``, where x is, to ``sigma_max``, where the density is normal with variance ``sigma_max^2 + sigma_data^2``.
    The trace is exact, a derivative for each dimension.
    """
    dim = x.shape[1]

    def slopes(x: Tensor, u: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            given = x.detach().requires_grad_()
            clean = denoiser(given, given.new_full(given.shape[:1], math.exp(u)))
            trace = sum(
                torch.autograd.grad(clean[:, j].sum(), given, retain_graph=j < dim - 1)[0][:, j] for j in range(dim)
            )
        return (given - clean).detach(), dim - trace  # type: ignore[return-value]

    begin, end = math.log(sigma_min), math.log(sigma_max)
    step, change = (end - begin) / steps, x.new_zeros(x.shape[0])
    for i in range(steps):
        u = begin + i * step
        first, a = slopes(x, u)
        second, b = slopes(x + 0.5 * step * first, u + 0.5 * step)
        third, c = slopes(x + 0.5 * step * second, u + 0.5 * step)
        fourth, d = slopes(x + step * third, u + step)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
        change = change + step / 6 * (a + 2 * b + 2 * c + d)
    variance = sigma_max**2 + sigma_data**2
    normal = -0.5 * x.square().sum(1) / variance - 0.5 * dim * math.log(2 * math.pi * variance)
    return normal + change


def log_density_bound(
    denoiser: Denoiser,
    x: Float[Tensor, "examples ..."],
    key: Tensor,
    number: int,
    sigma_min: float,
    sigma_max: float,
) -> Float[Tensor, " examples"]:
    """A lower bound of log densities in nats, estimated at ``number`` noise levels that are spread evenly over ln sigma.

    The model is: normal numbers of deviation sigma_max, denoised down to sigma_min by small random steps, and normal noise of
    deviation sigma_min around what comes out. Its bound (Kingma et al. 2021) is minus the sum of ``|x|^2 / (2 sigma_max^2)``, the
    integral of ``E|x - D(x + sigma n)|^2 / sigma^2`` over ln sigma, and ``dim / 2 (ln(2 pi sigma_min^2) + 1)``. On Gaussians, by
    their own denoiser, it is equal to the log density but for terms of the size of ``sigma_min^2``. Each level and each number of
    noise depends on the key alone, so that differences between tasks, or examples, have little noise.
    """
    dim = x[0].numel()
    begin, end = math.log(sigma_min), math.log(sigma_max)
    shift = keys.uniform(key, (number,), _LEVELS, x.dtype)
    total = x.new_zeros(x.shape[0])
    for i in range(number):
        u = begin + (end - begin) * (i + shift[i]) / number
        sigma = u.exp().expand(x.shape[0])
        noise = keys.normal(keys.fold(key, i), x.shape[1:], _NOISE, x.dtype)  # the same for all examples
        away = (x - denoiser(x + sigma[0] * noise, sigma)).flatten(1).square().sum(1)
        total = total + away / sigma[0].square()
    integral = total * (end - begin) / number
    prior = x.flatten(1).square().sum(1) / (2 * sigma_max**2)
    return -(prior + integral + 0.5 * dim * (math.log(2 * math.pi * sigma_min**2) + 1))
