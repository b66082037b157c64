"""Who keeps up with a car whose road changes? Squared error before each step, by steps after the change, on the same drives.

All methods are trained on drives of the same world, each within the processor seconds that its row says, and what has a knob is
swept on validation drives: the sum of its four errors decides. Test drives are gone through once.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

VALID, TEST = 80, 240  # drives
_TRAIN = 1_500  # drives that the networks without meta-learning are trained on
_STEPS = {"alpaca": 2_500, "changing": 30, "pooled": 2_000, "maml": 600, "gru": 300}
_RATES = (3e-3,)  # of the training on drives with a change
_HAZARDS, _KEEPS = (0.01, 0.03, 0.1), (0.9, 0.95, 0.97, 0.99)
_FORGETTING, _CONFIDENCE = (0.93, 0.95, 0.97, 0.98, 0.99), (0.01, 0.03, 0.1, 0.3, 1.0)
_INNER_RATES, _WINDOWS, _INNER_STEPS = (0.03, 0.1), (8, 16, 32), (1, 5)
_GRU_RATES = (3e-3, 1e-2)
_TIMED = 300  # updates on the device
_QUIETLY: dict[str, Any] = {
    "num_tasks": 16,
    "schedule": "cosine",
    "validate_every": 0,
    "strategy": "vmapped",
    "quiet": True,
}


class Drives(NamedTuple):
    """x (drives, steps, 6), y (drives, steps, 3), and the step of each drive's change."""

    x: Tensor
    y: Tensor
    changes: Tensor


class Judged(NamedTuple):
    """How a method does.

    Attributes:
        errors: (drives, steps) of the test drives.
        chosen: what validation drives chose, as a text.
        seconds: of one processor that its training took, sweeps of it included.
    """

    errors: Float[Tensor, "drives steps"]
    chosen: str
    seconds: float


def drives(tasks: Any, number: int, seed: int = 0) -> Drives:
    """The drives of one split that `evaluate_online` goes through with this seed."""
    from innerloop import keys
    from innerloop.evaluation.online import sequences

    when = tasks.changes(keys.task_keys(seed, tasks.split, 0, 0, number))
    return Drives(*sequences(tasks.at(seed, 0, number)), when)


def total(errors: Tensor, changes: Tensor) -> float:
    """What validation goes by: the errors of all phases together."""
    from innerloop.evaluation.online import PHASES, scores

    found = scores(errors, changes)
    return sum(found[name].mean for name in PHASES)


def network(outputs: int | None = 3) -> nn.Module:
    """6-64-32 and a last layer, for all but the recurrent network."""
    from innerloop import models

    return models.mlp(6, outputs, hidden=(64, 32), activation="tanh")


def features() -> nn.Module:
    """6-64-32, the last layer linear."""
    from innerloop import models

    return models.mlp(6, 32, hidden=(64,), activation="tanh")


# ---- what is meta-learned ------------------------------------------------------------------------------------------------
def bayesian(world: Any, valid: Drives, test: Drives) -> dict[str, Judged]:
    """One training on drives without a change, then a short one with changepoints on drives with one; forgetting; plainly."""
    from innerloop import alpaca, evaluate_online, fit
    from innerloop import tasks as problems

    del valid, test
    begun = time.process_time()
    torch.manual_seed(0)
    plain = alpaca(features(), outputs=3)
    stays = problems.road(change=False, shots=40, queries=30)
    fit(
        plain,
        stays,
        steps=_STEPS["alpaca"],
        outer_lr=1e-2,
        **_QUIETLY,
    )
    seconds = time.process_time() - begun

    def made(rate: float = 0.0, **options: Any) -> Any:
        learner = alpaca(features(), outputs=3, **options)
        learner.load_state_dict(plain.state_dict(), strict=False)  # all but what it learns beside them
        if rate:
            fit(
                learner,
                world,
                steps=_STEPS["changing"],
                outer_lr=rate,
                **_QUIETLY,
            )
        return learner

    found = {}
    knobs: Mapping[str, list[dict[str, Any]]] = {
        "alpaca, changepoints": [{"changepoints": True, "rate": rate} for rate in _RATES],
        "alpaca, changepoints, not trained on changes": [
            {"changepoints": True, "hazard": hazard} for hazard in _HAZARDS
        ],
        "alpaca, forgetting": [{"forget": keep} for keep in _KEEPS],
        "alpaca": [{}],
    }
    for name, options in knobs.items():
        begun = time.process_time()
        tried = [(made(**one), one) for one in options]
        took = seconds + time.process_time() - begun
        judged = [evaluate_online(learner, world.valid, num_tasks=VALID) for learner, _ in tried]
        totals = [total(one.errors, one.changes) for one in judged]
        learner, best = tried[totals.index(min(totals))]
        errors = evaluate_online(learner, world.test, num_tasks=TEST).errors
        chosen = ", ".join(f"{key} {value}" for key, value in best.items() if key != "changepoints")
        found[name] = Judged(errors, chosen, took)
        _LAST.setdefault("learner", learner)
    return found


_LAST: dict[str, Any] = {}  # the learner whose step on a device is measured


def last_steps(world: Any, valid: Drives, test: Drives) -> dict[str, Judged]:
    """MAML, adapted anew to the last examples before each step."""
    from innerloop import evaluate_online, fit, maml
    from innerloop import tasks as problems

    del valid, test
    begun = time.process_time()
    learners = {}
    for rate in _INNER_RATES:
        torch.manual_seed(0)
        learner = maml(network(), inner_lr=rate, inner_steps=5)
        stays = problems.road(change=False, shots=16, queries=30)
        fit(
            learner,
            stays,
            steps=_STEPS["maml"],
            outer_lr=3e-3,
            **_QUIETLY,
        )
        learners[rate] = learner
    seconds = time.process_time() - begun
    tried = []
    for (rate, learner), window, steps in itertools.product(learners.items(), _WINDOWS, _INNER_STEPS):
        score = evaluate_online(learner, world.valid, num_tasks=VALID // 2, window=window, steps=steps)
        tried.append((total(score.errors, score.changes), rate, window, steps))
    _, rate, window, steps = min(tried)
    errors = evaluate_online(learners[rate], world.test, num_tasks=TEST, window=window, steps=steps).errors
    return {"maml on the last steps": Judged(errors, f"inner_lr {rate}, last {window}, {steps} inner steps", seconds)}


# ---- what is not ---------------------------------------------------------------------------------------------------------
def pooled(world: Any, valid: Drives, test: Drives) -> dict[str, Judged]:
    """One network for all drives; alone, and with its last layer by recursive least squares."""
    begun = time.process_time()
    train = drives(world.train, _TRAIN)
    torch.manual_seed(0)
    net = network()
    x, y = train.x.flatten(0, 1), train.y.flatten(0, 1)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS["pooled"])
    for _ in range(_STEPS["pooled"]):
        rows = torch.randint(len(x), (512,))
        loss = F.mse_loss(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    seconds = time.process_time() - begun
    net.requires_grad_(False)
    body: Any = net.body
    head: Any = net.head
    errors = (head(body(test.x)) - test.y).square().mean(-1)
    found = {"no adaptation": Judged(errors, "", seconds)}
    sides = {
        name: torch.cat([body(side.x), torch.ones_like(side.x[..., :1])], -1).double()
        for name, side in (("valid", valid), ("test", test))
    }
    weights = torch.cat([head.weight.T, head.bias[None]]).double()
    for name, rates in (("recursive least squares", (1.0,)), ("recursive least squares, forgetting", _FORGETTING)):
        tried = [
            (total(recursive(sides["valid"], valid.y, weights, *knobs), valid.changes), knobs)
            for knobs in itertools.product(rates, _CONFIDENCE)
        ]
        keep, size = min(tried)[1]
        errors = recursive(sides["test"], test.y, weights, keep, size)
        found[name] = Judged(errors, f"keeps {keep}, first covariance {size}", seconds)
    return found


def recursive(z: Tensor, y: Tensor, weights: Tensor, keep: float, size: float) -> Float[Tensor, "drives steps"]:
    """Squared errors of recursive least squares, as textbooks have it, from these weights.

    Args:
        z: (drives, steps, columns).
        y: targets.
        weights: (columns, outputs) that each drive begins with.
        keep: the covariance is divided by it at each step.
        size: of the covariance at the beginning.
    """
    number, steps, columns = z.shape
    now = weights.expand(number, -1, -1)
    covariance = size * torch.eye(columns, dtype=z.dtype).expand(number, -1, -1)
    found = []
    for i in range(steps):
        off = y[:, i].double() - (z[:, i, None] @ now)[:, 0]
        found.append(off.square().mean(-1))
        along = (covariance @ z[:, i, :, None])[..., 0]
        gain = along / (keep + (along * z[:, i]).sum(-1, keepdim=True))
        now = now + gain[..., None] * off[:, None]
        covariance = (covariance - gain[..., None] * along[:, None]) / keep
    return torch.stack(found, 1)


class Recurrent(nn.Module):
    """A GRU that reads each input with the target before it."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.reader: nn.GRU = nn.GRU(9, hidden, batch_first=True)
        self.head: nn.Linear = nn.Linear(hidden + 6, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)
        return self.head(torch.cat([self.reader(torch.cat([x, before], -1))[0], x], -1))


def recurrent(world: Any, valid: Drives, test: Drives) -> dict[str, Judged]:
    """The recurrent network, trained along whole drives."""
    begun = time.process_time()
    train = drives(world.train, _TRAIN)
    tried = []
    for rate in _GRU_RATES:
        torch.manual_seed(0)
        net = Recurrent()
        optimizer = torch.optim.Adam(net.parameters(), rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS["gru"])
        for _ in range(_STEPS["gru"]):
            rows = torch.randint(len(train.x), (32,))
            loss = F.mse_loss(net(train.x[rows], train.y[rows]), train.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
        net.requires_grad_(False)
        off = (net(valid.x, valid.y) - valid.y).square().mean(-1)
        tried.append((total(off, valid.changes), rate, net))
    _, rate, net = min(tried, key=lambda one: one[:2])
    seconds = time.process_time() - begun
    errors = (net(test.x, test.y) - test.y).square().mean(-1)
    return {"gru": Judged(errors, f"rate {rate}", seconds)}


# ---- the step on a device --------------------------------------------------------------------------------------------------
def on_a_device(learner: Any, test: Drives) -> Iterator[tuple[str, float]]:
    """Size of the state, time of an exported update, and how far both files are from PyTorch."""
    import numpy as np
    import onnxruntime

    from innerloop.serving.export import export_online

    fitted = learner.adapt(test.x[0, :100], test.y[0, :100])
    with tempfile.TemporaryDirectory() as folder:
        archive = export_online(fitted, Path(folder), "torch-export")
        made = export_online(fitted, Path(folder), "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(made.update), options, providers=["CPUExecutionProvider"])
        state, seconds = np.load(made.state), []
        for i in range(_TIMED):
            given = {"state": state, "x": test.x[1, i % 100].numpy(), "y": test.y[1, i % 100].numpy()}
            begun = time.perf_counter()
            (state,) = session.run(None, given)
            seconds.append(time.perf_counter() - begun)
    yield "state on a device, kB", made.size / 1_000
    yield "update on a device, ms, median (ONNX, one thread)", 1_000 * float(np.median(seconds))
    yield "exported update and prediction, off PyTorch's by (ONNX)", made.off
    yield "exported update and prediction, off PyTorch's by (torch-export)", archive.off


def rows() -> list[dict[str, Any]]:
    """Errors of each method by phase, leads of ALPaCA with changepoints drive by drive, seconds, the step on a device."""
    from innerloop import tasks as problems
    from innerloop.evaluation.evaluate import mean_ci95
    from innerloop.evaluation.online import PHASES, scores

    world = problems.road()
    valid, test = drives(world.valid, VALID), drives(world.test, TEST)
    found: dict[str, Judged] = {}
    for method in (bayesian, pooled, recurrent, last_steps):
        found |= method(world, valid, test)
    made: list[dict[str, Any]] = []

    def add(metric: str, value: float, ci95: float | str = "", number: int = TEST) -> None:
        interval = ci95 if isinstance(ci95, str) else round(ci95, 4)
        made.append(
            {
                "metric": metric,
                "value": float(f"{value:.4g}"),
                "ci95": interval,
                "num_tasks": number,
                "transductive": False,
            }
        )

    by_phase = {name: scores(own.errors, test.changes) for name, own in found.items()}
    for phase in PHASES:
        for name, own in by_phase.items():
            what = f" ({found[name].chosen})" if found[name].chosen else ""
            add(f"squared error, {_said(phase)}: {name}{what}", own[phase].mean, own[phase].ci95)
    first = next(iter(found))
    for phase in PHASES:
        for name, own in by_phase.items():
            if name != first:
                pairs = zip(by_phase[first][phase].per_task, own[phase].per_task, strict=True)
                add(f"{_said(phase)}: {first} less {name}, drive by drive", *mean_ci95([a - b for a, b in pairs]))
    for name, own in found.items():
        add(f"processor seconds of training: {name}", own.seconds, number=1)
    for metric, value in on_a_device(_LAST["learner"], test):
        add(metric, value, number=1)
    return made


def _said(phase: str) -> str:
    return "20 steps before the change" if phase == "before" else f"{phase} steps after the change"
