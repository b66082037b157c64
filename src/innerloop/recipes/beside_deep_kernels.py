"""What is measured beside deep kernel transfer on the same test tasks: other methods, and how far its spread can be believed.

On curves: the exact posterior where there is one; a Gaussian process of the same kernel fitted to each task alone
(scikit-learn); on sine curves MAML too, trained in the same run, with the one spread that its validation tasks show. On
pictures: R2-D2, trained in the same run, and probabilities as the authors have them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerloop.recipes.baselines import sklearn_module

_CURVES, _PICTURES = 300, 600  # test tasks
_NINETY = 1.6448536  # standard deviations on either side of the mean: an interval that holds 90 %
_LEAST_SPREAD = 1e-3  # of the process that is fitted to a task alone; ours may have no less
_SINE_SEED = 1  # of the test tasks: steps were added after a number on those of seed 0 was seen
_MAML, _R2D2 = "sine-10shot-maml-cpu", "omniglot-5w1s-r2d2-cpu"


class Answers(NamedTuple):
    """Normal distributions for the queries of some tasks, and what they were, (tasks, queries) each; NaN for padding."""

    mean: Tensor
    sd: Tensor
    y: Tensor


def beside_one_process(learner: Any, tasks: Any) -> list[dict[str, Any]]:
    """On `gaussian_process`: the exact posterior's rows, and on fewer tasks those of a process fitted to each alone."""
    from innerloop.recipes.exact_posterior import beside_the_exact_posterior

    batches = list(_batches(tasks, _CURVES))
    ours, alone = _of_process(learner, batches), _fitted_alone(batches, tasks.kernel)
    found = {"dkt": _measured(ours), "a process fitted to each task alone": _measured(alone)}
    return [*beside_the_exact_posterior(learner, tasks), *_rows(found)]


def beside_sine(learner: Any, tasks: Any) -> list[dict[str, Any]]:
    """Error, log-likelihood and coverage of three ways on the same sine curves, and how far MAML's error is above ours."""
    maml, steps, sd = _maml_and_its_spread()
    batches = list(_batches(tasks, _CURVES, _SINE_SEED))
    means = torch.cat([maml.predict_queries(batch, steps=steps)[..., 0] for batch in batches])
    ours = _of_process(learner, batches)
    found = {
        "dkt": _measured(ours),
        "a process fitted to each task alone": _measured(_fitted_alone(batches, "rbf")),
        f"maml, {steps} steps, spread of its validation tasks": _measured(
            Answers(means.double(), torch.full_like(ours.y, sd), ours.y)
        ),
    }
    errors = [of["mse"] for of in found.values()]
    apart = [other - own for other, own in zip(errors[2], errors[0], strict=True)]
    return [*_rows(found), _row("mse of maml less that of dkt", apart)]


def beside_pictures(learner: Any, tasks: Any) -> list[dict[str, Any]]:
    """Calibration of three readings of the same means, and how far R2-D2 of the same run is ahead."""
    from innerloop.evaluation.confidence import counted, expected_calibration_error
    from innerloop.evaluation.evaluate import evaluate

    own = learner.learner.in_evaluation()

    def run(meta: Any, task: Any) -> tuple[Tensor, Tensor]:
        fast = own.adapt(meta, task, 1)
        found = own.distribution(meta, fast, own.embed(meta, task.query.x, task.query.mask)[0])
        return found.mean, found.sd

    parts: list[list[Tensor]] = [[], [], []]
    for batch in _batches(tasks, _PICTURES):
        mean, sd = learner.engine.map(run, learner.meta(), learner.ready(batch, learner.outer_step))
        for part, value in zip(parts, (mean, sd, batch.query.y), strict=True):
            part.append(value)
    mean, sd, y = (torch.cat(part) for part in parts)
    mean, sd = mean.double(), sd.double()
    readings = {
        "2 mean / variance": 2 * mean / sd.square()[..., None],
        "means as logits, the authors' without a temperature": mean,
        "sigmoid of the means, scaled to sum 1": torch.nn.functional.logsigmoid(mean),
    }
    rows = []
    for name, logits in readings.items():
        chances = torch.log_softmax(logits, -1).gather(-1, y[..., None]).squeeze(-1).mean(1)
        rows.append(_row(f"log_likelihood of {name}", chances.tolist()))
        error = expected_calibration_error(counted(logits, y))
        rows.append({**_row(f"calibration error (ECE), points, of {name}", [100 * error] * len(y)), "ci95": ""})
    rival, _ = _trained(_R2D2)
    ours, theirs = (evaluate(one, tasks, num_tasks=_PICTURES, baselines=False).per_task for one in (learner, rival))
    rows.append(_row(f"accuracy % of r2d2, {_R2D2} in the same run", [100 * v for v in theirs]))
    rows.append(_row("accuracy % less that of r2d2", [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]))
    return rows


def _trained(name: str) -> tuple[Any, Any]:
    """Another recipe's learner and problem, trained here."""
    from innerloop.recipes.run_recipe import known_recipe, train_recipe
    from innerloop.recipes.scratch_folder import scratch_folder

    with scratch_folder() as folder:
        made = train_recipe(known_recipe(name), folder / "run", quiet=True)
    return made.learner, made.family


def _maml_and_its_spread() -> tuple[Any, int, float]:
    """MAML, how many steps it should take, and its root mean squared error then: both on validation tasks."""
    learner, family = _trained(_MAML)
    errors = {}
    for steps in (1, 2, 5, 10):
        found = [
            (learner.predict_queries(batch, steps=steps)[..., 0] - batch.query.y[..., 0]).square().mean(1)
            for batch in _batches(family.valid, _CURVES)
        ]
        errors[steps] = float(torch.cat(found).mean())
    best = min(errors, key=errors.__getitem__)
    return learner, best, math.sqrt(errors[best])


def _batches(tasks: Any, number: int, seed: int = 0) -> Iterator[Any]:
    from innerloop.evaluation.evaluate import in_batches

    return in_batches(tasks, number, seed=seed)


def _of_process(learner: Any, batches: Sequence[Any]) -> Answers:
    """What a learner of one value says."""
    parts: list[Answers] = []
    own = learner.learner.in_evaluation()

    def run(meta: Any, task: Any) -> tuple[Tensor, Tensor]:
        fast = own.adapt(meta, task, 1)
        x, mask = task.query.x, task.query.mask
        return own.predict(meta, fast, x, mask)[..., 0], own.predict_std(meta, fast, x, mask)[..., 0]

    for batch in batches:
        mean, sd = learner.engine.map(run, learner.meta(), learner.ready(batch, learner.outer_step))
        parts.append(_padded(Answers(mean.double(), sd.double(), batch.query.y[..., 0].double()), batch))
    return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _fitted_alone(batches: Sequence[Any], kernel: str) -> Answers:
    """A process with a scale, a length and noise by the marginal likelihood of each task's support set."""
    kernels, module = sklearn_module("gaussian_process.kernels"), sklearn_module("gaussian_process")
    shapes = {"rbf": kernels.RBF(1.0, (1e-2, 1e2)), "matern52": kernels.Matern(1.0, (1e-2, 1e2), nu=2.5)}
    parts: list[Answers] = []
    for batch in batches:
        answers = []
        for i in range(len(batch.support.y)):
            kept = slice(None) if batch.support.mask is None else batch.support.mask[i]
            x, y = (v[i][kept].double().numpy() for v in (batch.support.x, batch.support.y[..., 0]))
            whole = kernels.ConstantKernel(1.0, (1e-3, 1e3)) * shapes[kernel] + kernels.WhiteKernel(
                0.1, (_LEAST_SPREAD**2, 1e1)
            )
            with warnings.catch_warnings():  # a length at its limit, say
                warnings.simplefilter("ignore")
                made = module.GaussianProcessRegressor(whole, n_restarts_optimizer=2, random_state=0).fit(x, y)
                answers.append(made.predict(batch.query.x[i].double().numpy(), return_std=True))
        mean, sd = (torch.tensor(np.stack(part)) for part in zip(*answers, strict=True))
        found = Answers(mean, sd.clamp(min=_LEAST_SPREAD), batch.query.y[..., 0].double())
        parts.append(_padded(found, batch))
    return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _padded(found: Answers, batch: Any) -> Answers:
    mask = batch.query.mask
    return found if mask is None else Answers(*(torch.where(mask, part, torch.nan) for part in found))


def _measured(found: Answers) -> dict[str, list[float]]:
    """Of each task: squared error, log-likelihood in nats a query, share of queries in the 90 % interval."""
    off = found.y - found.mean
    likely = -0.5 * (off / found.sd).square() - found.sd.log() - 0.5 * math.log(2 * math.pi)
    inside = torch.where(off.isnan(), torch.nan, (off.abs() <= _NINETY * found.sd).double())
    numbers = {"mse": off.square(), "log_likelihood": likely, "coverage % of 90 % intervals": 100 * inside}
    return {name: value.nanmean(1).tolist() for name, value in numbers.items()}


def _rows(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    measures = next(iter(found.values()))
    return [_row(f"{what}: {name}", of[what]) for what in measures for name, of in found.items()]


def _row(metric: str, values: Sequence[float]) -> dict[str, Any]:
    from innerloop.evaluation.evaluate import mean_ci95

    mean, ci95 = mean_ci95(values)
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": round(ci95, 4),
        "published": "",
        "num_tasks": len(values),
        "transductive": False,
    }
