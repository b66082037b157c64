"""GP mixture: Bayes' rule over processes and exact posteriors, against numpy; and what the prior learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import Examples
from innerloop.methods.gp_mixture import covariances, variances

pytestmark = pytest.mark.usefixtures("double")
GENERATOR = np.random.default_rng(0)
X, Y, Q, T = (GENERATOR.normal(size=(n, 1)) for n in (7, 7, 5, 5))


def learner(**options) -> il.MetaLearner:
    torch.manual_seed(0)
    return il.gp_mixture(il.models.mlp(1, None, hidden=()), outputs=1, **options)


def prior_of(made: il.MetaLearner) -> dict[str, np.ndarray]:
    return {name.rpartition(".")[2]: p.detach().numpy() for name, p in made.named_parameters()}


def numpy_covariance(of: dict[str, np.ndarray], i: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = np.abs(a[:, None, 0] - b[None, :, 0])
    length, rough, period, smoothness = (
        math.exp(of[f"log_{name}"][i]) for name in ("length", "rough_length", "period", "periodic_length")
    )
    s = np.exp(of["log_sizes"][i]) ** 2
    r = math.sqrt(3) * d / rough
    return (
        s[0] * np.exp(-0.5 * (d / length) ** 2)
        + s[1] * (1 + r) * np.exp(-r)
        + s[2] * np.exp(-d / rough)
        + s[3] * np.exp(-2 * np.sin(math.pi * d / period) ** 2 / smoothness**2)
        + s[4] * a @ b.T
        + s[5]
    )


def test_weights_and_posteriors_are_the_textbooks():
    """Of 5 processes with 2 noises each, the 4 of most prior times evidence answer, with their exact posteriors."""
    made = learner(processes=5, noises=2, kept=4)
    with torch.no_grad():
        for name, p in made.named_parameters():
            p += 0.3 * torch.randn(p.shape) if not name.endswith("log_trust") else 0
    of, found = prior_of(made), []
    for i in range(5):
        for j in range(2):
            noise = math.exp(2 * of["log_noise"][i, j]) + 0.005**2
            inside = numpy_covariance(of, i, X, X) + noise * np.eye(7)
            across = numpy_covariance(of, i, Q, X)
            alone = np.diag(numpy_covariance(of, i, Q, Q))
            evidence = -0.5 * float(Y[:, 0] @ np.linalg.solve(inside, Y[:, 0])) - 0.5 * np.linalg.slogdet(inside)[1]
            mean = across @ np.linalg.solve(inside, Y[:, 0])
            variance = alone - np.einsum("qs,sq->q", across, np.linalg.solve(inside, across.T)) + noise
            found.append((of["log_prior"][i, j] + evidence, mean, variance))
    found.sort(key=lambda one: -one[0])
    weights = np.exp([one[0] - found[0][0] for one in found[:4]])
    weights /= weights.sum()
    means, spreads = (np.stack([one[k] for one in found[:4]]) for k in (1, 2))
    fitted = made.adapt(X, Y)
    assert np.allclose(fitted.predict(Q)[:, 0], weights @ means)
    spread = weights @ (spreads + means**2) - (weights @ means) ** 2
    assert np.allclose(fitted.predict_std(Q)[:, 0] ** 2, spread)
    each = -0.5 * ((T[:, 0] - means) ** 2 / spreads + np.log(2 * math.pi * spreads))
    density = fitted.learner.log_density(fitted.meta, fitted.fast, Examples(torch.tensor(Q), torch.tensor(T)))
    assert np.allclose(density.numpy(), np.log(weights @ np.exp(each)))


def test_variances_are_the_covariances_diagonal():
    z = torch.randn(6, 3)
    of = {k: torch.as_tensor(v) for k, v in prior_of(learner(processes=4)).items() if v.ndim}
    assert torch.allclose(variances(of, z), covariances(of, z, z).diagonal(dim1=1, dim2=2), atol=1e-5)


def test_covariances_of_several_columns_are_those_of_something():
    """None has a negative eigenvalue, in three columns too: the periodic part multiplies columns, distances do not."""
    z = torch.randn(40, 3)
    of = {k: torch.as_tensor(v) for k, v in prior_of(learner(processes=10)).items() if v.ndim}
    assert float(torch.linalg.eigvalsh(covariances(of, z, z)).min()) > -1e-8


def test_far_from_all_points_it_is_as_unsure_as_before_them():
    fitted = learner().adapt(X, Y)
    near, far = fitted.predict_std(X).mean(), fitted.predict_std(X + 50).mean()
    assert far > 2 * near


def test_training_makes_it_sure_of_what_its_tasks_share():
    """Straight lines without noise: after some steps two points say where the third is."""
    lines = torch.randn(64, 2)
    x = torch.linspace(-1, 1, 6).expand(64, -1)
    y = lines[:, :1] * x + lines[:, 1:]
    shown, asked = (il.Examples(x[:, rows, None], y[:, rows, None]) for rows in (slice(0, 6, 2), slice(1, 6, 2)))
    batch = il.Task(shown, asked)
    made, likely = learner(processes=5, noises=2, kept=4), []
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    for _ in range(40):
        likely.append(float(made.backward(batch)["log_likelihood"]))
        optimizer.step()
        optimizer.zero_grad()
    assert likely[0] < 1 and likely[-1] > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"processes": 2, "noises": 2}, "kept expected at most 2 processes times 2 noises, got 8"), ({"kept": 0}, "kept expected")],
)  # fmt: skip
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(il.ConfigError, match=message):
        learner(**options)


def test_more_points_than_are_feasible_are_one_line():
    x = np.linspace(0, 1, 1_001)[:, None]
    with pytest.raises(il.InputError, match=r"at most 1,000 examples.* got 1,001"):
        learner().adapt(x, x)
