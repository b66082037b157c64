"""How well a distance between drawings does on the official one-shot runs, and the published baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from innerloop.data.lake_runs import LakeRuns, load_lake_runs
from innerloop.errors import ShapeError

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class OneShotError:
    """The result on the official runs.

    Attributes:
        error: the fraction of all trials that were wrong.
        per_run: the fraction of each run.
        trials: how many trials there were.
    """

    error: float
    per_run: tuple[float, ...]
    trials: int


def one_shot_error(distance: Distance, runs: LakeRuns | None = None) -> OneShotError:
    """The share of trials in which the nearest training picture is of the wrong class.

    Args:
        distance: maps a run's (test, training) pictures, uint8 (trials, height, width) and (classes, height,
            width) with ink 255, to distances (trials, classes); for a classifier, return minus its scores.
        runs: the benchmark; None: read from INNERLOOP_DATA at 105 x 105 pixels.

    Raises:
        InputError: the benchmark's file is missing or damaged.
        ShapeError: ``distance`` returned another shape.
    """
    runs = load_lake_runs() if runs is None else runs
    errors = []
    for training, test, answers in zip(*runs, strict=True):
        distances = distance(test, training)
        expected = (test.shape[0], training.shape[0])
        if tuple(distances.shape) != expected:
            raise ShapeError(
                f"one-shot distances expected shape (trials, classes) = {expected}, "
                f"got {tuple(distances.shape)}; return one row a test picture"
            )
        errors.append((distances.argmin(1).to(answers.device) != answers).double().mean().item())
    return OneShotError(sum(errors) / len(errors), tuple(errors), runs.answers.numel())


def _ink(picture: Tensor) -> Float[Tensor, "points 2"]:
    """Row and column of the pixels with ink, their mean taken away."""
    points = (picture > 127).nonzero().double()
    return points - points.mean(0)


def modified_hausdorff(
    test: UInt8[Tensor, "trials height width"], training: UInt8[Tensor, "classes height width"]
) -> Float[Tensor, "trials classes"]:
    """The modified Hausdorff distance of centred ink pixels, in pixels.

    For two sets of points: the larger of the two mean distances from a point of the one to the nearest of the
    other. Source: Dubuisson and Jain (1994), "A modified Hausdorff distance for object matching".
    """
    # |a - b|^2 as one product of (-2a, |a|^2, 1) and (b, 1, |b|^2): the root is taken of the minima only.
    first, second = [], []
    for pictures, factor, side in ((test, -2, first), (training, 1, second)):
        for points in map(_ink, pictures):
            square = points.square().sum(1, keepdim=True)
            ones = torch.ones_like(square)
            side.append(torch.cat([factor * points, *((square, ones) if factor == -2 else (ones, square))], 1))
    distances = torch.empty(len(first), len(second), dtype=torch.float64)
    # Pairs differ in their numbers of points; padding all to the largest costs more than this loop of 400.
    for row, a in enumerate(first):
        for column, b in enumerate(second):
            squares = a @ b.T
            forth, back = (squares.amin(axis).clamp_min(0).sqrt().mean() for axis in (1, 0))
            distances[row, column] = torch.maximum(forth, back)
    return distances


def modified_hausdorff_error(runs: LakeRuns | None = None) -> OneShotError:
    """The baseline of Lake et al. (2015), who publish 38.8 %: 155 of the 400 trials."""
    return one_shot_error(modified_hausdorff, runs)
