"""The arithmetic of one outer step, counted on the plain loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.contenders.contender import Contender
from benchmarks.speed.contenders.easyfsl_style import EasyfslStyle
from benchmarks.speed.contenders.plain_loop import PlainLoop
from benchmarks.speed.harness import Truth, relative_error

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


def _plain(problem: Problem, dtype: torch.dtype = torch.float32) -> Contender:
    return PlainLoop(dtype) if problem.kind == "gradient" else EasyfslStyle(dtype)


def flops(problem: Problem) -> int:
    """Operations of the matrix products and convolutions of one meta-gradient; a multiplication and an addition are two.

    All else (activations, norms, updates) is left out, so the bound that follows from it is never above the truth.
    """
    contender = _plain(problem)
    contender.prepare(problem)
    with FlopCounterMode(display=False) as counter:
        contender.meta_gradient()
    return int(counter.get_total_flops())


def truth(problem: Problem) -> Truth:
    """The meta-gradients that all contenders are compared with: the plain loop's in float64, computed when asked for.

    The tolerance is 1e-4, or five times what rounding does to the first batch's where that is more, at most 1e-2.
    """
    exact = _plain(problem, torch.float64)
    exact.prepare(problem)
    right = cache(exact.meta_gradient)
    return Truth(right, len(problem.batches), min(1e-2, max(1e-4, 5 * rounding(problem, right(0)))))


def rounding(problem: Problem, exact: Mapping[str, np.ndarray]) -> float:
    """How far float32 moves the meta-gradient of the first batch: the largest relative change of three.

    The plain loop in float32, and twice in float64 at weights a 1e-7th off. A ReLU whose input is 0 but for rounding goes either
    way, and several inner steps with batch norm make a thousandth of the gradient of it.
    """
    rng = np.random.default_rng(0)
    off = [
        {name: w * (1 + 1e-7 * rng.standard_normal(w.shape)) for name, w in problem.weights.items()} for _ in range(2)
    ]
    changes = []
    for dtype, weights in ((torch.float32, problem.weights), (torch.float64, off[0]), (torch.float64, off[1])):
        contender = _plain(problem, dtype)
        contender.prepare(dataclasses.replace(problem, weights=weights))
        changes.append(relative_error(contender.meta_gradient(), exact))
    return max(changes)
