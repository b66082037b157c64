"""The sine problem against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from innerloop import keys as random_keys
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.curves.sinusoid import sinusoid

KEYS = random_keys.task_keys(3, "train", 0, 0, 500)


def test_finn_protocol():
    tasks = sinusoid(dtype="float64").train
    amplitude, phase, frequency = tasks.parameters(KEYS)
    assert 0.1 <= amplitude.min() < 0.2 and 4.9 < amplitude.max() <= 5
    assert 0 <= phase.min() < 0.1 and 3.05 < phase.max() <= math.pi
    batch = tasks.from_keys(KEYS)
    assert batch.support.x.shape == batch.query.y.shape == (500, 10, 1)
    assert -5 <= batch.support.x.min() < -4.9 and 4.9 < batch.support.x.max() <= 5
    for side in (batch.support, batch.query):
        expected = amplitude[:, None, None] * torch.sin(side.x - phase[:, None, None])
        torch.testing.assert_close(side.y, expected, atol=1e-12, rtol=0)
    assert torch.equal(frequency, torch.ones(500, dtype=torch.float64))
    assert not torch.isin(batch.support.x, batch.query.x).any()


def test_grid_protocol():
    tasks = sinusoid(preset="grid", dtype="float64").train
    amplitude, phase, _ = tasks.parameters(KEYS)
    assert -math.pi <= phase.min() < -3 and 3 < phase.max() <= math.pi
    batch = tasks.from_keys(KEYS)
    points = torch.cat([batch.support.x, batch.query.x], 1)[..., 0]
    torch.testing.assert_close(
        points.sort(1).values,
        torch.linspace(-5, 5, 20, dtype=torch.float64).expand(500, -1),
        atol=1e-12,
        rtol=0,
    )
    assert not torch.equal(batch.support.x[0], batch.support.x[1])
    for side in (batch.support, batch.query):
        rest = side.y - amplitude[:, None, None] * torch.sin(side.x + phase[:, None, None])
        assert 0.0095 < rest.std() < 0.0105 and abs(rest.mean()) < 1e-3


def test_support_and_query_noise_are_independent():
    tasks = sinusoid(noise=1.0, amplitude=(0.0, 0.0), dtype="float64").train
    batch = tasks.from_keys(KEYS)
    together = torch.stack([batch.support.y.flatten(), batch.query.y.flatten()])
    assert abs(torch.corrcoef(together)[0, 1]) < 0.06


def test_training_may_have_more_points_than_the_test():
    family = sinusoid(shots=5, train_shots=10, train_queries=7)
    assert family.train.at(0, 0, 2).support.x.shape == (2, 10, 1)
    assert family.train.at(0, 0, 2).query.x.shape == (2, 7, 1)
    assert family.test.at(0, 0, 2).support.x.shape == (2, 5, 1)
    assert not torch.equal(family.valid.at(0, 0, 2).support.x, family.test.at(0, 0, 2).support.x)


@pytest.mark.parametrize("preset", ["finn", "grid"])
def test_a_task_depends_on_its_key_alone(preset):
    tasks = sinusoid(preset=preset).train
    whole, part = tasks.from_keys(KEYS), tasks.from_keys(KEYS[7:20])
    assert torch.equal(whole.support.x[7:20], part.support.x) and torch.equal(whole.query.y[7:20], part.query.y)
    assert torch.equal(whole.noise[7:20], part.noise)


def test_options_make_the_same_problem_again():
    family = sinusoid(preset="grid", noise=0.5, frequency=(1.0, 2.0), shots=4)
    again = sinusoid(**family.options)
    assert torch.equal(family.test.at(1, 2, 3).support.y, again.test.at(1, 2, 3).support.y)
    assert family.options["noise"] == 0.5 and family.options["phase"] == [-math.pi, math.pi]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preset": "fin"}, ConfigError, "did you mean 'finn'"),
        ({"inputs": "lattice"}, ConfigError, "inputs expected 'random' or 'grid', got 'lattice'"),
        ({"preset": "grid", "shots": 15}, InputError, r"at most 20, the grid's points, got 15 \+ 10"),
        (
            {"amplitude": (5.0, 0.1)},
            InputError,
            "amplitude expected two finite numbers, low then high, got 5.0, 0.1",
        ),
        ({"noise": -1.0}, InputError, "noise"),
        ({"noise": math.nan}, InputError, "noise"),
        ({"shots": 0}, InputError, "shots expected at least 1, got 0"),
        ({"dtype": "float23"}, ConfigError, "dtype expected 'float32' or 'float64', got 'float23'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        sinusoid(**options)


def test_default_model_is_the_paper_s():
    model = sinusoid().train.default_model()
    assert [tuple(p.shape) for p in model.parameters()] == [(40, 1), (40,), (40, 40), (40,), (1, 40), (1,)]
