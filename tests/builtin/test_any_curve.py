"""`builtin:curves`: sines and other curves from a few points, in any units, and intervals that hold what they say."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def learner():
    return il.load("builtin:curves")


def tasks(shots: int, count: int = 40, asked: int = 30):
    """Noisy sines in units of their own: ((x, y), (x, y)) of each."""
    for seed in range(count):
        g = np.random.default_rng(seed)
        x = g.uniform(0, 1, shots + asked)
        y = np.sin(2 * np.pi * (g.uniform(0.5, 2) * x + g.uniform())) + 0.1 * g.normal(size=len(x))
        x, y = 3_000 + 500 * x, 1e-3 * y - 1
        yield (x[:shots], y[:shots]), (x[shots:], y[shots:])


@pytest.mark.parametrize(("shots", "most_error"), [(6, 0.75), (20, 0.3)])
def test_sines_are_within_their_intervals_and_nearer_than_the_mean(learner, shots, most_error):
    inside, errors, usual = [], [], []
    for (x, y), (z, truth) in tasks(shots):
        fitted = learner.adapt(x, y)
        mean, sd = fitted.predict(z)[:, 0], fitted.predict_std(z)[:, 0]
        inside.append(np.abs(truth - mean) < 1.96 * sd)
        errors.append(np.square(truth - mean).mean())
        usual.append(np.square(truth - y.mean()).mean())
    assert 0.91 < np.mean(inside) < 0.995
    assert np.sqrt(np.mean(errors) / np.mean(usual)) < most_error


def test_it_knows_where_it_knows_nothing(learner):
    x = np.concatenate([np.linspace(0, 1, 10), np.linspace(3, 4, 10)])
    fitted = learner.adapt({"x": x, "y": np.sin(5 * x)}, target="y")
    among, gap, beyond = (float(fitted.predict_std({"x": [at]})[0, 0]) for at in (0.5, 2.0, 9.0))
    assert among < 0.1 * gap and gap < beyond


def test_noise_is_told_from_the_curve(learner):
    x = np.linspace(0, 10, 40)
    g = np.random.default_rng(0)
    spreads = [
        float(learner.adapt({"x": x, "y": x + size * g.normal(size=40)}, target="y").predict_std({"x": [5.0]})[0, 0])
        for size in (0.2, 2.0)
    ]
    assert 0.12 < spreads[0] < 0.4 and 1.3 < spreads[1] < 3


def test_on_the_command_line_offline(tmp_path, offline, capsys):
    (tmp_path / "points.csv").write_text(
        "day,price\n" + "\n".join(f"2024-03-{d:02d},{100 + 2 * d}" for d in range(1, 20))
    )
    (tmp_path / "new.csv").write_text("day\n2024-03-20\n2024-06-01\n")
    task, out = tmp_path / "task.il", tmp_path / "predictions.csv"
    assert main(["adapt", "builtin:curves", str(tmp_path / "points.csv"), "--target", "price", "--out", str(task)]) == 0
    assert "adapted to 19 examples (regression)" in capsys.readouterr().out
    assert main(["predict", str(task), str(tmp_path / "new.csv"), "--out", str(out)]) == 0
    first, second = csv.DictReader(out.open())
    assert float(first["prediction"]) == pytest.approx(140, abs=2)
    assert float(first["std"]) < 2 < float(second["std"])
