"""Outer learning rates as functions of the step, so that a resumed run has nothing to restore."""

from __future__ import annotations

import math

# Snell et al. 2017 (arXiv:1703.05175, section 3.1): "cut the learning rate in half every 2000 episodes".
_HALVED_EVERY = 2000


def floor(min_lr: float, peak: float, lr: float) -> float:
    """Where a group of parameters ends whose schedule starts at ``peak``: it falls in the proportion ``min_lr / lr``."""
    return min_lr * (peak / lr) if lr else 0.0


def rate(schedule: str, step: int, steps: int, lr: float, min_lr: float = 0.0, done: float | None = None) -> float:
    """The outer rate of step ``step`` (from 0) of ``steps``.

    "constant"; "linear" from lr to 0; "cosine" from lr to min_lr; "average": lr / (step + 1), which makes the parameters the
    running mean of what each step asks for; "halving": half as much after every 2,000 steps. ``done``: how far the run is, from
    0 to 1, where its steps alone do not tell (`training.budget`).
    """
    done = min(step / steps, 1.0) if done is None else done
    if schedule == "linear":
        return lr * (1 - done)
    if schedule == "cosine":
        return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * done))
    if schedule == "average":
        return lr / (step + 1)
    if schedule == "halving":
        return lr * 0.5 ** (step // _HALVED_EVERY)
    return lr
