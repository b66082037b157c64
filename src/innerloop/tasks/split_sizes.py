"""Which size a split has, where training tasks may have others than validation and test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from innerloop.core import TaskDistribution, TaskFamily
from innerloop.tasks.precision import DtypeName, dtype_named

T = TypeVar("T", int, int | None)


def of_split(split: str, usual: T, training: int | None) -> T | int:
    """``training`` in the training split, unless that is None; else ``usual``."""
    return training if split == "train" and training is not None else usual


class Sizes(NamedTuple):
    """How many classes tasks have, and how many examples of each on both sides; the last three of training tasks, where they
    differ.
    """

    ways: int | None
    shots: int
    queries: int | None
    train_ways: int | None = None
    train_shots: int | None = None
    train_queries: int | None = None

    def of(self, split: str) -> dict[str, Any]:
        """``ways``, ``shots`` and ``queries`` of a split."""
        own = zip(self._fields[:3], self[:3], self[3:], strict=True)
        return {name: of_split(split, usual, training) for name, usual, training in own}


def family_of_examples(
    name: str,
    kind: Callable[..., TaskDistribution],
    settings: Mapping[str, Any],
    sizes: tuple[int | None, int | None],
    train_sizes: tuple[int | None, int | None],
    dtype: DtypeName | None,
) -> TaskFamily:
    """Three splits of one kind of regression tasks that differ in their keys, and in training's numbers of examples.

    Args:
        name: of the problem.
        kind: makes a split from ``split``, ``shots``, ``queries``, ``dtype`` and ``settings``.
        settings: what the splits share; all of them are options of the family.
        sizes: shots and queries.
        train_sizes: those of training tasks; None: as ``sizes``.
        dtype: of x and y.
    """

    def distribution(split: str) -> TaskDistribution:
        return kind(
            split=split,
            shots=of_split(split, sizes[0], train_sizes[0]),
            queries=of_split(split, sizes[1], train_sizes[1]),
            dtype=dtype_named(dtype),
            **settings,
        )

    named = dict(zip(("shots", "queries", "train_shots", "train_queries"), (*sizes, *train_sizes), strict=True))
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return TaskFamily.by_split(name, distribution, {**named, "dtype": dtype, **plain})
