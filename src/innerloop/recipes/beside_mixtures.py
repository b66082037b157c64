"""Points of Gaussian mixtures from fifty of them: the score beside the true one, the density beside a kernel estimate."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys, models
from innerloop.core import TaskDistribution
from innerloop.engine import take
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.objectives.denoising import Denoising
from innerloop.recipes.result_rows import measured
from innerloop.tasks.densities.mixtures import Mixture, MixtureTasks
from innerloop.tasks.densities.mixtures import mixtures as mixtures_family

BANDWIDTHS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0)  # of the kernels, in units of Silverman's
STEPS = (50, 150, 400)  # of a net trained on the points of one task alone
_DRAWS = 4  # of the noise of each point, when losses are compared
_SCRATCH = 8  # tasks that a net is trained for from the beginning
_TASKS = 200  # judged
_SWEPT = 40  # tasks that the bandwidth is chosen on
_SEED = 1  # of the tasks judged: those of seed 0 were seen while this was written


def mixtures_rows(learner: MetaLearner, test: TaskDistribution) -> list[dict[str, Any]]:
    """Rows on test mixtures; what has a knob is swept on validation ones."""
    assert isinstance(test, MixtureTasks)
    valid = mixtures_family(dim=test.dim, parts=test.parts, shots=test.shots, queries=test.queries).valid
    assert isinstance(valid, MixtureTasks)
    return [*score_rows(learner, test, valid), *density_rows(learner, test, valid)]


def of_tasks(tasks: MixtureTasks, number: int, seed: int = 0) -> list[tuple[Any, Mixture]]:
    """(a task, its mixture), one after the other."""
    every = keys.task_keys(seed, tasks.split, 0, 0, number)
    batch, made = tasks.from_keys(every), tasks.mixtures(every)
    return [(take(batch, i), Mixture(made.weights[i], made.centres[i], made.roots[i])) for i in range(number)]


def loss_of(denoiser: Any, task: Any) -> float:
    """The denoising loss on a task's queries; the same noise for every denoiser."""
    objective = task.objective
    with torch.no_grad():
        found = [objective.loss(denoiser, task.query, keys.fold(task.noise, draw)) for draw in range(_DRAWS)]
    return float(torch.stack(found).mean())


def score_rows(learner: MetaLearner, test: MixtureTasks, valid: MixtureTasks) -> list[dict[str, Any]]:
    """The denoising loss, which is the score's but for a constant, beside that of the true score."""
    found: dict[str, list[float]] = {"true score": [], "adapted": [], "unconditional": []}
    for task, true in of_tasks(test, _TASKS, _SEED):
        fitted: Any = learner.adapt(task.support)
        found["true score"].append(loss_of(true.denoise, task))
        found["adapted"].append(loss_of(fitted.denoiser(), task))
        found["unconditional"].append(loss_of(fitted.denoiser(adapted=False), task))
    steps = _chosen_steps(valid)
    some = of_tasks(test, _SCRATCH, _SEED)
    scratch = [loss_of(from_scratch(task, (steps,))[0], task) for task, _ in some]
    rows = [measured(f"denoising loss, {name}", values) for name, values in found.items()]
    rows.append(measured(f"denoising loss, a net trained on these points alone ({steps} steps, swept)", scratch))
    rows.append(measured("denoising loss, adapted, on the same tasks as that net", found["adapted"][:_SCRATCH]))
    ratio = sum(found["adapted"]) / sum(found["true score"])
    rows.append(measured("denoising loss, adapted over true score", [ratio]) | {"num_tasks": _TASKS})
    return rows


def from_scratch(task: Any, steps: tuple[int, ...]) -> list[Any]:
    """Denoisers trained on one task's support points alone, after each of these numbers of steps."""
    torch.manual_seed(0)
    net = models.denoising_mlp(task.support.shape[-1])
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    objective: Denoising = task.objective
    found = []
    for step in range(1, max(steps) + 1):
        loss = objective.loss(net, task.support, keys.fold(task.noise, 10_000 + step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in steps:
            kept = models.denoising_mlp(task.support.shape[-1])
            kept.load_state_dict(net.state_dict())
            found.append(kept)
    return found


def _chosen_steps(valid: MixtureTasks, number: int = 4) -> int:
    totals = [0.0] * len(STEPS)
    for task, _ in of_tasks(valid, number):
        for i, net in enumerate(from_scratch(task, STEPS)):
            totals[i] += loss_of(net, task)
    return STEPS[totals.index(min(totals))]


# ---- densities -------------------------------------------------------------------------------------------------------
def kernel_log_density(
    points: Float[Tensor, "support dim"], x: Float[Tensor, "queries dim"], by: float
) -> Float[Tensor, " queries"]:
    """A Gaussian kernel estimate whose bandwidth is ``by`` times Silverman's, along the points' own spread."""
    number, dim = points.shape
    silverman = (4 / (number * (dim + 2))) ** (1 / (dim + 4))
    around = torch.atleast_2d(points.T.cov()) * (by * silverman) ** 2
    factor = torch.linalg.cholesky(around + 1e-9 * torch.eye(dim, dtype=points.dtype))
    away = (x[:, None] - points).flatten(0, 1)
    half = torch.linalg.solve_triangular(factor, away.T, upper=False).T.reshape(len(x), number, dim)
    norm = factor.diagonal().log().sum() + 0.5 * dim * math.log(2 * math.pi) + math.log(number)
    return torch.logsumexp(-0.5 * half.square().sum(-1), 1) - norm


def density_rows(learner: MetaLearner, test: MixtureTasks, valid: MixtureTasks) -> list[dict[str, Any]]:
    """Log densities of the queries: the adapted flow's, the kernel estimate's, the true one's."""
    sums = {
        by: sum(float(kernel_log_density(task.support, task.query, by).mean()) for task, _ in of_tasks(valid, _SWEPT))
        for by in BANDWIDTHS
    }
    by = max(sums, key=sums.__getitem__)
    found: dict[str, list[float]] = {"true density": [], "adapted": [], "unconditional": [], "kernels": []}
    for task, true in of_tasks(test, _TASKS, _SEED):
        fitted: Any = learner.adapt(task.support)
        found["true density"].append(float(true.log_density(task.query).mean()))
        found["adapted"].append(float(fitted.log_density(task.query, steps=24).mean()))
        found["unconditional"].append(float(fitted.log_density(task.query, steps=24, adapted=False).mean()))
        found["kernels"].append(float(kernel_log_density(task.support, task.query, by).mean()))
    rows = [
        measured(
            f"log density, {name}" + (f" (bandwidth {by:g} x Silverman's, swept)" if name == "kernels" else ""), values
        )
        for name, values in found.items()
    ]
    lead = [own - other for own, other in zip(found["adapted"], found["kernels"], strict=True)]
    return [*rows, measured("log density, adapted - kernels", lead)]
