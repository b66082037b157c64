"""Samplers and densities against closed forms: Gaussians and mixtures, whose best denoisers are known."""

import itertools
import math

import pytest
import torch

from innerloop import keys
from innerloop.functional.probability_flow import flow_log_density, guided, heun, levels, log_density_bound
from innerloop.tasks.densities.mixtures import Mixture

KEY = torch.tensor(7)


def gaussian(spread):
    """The best denoiser of N(0, diag(spread^2))."""
    spread = torch.as_tensor(spread, dtype=torch.float64)

    def denoise(x, sigma):
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        return x * spread**2 / (spread**2 + level**2)

    return denoise


def log_normal(x, variance):
    return (-0.5 * x.square() / variance - 0.5 * torch.log(2 * math.pi * variance)).flatten(1).sum(1)


def mixture():
    return Mixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.0, 0.5], [0.8, -0.4]], dtype=torch.float64),
        torch.tensor([[[0.3, 0.0], [0.1, 0.2]], [[0.5, 0.0], [-0.2, 0.15]]], dtype=torch.float64),
    )


def test_levels_fall_from_the_largest_to_the_least_and_end_at_0():
    found = levels(5, 0.002, 80.0)
    assert found[0] == pytest.approx(80.0) and found[-2] == pytest.approx(0.002) and found[-1] == 0.0
    assert all(a > b for a, b in itertools.pairwise(found))
    # The paper's formula at its second level.
    assert found[1] == pytest.approx((80 ** (1 / 7) + 0.25 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)
    assert levels(1, 0.002, 80.0) == [80.0, 0.0]


def test_heun_follows_the_exact_solution_to_second_order():
    """For N(0, s^2) the flow has the solution x(sigma) = x(T) sqrt((s^2 + sigma^2) / (s^2 + T^2))."""
    spread, start = 0.7, torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = start * 80.0 * spread / math.sqrt(spread**2 + 80.0**2)
    errors = []
    for steps in (16, 32, 64):
        made = heun(gaussian(spread), start, steps, 0.002, 80.0)
        errors.append(float((made - exact).abs().max()))
    assert errors[2] < 5e-3
    # The step from the least level to 0 is of first order, but tiny; the others' error falls by four.
    assert 3.3 < errors[0] / errors[1] < 5.5 and 3.3 < errors[1] / errors[2] < 5.5


def test_samples_of_a_mixture_have_its_moments():
    true, dtype = mixture(), torch.float64
    start = keys.normal(KEY, (4000, 2), 0, dtype)
    mean = true.weights @ true.centres
    around = true.roots @ true.roots.mT + true.centres[:, :, None] * true.centres[:, None]
    spread = torch.einsum("p,pij->ij", true.weights, around) - mean[:, None] * mean
    left = float((true.weights * torch.special.ndtr(-true.centres[:, 0] / true.roots[:, 0].norm(dim=-1))).sum())
    for points in (heun(true.denoise, start, 80, 0.002, 80.0), true.sample(KEY, 4000, 3)):  # four standard errors
        assert torch.allclose(points.mean(0), mean, atol=0.06)
        assert torch.allclose(points.T.cov(), spread, atol=0.08)
        assert abs(float((points[:, 0] < 0).double().mean()) - left) < 0.03


@pytest.mark.parametrize("spread", [[0.5], [0.3, 1.2]])
def test_the_flow_gives_the_log_density_of_gaussians(spread):
    wide = torch.tensor(spread, dtype=torch.float64)
    x = keys.normal(KEY, (20, len(spread)), 1, torch.float64) * wide
    found = flow_log_density(gaussian(spread), x, 64, 0.002, 80.0, 0.5)
    assert torch.allclose(found, log_normal(x, wide**2 + 0.002**2), atol=2e-4)


def test_the_flow_gives_the_log_density_of_a_mixture():
    true = mixture()
    x = true.sample(KEY, 50, 1)
    found = flow_log_density(true.denoise, x, 64, 0.002, 400.0, 1.0)
    assert torch.allclose(found, true.log_density(x, 0.002), atol=2e-3)
    # The mean of the data is not 0, which the flow's end forgets: about |mean| |x| / sigma_max.
    early = flow_log_density(true.denoise, x, 64, 0.002, 80.0, 1.0)
    assert 4e-3 < float((early - true.log_density(x, 0.002)).abs().max()) < 1.2e-2


def test_the_bound_is_tight_on_gaussians_and_below_for_a_worse_denoiser():
    spread = torch.tensor([0.5, 0.3, 1.2, 0.8], dtype=torch.float64)
    x = keys.normal(KEY, (6, 4), 1, torch.float64) * spread
    exact = log_normal(x, spread**2)
    each = torch.stack([log_density_bound(gaussian(spread), x, keys.fold(KEY, i), 256, 0.002, 80.0) for i in range(64)])
    error = each.std(0) / 8
    assert bool(((each.mean(0) - exact).abs() < 4 * error + 1e-3).all()) and float(error.max()) < 0.2
    worse = torch.stack(
        [log_density_bound(gaussian(2 * spread), x, keys.fold(KEY, i), 256, 0.002, 80.0) for i in range(64)]
    )
    # In the mean over the data the wrong model is below.
    assert float(worse.mean()) < float(each.mean()) - 0.5


def test_the_bound_has_the_same_noise_for_all_examples_and_whatever_the_batch():
    x = torch.ones(3, 4, dtype=torch.float64)
    whole = log_density_bound(gaussian(1.0), x, KEY, 16, 0.002, 80.0)
    assert torch.equal(whole, whole[:1].expand(3))
    assert torch.equal(whole[:1], log_density_bound(gaussian(1.0), x[:1], KEY, 16, 0.002, 80.0))


def test_guidance_goes_on_in_the_direction_of_the_condition():
    x, sigma = torch.ones(2, 1, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    plain, other = gaussian(1.0), gaussian(2.0)
    found = guided(plain, other, 0.5)(x, sigma)
    assert torch.allclose(found, 1.5 * plain(x, sigma) - 0.5 * other(x, sigma))
    assert guided(plain, other, 0.0) is plain


def test_the_mixtures_score_is_the_gradient_of_its_log_density():
    true = mixture()
    x = true.sample(KEY, 10, 1).requires_grad_()
    sigma = torch.linspace(0.05, 2.0, 10, dtype=torch.float64)
    (slope,) = torch.autograd.grad(true.log_density(x, sigma).sum(), x)
    assert torch.allclose(true.denoise(x.detach(), sigma), x.detach() + sigma[:, None] ** 2 * slope, atol=1e-10)


def test_the_mixtures_log_density_is_that_of_torch():
    true = mixture()
    x = true.sample(KEY, 10, 1)
    parts = torch.distributions.MultivariateNormal(true.centres, scale_tril=true.roots)
    other = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(true.weights), parts)
    # The roots here are lower triangular with positive diagonals, as torch wants them.
    assert torch.allclose(true.log_density(x), other.log_prob(x))
