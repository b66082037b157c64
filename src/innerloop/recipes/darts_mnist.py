"""DARTS on small pictures, beside random search of as many seconds: is the cell that it finds a better one?

MNIST pooled to 8x8 pixels; for each seed 600 digits to train on and 600 to choose by, the official test digits to judge. Searches
are given the processor seconds that second-order DARTS takes with its steps. Each then trains its architecture from scratch in
the same way, and the test accuracies are compared seed by seed. Rates and steps were chosen on validation digits of other seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEEDS = 5
_SIZE, _TRAIN, _VALID, _CLASSES = 8, 600, 600, 10
_SPACE = {"channels": 8, "cells": 1, "nodes": 3}
_SEARCH = {"batch": 32, "inner_lr": 0.3, "outer_lr": 0.05}
_STEPS, _WARMUP = 36, 120  # of second-order DARTS
_TIMED = 5  # steps by which those of first order are timed
_TRAINING = {"steps": 250, "batch": 32, "lr": 0.2, "momentum": 0.9, "weight_decay": 3e-4}
_FINAL = 2  # trainings of the architecture that is judged
_SCORED = 0.5  # the share of its time in which random search with shared weights compares architectures


class Digits(NamedTuple):
    """The rows of one seed."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def digits(seed: int) -> Digits:
    """The digits of a seed."""
    from innerloop.data.mnist_files import load_mnist, mnist_training_examples

    every = mnist_training_examples(_SIZE)
    rows = torch.randperm(len(every.y), generator=torch.Generator().manual_seed(seed))[: _TRAIN + _VALID]
    parts = [(every.x[own], every.y[own]) for own in rows.split([_TRAIN, _VALID])]
    test = load_mnist()
    images = F.adaptive_avg_pool2d(test.images.flatten(0, 1)[:, None].float() / 255, _SIZE)
    labels = torch.arange(_CLASSES).repeat_interleave(test.images.shape[1])
    return Digits(parts[0], parts[1], (images, labels))


def supernet(seed: int) -> nn.Module:
    """The space of cells, with fresh weights."""
    from innerloop import models

    torch.manual_seed(seed)
    return models.cell_supernet((1, _SIZE, _SIZE), _CLASSES, **_SPACE)


def trained(model: nn.Module, train: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """The network after the training from scratch that all architectures get."""
    x, y = train
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        model.parameters(), _TRAINING["lr"], momentum=_TRAINING["momentum"], weight_decay=_TRAINING["weight_decay"]
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(_TRAINING["steps"]))
    model.train()
    for _ in range(int(_TRAINING["steps"])):
        rows = torch.randint(len(y), (int(_TRAINING["batch"]),), generator=generator)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        falling.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """In percent."""
    x, y = data
    right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return 100 * right / len(y)


def from_scratch(architecture: Any, data: Digits, seed: int) -> nn.Module:
    """A trained network of this architecture."""
    torch.manual_seed(seed)
    return trained(architecture.model(), data.train, seed)


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        architecture: an `il.Architecture`.
        seconds: of one processor that it took.
        tried: architectures that it looked at; 0: all at once.
    """

    architecture: Any
    seconds: float
    tried: int = 0


def darts(gradient: str, data: Digits, seed: int, steps: int = _STEPS, warmup: int = _WARMUP) -> Found:
    """DARTS, weights on the training digits and choices on the validation digits."""
    from innerloop.training.darts import darts as search

    begun = time.process_time()
    both = tuple(torch.cat(pair) for pair in zip(data.valid, data.train, strict=True))
    found = search(
        supernet(seed),
        both,
        gradient=gradient,  # type: ignore[arg-type]
        steps=warmup + steps,
        warmup_steps=warmup,
        valid_share=_VALID / (_VALID + _TRAIN),
        seed=seed,
        quiet=True,
        **_SEARCH,  # type: ignore[arg-type]
    )
    return Found(found, time.process_time() - begun)


def random_search(data: Digits, seed: int, seconds: float) -> Found:
    """Random architectures, each trained from scratch; the best on the validation digits."""
    from innerloop.models.architecture import random_architecture

    begun = time.process_time()
    space, best, tried = supernet(seed), (-1.0, None), 0
    while tried == 0 or time.process_time() - begun < seconds:
        drawn = random_architecture(space, 1000 * seed + tried)
        value = accuracy(from_scratch(drawn, data, 1000 * seed + tried), data.valid)
        best = max(best, (value, drawn), key=lambda pair: pair[0])
        tried += 1
    return Found(best[1], time.process_time() - begun, tried)


def shared_weights(data: Digits, seed: int, seconds: float) -> Found:
    """Random search with shared weights (Li and Talwalkar 2019): one supernet is trained, a random cell of it in each step."""
    from innerloop.models.architecture import random_architecture
    from innerloop.models.cells import mixed_operations

    begun = time.process_time()
    net = supernet(seed)
    choices, drawn = mixed_operations(net), 0

    def take() -> Any:
        nonlocal drawn
        found = random_architecture(net, 10_000 * (seed + 1) + drawn)
        drawn += 1
        for name, layers in choices.items():
            for layer in layers:
                layer.only = found.operations[name]
        return found

    x, y = data.train
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=_TRAINING["weight_decay"])
    net.train()  # its norms go by the batch at hand, as in the search by gradients
    while time.process_time() - begun < (1 - _SCORED) * seconds:
        take()
        rows = torch.randint(len(y), (int(_TRAINING["batch"]),), generator=generator)
        loss = F.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    best, tried = (-1.0, None), 0
    while tried == 0 or time.process_time() - begun < seconds:
        found = take()
        best = max(best, (accuracy(net, data.valid), found), key=lambda pair: pair[0])
        tried += 1
    return Found(best[1], time.process_time() - begun, tried)


def one_draw(data: Digits, seed: int) -> Found:
    """One random architecture, which nobody has chosen."""
    from innerloop.models.architecture import random_architecture

    del data
    return Found(random_architecture(supernet(seed), 500_000 + seed), 0.0, 1)


def searches(data: Digits, seed: int) -> dict[str, Found]:
    """What each search finds with the digits of a seed."""
    second = darts("exact", data, seed)
    # As many steps as fit into the seconds that second order took; one of the warming up has half of the passes.
    each = darts("first_order", data, seed, _TIMED, 0).seconds / _TIMED
    first = darts("first_order", data, seed, max(1, round(second.seconds / each - _WARMUP / 2)))
    others: Mapping[str, Callable[..., Found]] = {
        "random search": random_search,
        "random search, shared weights": shared_weights,
    }
    return {
        "darts": second,
        "darts, first order": first,
        **{name: search(data, seed, second.seconds) for name, search in others.items()},
        "one random cell": one_draw(data, seed),
    }


def judged(found: Found, data: Digits, seed: int) -> float:
    """Mean test accuracy of trainings from scratch, in percent."""
    values = [
        accuracy(from_scratch(found.architecture, data, 90_000 + 10 * seed + i), data.test) for i in range(_FINAL)
    ]
    return sum(values) / len(values)


def rows() -> list[dict[str, Any]]:
    """Test accuracy of what each search found, the lead of DARTS over the others seed by seed, skips, seconds, tries."""
    from innerloop.evaluation.evaluate import mean_ci95

    found: dict[str, list[Found]] = {}
    values: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        data = digits(seed)
        for name, own in searches(data, seed).items():
            found.setdefault(name, []).append(own)
            values.setdefault(name, []).append(judged(own, data, seed))
    made: list[dict[str, Any]] = []

    def add(metric: str, numbers: list[float]) -> None:
        mean, ci95 = mean_ci95(numbers)
        made.append(
            {
                "metric": metric,
                "value": round(mean, 3),
                "ci95": round(ci95, 3),
                "num_tasks": len(numbers),
                "transductive": False,
            }
        )

    for name, own in values.items():
        add(f"test accuracy %, {name}", own)
    for name, own in values.items():
        if name != "darts":
            add(
                f"test accuracy %, darts less {name}, seed by seed",
                [a - b for a, b in zip(values["darts"], own, strict=True)],
            )
    for name, own in found.items():
        add(f"skips of 5 edges, {name}", [float(one.architecture.skips) for one in own])
    for name, own in found.items():
        if own[0].seconds:
            add(f"processor seconds of the search, {name}", [one.seconds for one in own])
        if own[0].tried > 1:
            add(f"architectures tried, {name}", [float(one.tried) for one in own])
    return made
