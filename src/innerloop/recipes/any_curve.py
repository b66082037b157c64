"""What a learner of any curve reaches on families of curves, of which training has sines alone, beside a fitted process.

Each task is a few noisy points on a curve of random parameters in units of its own; 40 others are asked, at places drawn in the
same way, so that some lie a little beyond the points. Log-likelihoods are of new noisy points, in nats, in units of the
support set's deviation; intervals are the mean and 1.96 standard deviations. The Gaussian process has an RBF kernel and white
noise, both by the marginal likelihood (scikit-learn), and no less spread than ours may have.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.evaluation.evaluate import mean_ci95
from innerloop.recipes.baselines import sklearn_module

_TASKS, _ASKED, _LEAST_SPREAD = 60, 40, 5e-3
_OURS = "builtin:curves"

Numbers = np.ndarray
Curve = Callable[[np.random.Generator, Numbers], Numbers]


def _sine(g: np.random.Generator, t: Numbers) -> Numbers:
    return np.sin(2 * math.pi * (g.uniform(0.5, 3) * t + g.uniform()))


def _saturation(g: np.random.Generator, t: Numbers) -> Numbers:
    return t / (t + g.uniform(0.05, 0.5))  # Michaelis and Menten


def _swinging_out(g: np.random.Generator, t: Numbers) -> Numbers:
    return np.exp(-g.uniform(1, 4) * t) * np.cos(2 * math.pi * g.uniform(1, 3) * t)


def _peak(g: np.random.Generator, t: Numbers) -> Numbers:
    return np.exp(-0.5 * ((t - g.uniform(0.2, 0.8)) / g.uniform(0.05, 0.2)) ** 2)


def _saw(g: np.random.Generator, t: Numbers) -> Numbers:
    return (g.uniform(0.5, 2) * t + g.uniform()) % 1.0


FAMILIES: dict[str, Curve] = {
    "sines": _sine,
    "saturation": _saturation,
    "damped swings": _swinging_out,
    "peaks": _peak,
    "saw teeth": _saw,
}


def beside(learner: Any, test: Any) -> list[dict[str, Any]]:
    """Rows of results: log-likelihood, coverage of 95 % intervals and root mean squared error of each family and size."""
    del test
    rows = []
    for family, curve in FAMILIES.items():
        for shots in (8, 20):
            found = [numbers_of(learner, curve, shots, draw) for draw in range(_TASKS)]
            for what, scale, digits in (
                ("log-likelihood", 1, 3),
                ("coverage % of 95 % intervals", 100, 1),
                ("error", 1, 3),
            ):
                for name in found[0]:
                    mean, ci95 = mean_ci95([scale * one[name][what] for one in found])
                    rows.append(
                        {
                            "metric": f"{what}, {family}, {shots} points: {name}",
                            "value": round(mean, digits),
                            "ci95": round(ci95, digits),
                            "num_tasks": _TASKS,
                            "transductive": False,
                        }
                    )
    return rows


def drawn(curve: Curve, shots: int, draw: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(x, y, x asked, y asked) of one task, (points,) each."""
    g = np.random.default_rng(draw)
    t = g.uniform(size=shots + _ASKED)
    clean = curve(g, t)
    y = clean + g.uniform(0.02, 0.2) * clean.std() * g.normal(size=len(t))
    x, y = g.uniform(-100, 100) + 10 ** g.uniform(-2, 3) * t, g.uniform(-100, 100) + 10 ** g.uniform(-2, 3) * y
    return x[:shots], y[:shots], x[shots:], y[shots:]


def numbers_of(learner: Any, curve: Curve, shots: int, draw: int) -> dict[str, dict[str, float]]:
    """What the learner and the baselines reach on one task: by name, by measure."""
    x, y, z, truth = drawn(curve, shots, draw)
    fitted = learner.adapt({"x": x, "y": y}, target="y")
    spread = y.std()
    answers = {
        _OURS: (fitted.predict({"x": z})[:, 0], fitted.predict_std({"x": z})[:, 0]),
        "fitted RBF process": _process((x - x.mean()) / x.std(), (y - y.mean()) / spread, (z - x.mean()) / x.std()),
        "mean of the points": (np.full_like(z, y.mean()), np.full_like(z, spread * math.sqrt(1 + 1 / shots))),
    }
    mean, sd = answers["fitted RBF process"]
    answers["fitted RBF process"] = (mean * spread + y.mean(), sd * spread)
    found = {}
    for name, (mean, sd) in answers.items():
        off, sd = (truth - mean) / spread, np.maximum(sd / spread, _LEAST_SPREAD)
        found[name] = {
            "log-likelihood": float(np.mean(-0.5 * (off / sd) ** 2 - np.log(sd)) - 0.5 * math.log(2 * math.pi)),
            "coverage % of 95 % intervals": float(np.mean(np.abs(off) < 1.96 * sd)),
            "error": float(np.sqrt(np.mean(off**2))),
        }
    return found


def _process(x: Numbers, y: Numbers, z: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of new noisy points, all in units of the support set."""
    kernels, module = sklearn_module("gaussian_process.kernels"), sklearn_module("gaussian_process")
    size, length, noise = ((1e-2, 1e2), (1e-2, 1e2), (1e-5, 1e1))
    kernel = kernels.ConstantKernel(1.0, size) * kernels.RBF(1.0, length) + kernels.WhiteKernel(0.1, noise)
    with warnings.catch_warnings():  # a length at its limit, say
        warnings.simplefilter("ignore")
        made = module.GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0)
        return made.fit(x[:, None], y).predict(z[:, None], return_std=True)
