"""The histogram head against numerical integration, and the prior-fitted network around it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.methods.pfn import (
    bar_log_density,
    bar_moments,
    checked_borders,
    fitted_borders,
    normal_borders,
)

pytestmark = pytest.mark.usefixtures("double")


def raw(outputs: int | None = None) -> torch.nn.Module:
    return il.models.mlp(1, outputs, hidden=())


def test_the_density_integrates_to_one_with_its_mean_and_variance():
    generator = torch.Generator().manual_seed(0)
    borders = torch.tensor([-2.0, -1.1, -0.3, 0.2, 0.9, 2.5])
    logits = torch.randn(4, 5, generator=generator)
    y = torch.linspace(-12, 14, 520_001)
    step = float(y[1] - y[0])
    mean, variance = bar_moments(logits, borders)
    for row, m, v in zip(logits, mean, variance, strict=True):
        density = bar_log_density(row.expand(len(y), -1), borders, y).exp()
        assert float(density.sum() * step) == pytest.approx(1, abs=1e-4)
        assert float((density * y).sum() * step) == pytest.approx(float(m), abs=1e-3)
        assert float((density * (y - m) ** 2).sum() * step) == pytest.approx(float(v), abs=2e-3)


def test_each_bar_holds_its_share():
    borders = torch.tensor([-2.0, -1.0, 0.0, 0.5, 3.0])
    chances = torch.tensor([0.1, 0.4, 0.2, 0.3])
    density = bar_log_density(chances.log().expand(5, -1), borders, torch.tensor([-1.0, -0.5, 0.2, 0.5, -3.0])).exp()
    assert torch.allclose(density[1:3], torch.tensor([0.4, 0.4]))
    assert float(density[0]) == pytest.approx(0.4)  # a border belongs to the bar above it
    scale = 1.0 / 0.6744897501960817
    assert float(density[4]) == pytest.approx(0.1 * (2 / np.pi) ** 0.5 / scale * np.exp(-0.5 * (2.0 / scale) ** 2))
    scale = 2.5 / 0.6744897501960817
    assert float(density[3]) == pytest.approx(0.3 * (2 / np.pi) ** 0.5 / scale)


def test_borders():
    found = normal_borders(4)
    assert np.allclose(found[1:-1], [-0.67449, 0, 0.67449], atol=1e-5) and found[-1] == -found[0] > 1
    y = torch.randn(50_000, generator=torch.Generator().manual_seed(1))
    assert np.allclose(fitted_borders(y, 10)[1:-1], normal_borders(10)[1:-1], atol=0.03)
    with pytest.raises(il.InputError, match="use fewer buckets"):
        fitted_borders(torch.zeros(100), 10)
    with pytest.raises(il.ConfigError, match="numbers that ascend"):
        checked_borders([0.0, 2.0, 1.0, 3.0])
    with pytest.raises(il.ConfigError, match="buckets expected an integer of at least 3, got 2"):
        il.pfn(raw(), outputs=1, buckets=2)


def test_the_command_line_fits_borders_to_the_problem():
    from innerloop.assemble import assemble

    learner, family = assemble("pfn", "sinusoid", task_options={"shots": 5}, algorithm_options={"buckets": 20})
    y = family.train.at(1, 0, 3_000).support.y.flatten()
    shares = torch.histogram(y.double(), torch.tensor(learner.options["borders"]).double()).hist / y.numel()
    assert torch.allclose(shares, torch.full_like(shares, 0.05), atol=0.01)


def batch(shots: int = 6, queries: int = 4) -> Task:
    generator = torch.Generator().manual_seed(2)
    sides = [Examples(*(torch.randn(3, n, 1, generator=generator) for _ in range(2))) for n in (shots, queries)]
    return Task(*sides)


def test_support_order_and_other_queries_do_not_matter():
    learner, task = il.pfn(raw(), outputs=1, width=16, depth=3), batch()
    plain = learner.predict_queries(task)
    order = torch.tensor([4, 1, 0, 5, 3, 2])
    moved = dataclasses.replace(task, support=Examples(task.support.x[:, order], task.support.y[:, order]))
    assert torch.allclose(learner.predict_queries(moved), plain, atol=1e-12)
    fewer = dataclasses.replace(task, query=Examples(task.query.x[:, 1:2], task.query.y[:, 1:2]))
    assert torch.allclose(learner.predict_queries(fewer), plain[:, 1:2], atol=1e-12)
    other = dataclasses.replace(task, support=Examples(task.support.x, task.support.y + 1))
    assert not torch.allclose(learner.predict_queries(other), plain, atol=1e-3)


def test_what_is_predicted_is_the_histogram_of_the_loss():
    """The loss, the mean, the spread and the metric all come from one distribution."""
    learner, task = il.pfn(raw(), outputs=1, width=16, depth=2, buckets=12), batch()
    borders = torch.tensor(normal_borders(12))
    inner = learner.learner.in_evaluation()
    for i in range(3):
        one = Task(*(Examples(s.x[i], s.y[i]) for s in (task.support, task.query)))
        fast = inner.adapt(learner.meta(), one, 1)
        logits = inner.distribution(learner.meta(), fast, one.query.x).logits[:, 0]
        mean, variance = bar_moments(logits, borders)
        fitted = learner.adapt(one.support.x, one.support.y)
        assert torch.allclose(fitted.predict(one.query.x)[:, 0], mean)
        assert torch.allclose(fitted.predict_std(one.query.x)[:, 0], variance.sqrt())
        density = bar_log_density(logits, borders, one.query.y[:, 0])
        assert torch.allclose(inner.log_density(learner.meta(), fast, one.query), density)
    each = [Task(*(Examples(s.x[i : i + 1], s.y[i : i + 1]) for s in (task.support, task.query))) for i in range(3)]
    losses = [float(learner.backward(one)["loss"]) for one in each]
    assert float(learner.backward(task)["loss"]) == pytest.approx(sum(losses) / 3)
    assert losses[2] == pytest.approx(-float(density.mean()))
