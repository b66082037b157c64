"""Curves from a Gaussian process, and the exact posterior against the textbook formula in numpy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop import keys as random_keys
from innerloop.core import Examples
from innerloop.tasks.curves.gaussian_process import exact_log_likelihood, exact_on_split, posterior

KEYS = random_keys.task_keys(3, "test", 0, 0, 6)


def numpy_kernel(kernel: str, a: np.ndarray, b: np.ndarray, length: float, scale: float, period: float) -> np.ndarray:
    d = np.abs(a[:, None] - b[None])
    if kernel == "rbf":
        return scale**2 * np.exp(-0.5 * (d / length) ** 2)
    if kernel == "matern52":
        r = d / length
        return scale**2 * (1 + math.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-math.sqrt(5) * r)
    return scale**2 * np.exp(-2 * np.sin(math.pi * d / period) ** 2 / length**2)


@pytest.mark.parametrize("kernel", ["rbf", "matern52", "periodic"])
def test_the_exact_posterior_is_the_textbooks(kernel):
    tasks = il.tasks.gaussian_process(kernel=kernel, dtype="float64").test
    batch, of = tasks.from_keys(KEYS), tasks.hyperparameters(KEYS)
    found = posterior(kernel, of, tasks.noise, batch)
    mean_ll = exact_log_likelihood(tasks, KEYS, batch)
    for i in range(len(KEYS)):
        own = [float(value[i]) for value in of]
        n, m = int(batch.support.mask[i].sum()), int(batch.query.mask[i].sum())
        x, y = (v[i, :n, 0].numpy() for v in (batch.support.x, batch.support.y))
        q, t = (v[i, :m, 0].numpy() for v in (batch.query.x, batch.query.y))
        inverse = np.linalg.inv(numpy_kernel(kernel, x, x, *own) + 0.02**2 * np.eye(n))
        across = numpy_kernel(kernel, q, x, *own)
        mean = across @ inverse @ y
        variance = own[1] ** 2 + 0.02**2 - np.einsum("ij,jk,ik->i", across, inverse, across)
        assert np.allclose(found.mean[i, :m], mean, atol=1e-6)
        assert np.allclose(found.variance[i, :m], variance, atol=1e-7)
        densities = -0.5 * (t - mean) ** 2 / variance - 0.5 * np.log(2 * math.pi * variance)
        assert float(mean_ll[i]) == pytest.approx(densities.mean(), abs=1e-3)


def test_curves_have_the_covariance_that_they_should():
    tasks = il.tasks.gaussian_process(
        shots=2, queries=1, length=(0.5, 0.5), scale=(0.8, 0.8), noise=0.3, dtype="float64"
    ).train
    batch = tasks.at(0, 0, 40_000)
    x, y = batch.support.x[..., 0], batch.support.y[..., 0]
    expected = 0.64 * torch.exp(-0.5 * ((x[:, 0] - x[:, 1]) / 0.5) ** 2)
    assert float((y[:, 0] * y[:, 1] - expected).mean()) == pytest.approx(0, abs=0.015)
    assert float(y.var()) == pytest.approx(0.64 + 0.09, rel=0.03)


def test_sizes_are_the_benchmarks():
    tasks = il.tasks.gaussian_process().train
    batch = tasks.at(0, 0, 3_000)
    shots, queries = batch.support.mask.sum(1), batch.query.mask.sum(1)
    assert (int(shots.min()), int(shots.max())) == (3, 46) and int(queries.min()) == 3
    assert int((shots + queries).max()) == 49 and int(queries.max()) > 40
    assert float(shots.double().mean()) == pytest.approx(24.5, abs=0.8)
    assert not batch.support.y[~batch.support.mask].any() and not batch.query.y[~batch.query.mask].any()
    of = tasks.hyperparameters(random_keys.task_keys(0, "train", 0, 0, 3_000))
    for value, (low, high) in zip(of, ((0.1, 0.6), (0.1, 1.0), (0.1, 0.5)), strict=True):
        assert low <= float(value.min()) < low + 0.01 and high - 0.01 < float(value.max()) <= high


def test_no_other_prediction_is_more_likely_on_average():
    """The exact posterior beats itself with other means and other widths."""
    tasks = il.tasks.gaussian_process(dtype="float64").test
    keys = random_keys.task_keys(0, "test", 0, 0, 200)
    batch = tasks.from_keys(keys)
    best = float(exact_on_split(tasks, 200).mean())
    for factor in (0.7, 1.4):
        wrong = dataclasses.replace(
            batch, support=Examples(batch.support.x, factor * batch.support.y, batch.support.mask)
        )
        assert float(exact_log_likelihood(tasks, keys, wrong).mean()) < best - 0.05


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": "rbff"}, il.ConfigError, "did you mean 'rbf'"),
        ({"noise": 0.0}, il.InputError, "noise expected a finite standard deviation of at least 0.001, got 0.0"),
        ({"length": (0.0, 1.0)}, il.InputError, "length expected numbers above 0"),
        ({"scale": (1.0, 0.5)}, il.InputError, "scale expected two finite numbers, low then high"),
        ({"shots": 0}, il.InputError, "shots expected at least 1"),
        ({"max_points": 5}, il.InputError, "max_points expected at least 8"),
    ],
)
def test_what_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        il.tasks.gaussian_process(**options)
