"""Which size a split has, where training tasks may have others than validation and test."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", int, int | None)


def of_split(split: str, usual: T, training: int | None) -> T | int:
    """``training`` in the training split, unless that is None; else ``usual``."""
    return training if split == "train" and training is not None else usual
