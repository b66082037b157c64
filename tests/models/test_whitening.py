"""A whitened last layer beside what it must equal: a covariance of ones, and scikit-learn's discriminant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from innerloop import models
from innerloop.errors import ConfigError, InputError, ShapeError


def examples(classes: int = 6, each: int = 30, width: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes that differ little, along the first axis, and vary much along the others, which are mixed."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.3, 3.0, 5.0, 1.0])[:width]
    means = torch.zeros(classes, width)
    means[:, 0] = torch.arange(classes)
    x = (means[:, None] + spread * torch.randn(classes, each, width, generator=g)).flatten(0, 1)
    mix = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(9)))[0]
    x[:, 2] += 1000  # where the examples lie must not matter
    return (x.double() @ mix.double()), torch.arange(classes).repeat_interleave(each) * 7 - 3


def linear(width: int, outputs: int) -> nn.Module:
    return models.mlp(width, outputs, hidden=()).double()


def within(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    apart = torch.cat([z[y == c] - z[y == c].mean(0) for c in y.unique()])
    return apart.T @ apart / len(apart)


def test_within_classes_all_directions_become_alike():
    x, y = examples()
    model = models.whiten(linear(4, 4), x, y, ridge=1e-9)
    z = model(x).detach()
    torch.testing.assert_close(within(z, y), torch.eye(4).double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(z.mean(0), torch.zeros(4).double(), atol=1e-9, rtol=0)
    assert (z.var(0).diff() < 0).all()  # those of most variance first


def test_the_ridge_is_added_in_units_of_the_mean_variance():
    x, y = examples()
    z = models.whiten(linear(4, 4), x, y, ridge=0.5)(x).detach()
    of_x = torch.linalg.eigvalsh(within(x, y))
    expected = of_x / (of_x + 0.5 * of_x.mean())
    torch.testing.assert_close(torch.linalg.eigvalsh(within(z, y)), expected)


def test_nearest_means_are_the_linear_discriminant():
    x, y = examples()
    new, _ = examples(seed=1)
    for outputs in (4, 1):  # all the classes differ along one axis, so one output is enough
        z, asked = (models.whiten(linear(4, outputs), x, y, ridge=1e-9)(v).detach() for v in (x, new))
        means = torch.stack([z[y == c].mean(0) for c in y.unique()])
        found = y.unique()[torch.cdist(asked, means).argmin(1)].numpy()
        known = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(6, 1 / 6)).fit(x, y).predict(new)
        assert (found == known).mean() > (0.99 if outputs == 4 else 0.95)


def test_fewer_examples_than_features_and_more_outputs_than_rank():
    x, y = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).double(), torch.arange(3).repeat(2)
    model = models.whiten(linear(40, 9), x, y)
    z = model(x).detach()
    assert (z[:, :5].std(0) > 1e-3).all()  # six examples span five directions around their mean
    torch.testing.assert_close(z[:, 5:], torch.zeros(6, 4).double())
    beside = torch.linalg.svd(x - x.mean(0))[2][-1]  # outside of that span nothing is known, and nothing counts
    torch.testing.assert_close(model(x + 5 * beside).detach(), z)


def test_pictures_go_through_the_model_as_in_evaluation():
    torch.manual_seed(0)
    model = models.conv4((1, 16, 16), 1, filters=3)
    before = {name: b.clone() for name, b in model.named_buffers()}
    x, y = torch.rand(300, 1, 16, 16), torch.arange(300) % 5
    models.whiten(model, x, y)
    assert model.training and all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    z = model.eval()(x).detach()
    torch.testing.assert_close(z.mean(0), torch.zeros(1), atol=1e-3, rtol=0)
    assert within(z, y)[0, 0].item() == pytest.approx(1 / 1.3, rel=0.02)  # one direction and the ridge of 0.3


def test_what_cannot_be_whitened_is_refused():
    x, y = examples()
    with pytest.raises(ConfigError, match="head, is linear, got Identity: build it with outputs"):
        models.whiten(models.oriented_gradients(1, None), torch.rand(4, 1, 28, 28), torch.arange(4))
    with pytest.raises(ConfigError, match="ridge expected a number above 0, got 0"):
        models.whiten(linear(4, 2), x, y, ridge=0)
    with pytest.raises(ShapeError, match=r"one class an example, \(180,\), got \(3,\)"):
        models.whiten(linear(4, 2), x, y[:3])
    with pytest.raises(InputError, match="at least two classes, got 1"):
        models.whiten(linear(4, 2), x, torch.zeros_like(y))
    with pytest.raises(InputError, match="two different examples, got none"):
        models.whiten(linear(4, 2), x[::30].repeat(3, 1), torch.arange(6).repeat(3))
