"""A small problem of hyperparameters; a file of its own, so that another process can import it."""

from __future__ import annotations

import math


def error(lr: float, layers: int, kind: str, shift: float = 0.0) -> float:
    """Least, 0, at a rate of 10^-(3 + shift), 4 layers and kind a."""
    return (math.log10(lr) + 3 + shift) ** 2 + 0.1 * (layers - 4) ** 2 + {"a": 0.0, "b": 0.5, "c": 1.0}[kind]


def objective(shift: float = 0.0):
    def value(trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        return error(lr, trial.suggest_int("layers", 1, 8), trial.suggest_categorical("kind", ["a", "b", "c"]), shift)

    return value
