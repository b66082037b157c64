"""The swept baselines: the grid widens or is refused, the choice is by validation jobs, the interval by held-out ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.errors import ConfigError, InputError
from innerloop.evaluation import optimizer_sweep
from innerloop.evaluation.optimizer_sweep import best_rate, curves_at, which_optimizer

JOBS = il.tasks.quadratic_jobs(dim=2, horizon=10)


def test_the_best_rate_of_a_sweep():
    tried, valid, rate = best_rate("adam", JOBS.valid, num_jobs=8)
    assert len(tried) == len(valid) == 14 and tried[0] == pytest.approx(1e-4) and tried[-1] == pytest.approx(10)
    assert valid[tried.index(rate)] == min(valid)
    own = curves_at("adam", [rate], JOBS.valid, num_jobs=8, seed=12345, steps=10)[0]
    assert float(own.end.mean()) == pytest.approx(min(valid), rel=1e-5)


def test_a_best_rate_at_the_edge_widens_the_grid_or_is_refused():
    _, _, inside = best_rate("adam", JOBS.valid, num_jobs=8)
    tried, _, rate = best_rate("adam", JOBS.valid, num_jobs=8, rates=[inside * f for f in (0.02, 0.05, 0.1, 0.3)])
    assert len(tried) > 4 and tried[0] < rate < tried[-1] and rate == pytest.approx(inside, rel=2)
    with pytest.raises(ConfigError, match="at the edge"):
        best_rate("adam", JOBS.valid, num_jobs=8, rates=[1e-9, 2e-9, 3e-9])
    with pytest.raises(ConfigError, match="do not diverge"):
        best_rate("sgd", JOBS.valid, num_jobs=8, rates=[1e10, 2e10, 4e10])


def test_what_is_found():
    found = which_optimizer(JOBS, optimizers=["sgd", "adam"], num_valid=8, num_test=16)
    merit = {name: min(one.valid) for name, one in found.swept.items()}
    assert found.optimizer == min(merit, key=merit.__getitem__) == next(iter(found.swept))
    own = found.swept[found.optimizer].test
    assert found.mean == pytest.approx(float(own.end.mean())) and found.rate == found.swept[found.optimizer].rate
    assert found.ci95 == pytest.approx(1.96 * float(own.end.std()) / 4, rel=1e-4)
    other = next(name for name in ("sgd", "adam") if name != found.optimizer)
    assert found.lead[other][0] == pytest.approx(float((found.swept[other].test.end - own.end).mean()), rel=1e-4)
    best = found.curves[found.optimizer]
    assert len(found.curves[other]) == 10 and best[-1] < best[0]
    assert repr(found).startswith(f"use {found.optimizer} at a rate of") and other in repr(found)
    judged = il.evaluate(optimizer_sweep.tuned_optimizer(found.optimizer, found.rate), JOBS.test, num_tasks=16)
    assert judged.mean == pytest.approx(found.mean, rel=1e-4)


def test_packages_join_the_sweep_where_they_are(monkeypatch):
    """A stand-in for a package: it is run job by job, and told when weights are trained and when judged."""
    import sys
    import types

    modes = []

    class Own(torch.optim.SGD):
        def train(self):
            modes.append("train")

        def eval(self):
            modes.append("eval")

    package = types.ModuleType("own_optimizers")
    package.Own = Own
    monkeypatch.setitem(sys.modules, "own_optimizers", package)
    package.__spec__ = types.SimpleNamespace(name="own_optimizers")
    monkeypatch.setattr(
        optimizer_sweep, "PACKAGES", {"own": ("own_optimizers", "Own"), "away": ("not_there_xyz", "Away")}
    )
    found = which_optimizer(JOBS, num_valid=4, num_test=4, goal="curve")
    ours = {"sgd", "momentum", "adam", "rmsprop", "hypergradient_descent"}
    assert set(found.swept) == ours | {"own"} and set(found.left_out) == {"away"}
    assert found.swept["own"].rate == found.swept["sgd"].rate
    torch.testing.assert_close(found.swept["own"].test.losses, found.swept["sgd"].test.losses, rtol=1e-3, atol=1e-4)
    assert modes[:4] == ["train"] * 4 and modes[-1] == "eval"
    with pytest.raises(ConfigError, match="needs the package not_there_xyz"):
        which_optimizer(JOBS, optimizers=["away"])


def test_what_cannot_be_is_told():
    with pytest.raises(InputError, match="training jobs"):
        which_optimizer(il.tasks.sinusoid())
    with pytest.raises(ConfigError, match="did you mean 'adam'"):
        which_optimizer(JOBS, optimizers=["adma"])
    with pytest.raises(ConfigError, match="goal"):
        which_optimizer(JOBS, goal="last")
    with pytest.raises(ConfigError, match="num_test"):
        which_optimizer(JOBS, num_test=1)


def test_a_convolutional_network_can_be_swept():
    x, y = torch.randn(20, 1, 6, 6), torch.arange(20) % 2
    make = lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))  # noqa: E731
    jobs = il.tasks.training_jobs(make, (x, y), batch=8, horizon=3)
    curves = curves_at("adam", [0.01, 0.1], jobs.valid, num_jobs=2, seed=0, steps=3)
    assert all(bool(torch.isfinite(one.losses).all()) for one in curves)


def test_the_command_line_knows_the_same_optimizers():
    """By a list of its own, which imports no torch."""
    from innerloop.cli.compare_optimizers import NAMES

    assert (*optimizer_sweep.OURS, *optimizer_sweep.PACKAGES) == NAMES
