"""The Gaussian process in one file against textbooks: kernels, factor, posterior, likelihood; with autograd, inside vmap."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

import innerloop as il
from innerloop.functional import gaussian_process as gp

pytestmark = pytest.mark.usefixtures("double")


def rows(number: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(name: str, a: torch.Tensor, b: torch.Tensor, length: torch.Tensor) -> float:
    """One entry of the covariance, as books write it."""
    d = math.sqrt(sum(float((a[j] - b[j]) / length[j]) ** 2 for j in range(len(a))))
    if name == "rbf":
        return math.exp(-(d**2) / 2)
    if name == "matern12":
        return math.exp(-d)
    if name == "matern32":
        return (1 + math.sqrt(3) * d) * math.exp(-math.sqrt(3) * d)
    if name == "matern52":
        return (1 + math.sqrt(5) * d + 5 * d**2 / 3) * math.exp(-math.sqrt(5) * d)
    if name == "linear":
        return float(a @ b) / len(a)
    if name == "cosine":
        return float(a @ b / (a.norm() * b.norm()))
    if name == "hamming":
        return math.exp(-sum(float(a[j] != b[j]) / float(length[j]) for j in range(len(a))))
    assert name == "periodic"  # with a period of 1
    turned = [math.sin(math.pi * float(a[j] - b[j])) ** 2 for j in range(len(a))]
    return math.exp(-2 * sum(turned) / float(length[0]) ** 2)


@pytest.mark.parametrize("columns", [3, 40])  # by differences, by products
@pytest.mark.parametrize("name", gp.KERNELS)
def test_kernels_are_the_textbooks(name, columns):
    a, b = rows(5, columns), rows(4, columns, 1)
    if name == "hamming":
        a, b = a.sign(), b.sign()
    kernel = gp.Covariance.named(name)
    each = columns if "length" in gp.KERNELS[name].by_column else None
    of = kernel.begins(each)
    length = torch.linspace(0.7, 3.0, columns) if each else torch.full((columns,), 1.3)
    of[f"{name}_scale"] = torch.tensor(1.7)
    if f"{name}_length" in of:
        of[f"{name}_length"] = length if each else length[0]
    found = kernel.between(of, a, b)
    expected = torch.tensor([[1.7**2 * by_hand(name, one, other, length) for other in b] for one in a])
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(kernel.alone(of, a), kernel.between(of, a, a).diagonal(), atol=1e-12)
    assert float(torch.linalg.eigvalsh(kernel.between(of, a, a)).min()) > -1e-10


def test_a_sum_is_the_sum():
    a, b = rows(5, 2), rows(3, 2, 1)
    both = gp.Covariance.named("rbf+linear")
    of = {**both.begins(), "linear_scale": torch.tensor(0.5)}
    assert sorted(of) == ["linear_scale", "rbf_length", "rbf_scale"]
    expected = gp.rbf(gp.square_distances(a, b)) + 0.25 * gp.linear(a, b)
    assert torch.allclose(both.between(of, a, b), expected, atol=1e-14)
    assert torch.allclose(both.alone(of, a), both.between(of, a, a).diagonal())


@pytest.mark.parametrize(("words", "message"), [("rbff", "did you mean 'rbf'"), ("rbf+rbf", "each name once")])
def test_names_that_are_none(words, message):
    with pytest.raises(il.ConfigError, match=message):
        gp.Covariance.named(words)


def test_categories_may_be_whole_numbers():
    a = torch.tensor([[0, 1], [0, 2]])
    found = gp.hamming(a, a, torch.tensor([1.0, 2.0]))
    assert torch.allclose(found, torch.tensor([[1.0, math.exp(-0.5)], [math.exp(-0.5), 1.0]]))


def seen(x, y, noise=0.09, counts=None, name="rbf"):
    kernel = gp.Covariance.named(name)
    return gp.observe(kernel.between(kernel.begins(), x, x), noise, y, counts)


def test_the_likelihood_is_torchs():
    x, y = rows(9, 2), rows(9, 2, 1)
    found = seen(x, y).log_likelihood()
    covariance = gp.rbf(gp.square_distances(x, x)) + 0.09 * torch.eye(9)
    theirs = torch.distributions.MultivariateNormal(torch.zeros(9), covariance).log_prob(y.T)
    assert torch.allclose(found, theirs, atol=1e-10)


def test_the_posterior_is_the_naive_one():
    x, y, new = rows(9, 2), rows(9, 2, 1), rows(5, 2, 2)
    across = gp.rbf(gp.square_distances(new, x))
    mean, variance = seen(x, y).solved().at(across, torch.ones(5))
    inverse = torch.linalg.inv(gp.rbf(gp.square_distances(x, x)) + 0.09 * torch.eye(9))
    assert torch.allclose(mean, across @ inverse @ y, atol=1e-10)
    assert torch.allclose(variance, 1 - (across @ inverse * across).sum(-1), atol=1e-10)


def test_padding_changes_nothing():
    x, y, new = rows(9, 2), rows(9, 2, 1), rows(5, 2, 2)
    counts = torch.tensor([1.0] * 6 + [0.0] * 3)
    short, padded = seen(x[:6], y[:6]), seen(x, y, counts=counts)
    assert torch.allclose(short.log_likelihood(), padded.log_likelihood(), atol=1e-12)
    kernel = gp.Covariance.named("rbf")
    of, alone = kernel.begins(), torch.ones(5)
    few = short.solved().at(kernel.between(of, new, x[:6]), alone)
    all_of_it = padded.solved().at(kernel.between(of, new, x), alone)
    for one, other in zip(few, all_of_it, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_padding_changes_no_jitter():
    """Equal rows without noise need one; it is in units of each row's own variance."""
    x, y, counts = rows(4, 2)[[0, 0, 1, 2]] * 1e-3, rows(4, 1, 1) * 1e-3, torch.tensor([1.0, 1.0, 1.0, 0.0])
    short, padded = seen(x[:3], y[:3], 0.0, name="linear"), seen(x, y, 0.0, counts, name="linear")
    assert short.log_likelihood().isfinite().all()
    assert torch.allclose(short.log_likelihood(), padded.log_likelihood(), rtol=1e-12)
    one = torch.eye(4)
    found = [gp.observe(one[:n, :n], 0.5, y[:n], counts[:n], jitters=(0.1,)).log_likelihood() for n in (3, 4)]
    assert torch.allclose(*found, rtol=1e-12)


def test_no_distance_is_negative():
    x = 1e3 * rows(1, 40) + 1e-6 * rows(30, 40, 1)
    assert bool((gp.square_distances(x, x) >= 0).all())


@pytest.mark.parametrize("name", gp.KERNELS)
def test_slopes_are_those_of_differences(name):
    x, y = rows(5, 2), rows(5, 1, 1)
    kernel = gp.Covariance.named(name)
    begins = kernel.begins()

    def likelihood(x, y, noise, *values):
        of = dict(zip(begins, values, strict=True))
        return gp.observe(kernel.between(of, x, x), noise, y).log_likelihood()

    def asked(x, y, noise, *values):
        of = dict(zip(begins, values, strict=True))
        answers = gp.observe(kernel.between(of, x[1:], x[1:]), noise, y[1:]).solved()
        return answers.at(kernel.between(of, x[:1], x[1:]), kernel.alone(of, x[:1]))

    values = [x, y, torch.tensor(0.3), *(0.3 + v for v in begins.values())]
    values = [v.clone().requires_grad_() for v in values]
    if name == "hamming":  # flat in x
        values[0] = x.sign()
    assert gradcheck(likelihood, values) and gradcheck(asked, values)


@pytest.mark.parametrize("columns", [2, 40])
def test_rows_that_are_equal_have_finite_slopes(columns):
    for name in gp.KERNELS.keys() - {"hamming"}:  # which is flat
        x = rows(4, columns)[[0, 0, 1, 1]].clone().requires_grad_()
        seen(x, rows(4, 1, 1), 0.1, name=name).log_likelihood().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.any(), name


def test_inside_vmap_it_is_the_loop():
    x, y, counts = rows(24, 2).reshape(3, 8, 2), rows(24, 1, 1).reshape(3, 8, 1), torch.ones(3, 8)
    counts[1, 5:] = 0
    x[2, 1] = x[2, 0]  # with no noise this task needs jitter, and the others none

    def both(x, y, counts):
        found = seen(x, y, 0.0, counts)
        return found.log_likelihood(), found.factor

    together = torch.vmap(both)(x, y, counts)
    for i in range(3):
        alone = both(x[i], y[i], counts[i])
        assert all(torch.equal(a[i], b) for a, b in zip(together, alone, strict=True))
    batched = both(x, y, counts)
    assert all(torch.equal(a, b) for a, b in zip(together, batched, strict=True))


def test_a_factor_is_right_or_all_nan():
    one = torch.eye(3)
    assert torch.equal(gp.cholesky(4 * one), 2 * one)
    flat = torch.ones(3, 3)  # of rank 1: jitter helps, by as much as it says and no more
    factor = gp.cholesky(flat)
    assert float((factor @ factor.T - flat).abs().max()) <= 1.001e-10
    assert gp.cholesky(flat - 2 * one).isnan().all()  # no covariance
    assert gp.cholesky(torch.full((3, 3), torch.nan)).isnan().all()
    assert gp.cholesky(flat - 2 * one, (0.0,)).isnan().all()
    mixed = gp.cholesky(torch.stack([one, flat - 2 * one, flat]))
    assert torch.equal(mixed.isnan().all(-1).all(-1), torch.tensor([False, True, False]))
    low = gp.cholesky(torch.ones(50, 50, dtype=torch.float32))
    assert low.isfinite().all() and float((low @ low.T - 1).abs().max()) < 1e-4
