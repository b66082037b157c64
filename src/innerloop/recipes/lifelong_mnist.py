"""MNIST's streams, turned and permuted: La-MAML beside replay, EWC, plain steps, and the same steps without an order.

La-MAML's settings are the authors' commands. The baselines' rates and glances are chosen on validation streams, which show and
are judged on training digits alone. Intervals are over seeds; a seed changes the stream, the first weights and what is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from innerloop.evaluation.evaluate import mean_ci95
from innerloop.lifelong.learn import STATE, learn_stream
from innerloop.lifelong.learner import OnlineLearner
from innerloop.lifelong.methods.class_means import class_means
from innerloop.lifelong.methods.ewc import ewc
from innerloop.lifelong.methods.la_maml import la_maml
from innerloop.lifelong.methods.replay import online, replay
from innerloop.lifelong.stream_report import StreamReport
from innerloop.tasks.streams.mnist_streams import mnist_permutations, mnist_rotations
from innerloop.tasks.streams.stream import Stream

_SEEDS = 5
_VALID_SEED = 1000  # of the streams that settings are chosen on: no seed that is judged
_RATES = (0.01, 0.03, 0.1, 0.3)
_GLANCES = (1, 5)
_STRENGTHS = (10.0, 100.0, 1000.0)
Make = Callable[..., OnlineLearner]
Settings = Mapping[str, Any]
Passes = Mapping[
    str, tuple[Make, Settings, int, Settings]
]  # by name: what learns, its settings, seeds, how the stream comes


def _pass(
    make: Make, settings: Settings, stream: Stream, seed: int, place: Path | None = None, **how: Any
) -> StreamReport:
    torch.manual_seed(seed)
    net = torch.nn.Flatten() if make is class_means else stream.default_model()
    learner = make(net, **settings) if make is class_means else make(net, seed=seed, **settings)
    resume = place is not None and (place / STATE).exists()
    return learn_stream(learner, stream, out=place, resume=resume, **how)


def _chosen(make: Make, grid: Mapping[str, tuple[float, ...]], stream: Stream, **how: Any) -> Settings:
    """The settings that retain most on a validation stream; ties go to the first."""
    valid = stream.valid
    assert valid is not None
    tried = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return max(
        tried, key=lambda settings: _pass(make, settings, valid, _VALID_SEED, judge_every=len(valid), **how).retained
    )


def _judged(
    stream_of: Callable[[int], Stream], passes: Passes, published: Mapping[str, str], place: Path
) -> list[dict[str, Any]]:
    """Rows for each method: what is retained and the change from then to the end, in percent, over its seeds."""
    made: list[dict[str, Any]] = []
    for name, (make, settings, seeds, how) in passes.items():
        reports = [
            _pass(make, settings, stream_of(seed), seed, place / f"{name.replace(' ', '-')}-{seed}", **how)
            for seed in range(seeds)
        ]
        theirs: dict[str, str] = dict(
            zip(("retained", "backward_transfer"), published.get(name, "").split(" / "), strict=False)
        )
        words = {
            "retained": "retained accuracy %",
            "backward_transfer": "change of a part to the end",
            "learned": "just after it",
        }
        for number, said in words.items():
            values = [100 * getattr(report, number) for report in reports]
            mean, ci95 = mean_ci95(values)
            if mean != mean:
                continue
            told = ", ".join(
                f"{key} {value:g}" for key, value in settings.items() if make not in (la_maml, class_means)
            )
            row = {"metric": f"{said}, {name}{f' ({told})' if told else ''}", "value": round(mean, 3)}
            row |= {"ci95": round(ci95, 3) if seeds > 1 else "", "num_tasks": seeds, "transductive": False}
            made.append(row | {"published": theirs.get(number, "")})
        seconds = [report.wall_seconds for report in reports]
        made.append({"metric": f"seconds of a pass, {name}", "value": round(sum(seconds) / len(seconds), 1), "ci95": "",
                     "num_tasks": seeds, "transductive": False})  # fmt: skip
    return made


def rotations() -> list[dict[str, Any]]:
    """20 parts of 1,000 digits, memory of 200: all methods, five seeds; La-MAML's relatives one."""

    def stream_of(seed: int) -> Stream:
        return mnist_rotations(seed=seed)

    valid = stream_of(_VALID_SEED)
    steps = {"lr": _RATES, "glances": _GLANCES}
    found = {
        "online": (online, _chosen(online, steps, valid)),
        "replay": (replay, _chosen(replay, steps, valid)),
        "ewc": (ewc, _chosen(ewc, {"lr": _RATES, "strength": _STRENGTHS}, valid)),
    }
    mixed = _chosen(online, steps, valid, order="shuffled")
    passes: Passes = {
        "La-MAML": (la_maml, {}, _SEEDS, {}),
        **{name: (make, settings, _SEEDS, {}) for name, (make, settings) in found.items()},
        "all parts mixed": (online, mixed, _SEEDS, {"order": "shuffled"}),
        "nearest class mean of pixels": (class_means, {}, _SEEDS, {}),
        "Sync": (la_maml, {"sync": True, "rate_lr": 0.1, "outer_lr": 0.3}, 1, {}),
        "C-MAML": (la_maml, {"sync": True, "learn_rates": False, "inner_lr": 0.1, "outer_lr": 0.1}, 1, {}),
    }
    published = {
        "La-MAML": "77.42 ± 0.65 / -8.64 ± 0.40",
        "online": "53.38 ± 1.53 / -5.44 ± 1.70",
        "ewc": "57.96 ± 1.33 / -20.42 ± 1.60",
        "C-MAML": "77.33 ± 0.29 / -7.88 ± 0.05",
        "Sync": "74.07 ± 0.58 / -6.66 ± 0.44",
    }
    return _judged(stream_of, passes, published, Path("runs") / "mnist-rotations-lifelong")


def permutations() -> list[dict[str, Any]]:
    """20 parts of 1,000 digits, memory of 200: La-MAML, and replay at its best rate."""
    return _permuted(
        "mnist-permutations-lifelong", {}, {}, "74.34 ± 0.67 / -7.60 ± 0.51", "55.42 ± 0.65 / -13.76 ± 1.19"
    )


def many_permutations() -> list[dict[str, Any]]:
    """100 parts of 200 digits, memory of 500."""
    settings = {"inner_lr": 0.1, "rate_lr": 0.1, "glances": 10, "memory": 500}
    sizes = {"parts": 100, "examples": 200, "tested": 1000}
    return _permuted(
        "mnist-many-permutations-lifelong",
        sizes,
        settings,
        "48.46 ± 0.45 / -12.96 ± 0.07",
        "32.62 ± 0.43 / -19.06 ± 0.86",
    )


def _permuted(name: str, sizes: Mapping[str, int], settings: Settings, ours: str, plain: str) -> list[dict[str, Any]]:
    def stream_of(seed: int) -> Stream:
        return mnist_permutations(seed=seed, **sizes)

    valid = stream_of(_VALID_SEED)
    memory = {"memory": (settings.get("memory", 200),)}
    passes: Passes = {
        "La-MAML": (la_maml, settings, 1, {}),
        "replay": (replay, _chosen(replay, {"lr": _RATES, "glances": (5,), **memory}, valid), 1, {}),
        "online": (online, _chosen(online, {"lr": _RATES, "glances": (1,)}, valid), 1, {}),
    }
    return _judged(stream_of, passes, {"La-MAML": ours, "online": plain}, Path("runs") / name)
