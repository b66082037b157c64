"""What streams whose law changes have in common: their sizes, when it changes, and how they are cut into support and query."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.errors import InputError

_WHEN, _NOISE = 101, 102
FIRST, LAST = 0.4, 0.6  # between these shares of a stream it changes
SHOTS, QUERIES = 100, 20


class ChangingTasks(TaskDistribution):
    """One split of a problem of streams: examples in their order, which the support side begins and the query side ends.

    Args:
        split: train, valid or test.
        shots: steps of the support side.
        queries: steps after them.
        change: whether the law changes in mid-stream; False: it stays.
        dtype: of x and y; None: torch's default. Streams are drawn in double precision.
    """

    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    split: str
    change: bool
    dtype: torch.dtype | None
    shots: int
    queries: int

    def __init__(self, *, split: str, shots: int, queries: int, change: bool, dtype: torch.dtype | None = None) -> None:
        self.split, self.change, self.dtype = split, change, dtype
        self._set_sizes(shots, queries)

    def _set_sizes(self, shots: int, queries: int) -> None:
        for what, value in (("shots", shots), ("queries", queries)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{self.name} ({self.split}): {what} expected at least 1, got {value}; raise {what}")
        self.shots, self.queries = shots, queries

    def resized(self, ways: int, shots: int, queries: int) -> Self:
        """See `TaskDistribution.resized`."""
        del ways
        new = copy.copy(self)
        new._set_sizes(shots, queries)
        return new

    def changes(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        """The first step, counted from 0 through support and query side, that is under the new law; the length where none is."""
        steps = self.shots + self.queries
        if not self.change:
            return torch.full_like(keys, steps)
        share = FIRST + (LAST - FIRST) * random_keys.uniform(keys, salt=_WHEN, dtype=torch.float64)
        return (share * steps).long().clamp(min=1)

    def between(
        self, keys: Int64[Tensor, " tasks"], limits: tuple[float, float], salt: int
    ) -> Float64[Tensor, "tasks steps"]:
        """A number of the world at each step: uniform between the limits, and drawn anew where the law changes."""
        low, high = limits
        drawn = low + (high - low) * random_keys.uniform(keys, (2,), salt, torch.float64)
        after = torch.arange(self.shots + self.queries, device=keys.device) >= self.changes(keys)[:, None]
        return torch.where(after, drawn[:, 1:], drawn[:, :1])

    @abstractmethod
    def stream(self, keys: Int64[Tensor, " tasks"]) -> tuple[Tensor, Tensor]:
        """The examples of each task in their order: x (tasks, steps, *input_shape), y (tasks, steps, outputs)."""

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys."""
        dtype = self.dtype or torch.get_default_dtype()
        x, y = (value.to(dtype) for value in self.stream(keys))
        support, query = (Examples(x[:, rows], y[:, rows]) for rows in (slice(0, self.shots), slice(self.shots, None)))
        return Task(support, query, self.objective, noise=random_keys.fold(keys, _NOISE))


def smooth(values: Float64[Tensor, "tasks steps"], keep: float) -> Float64[Tensor, "tasks steps"]:
    """A random walk that is pulled back to zero, driven by independent numbers of variance 1; its own variance is 1, too."""
    now, found = values[:, 0], [values[:, 0]]
    for step in values.unbind(1)[1:]:
        now = keep * now + (1 - keep**2) ** 0.5 * step
        found.append(now)
    return torch.stack(found, 1)


def expect_ranges(name: str, ranges: dict[str, Any], lowest: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Ranges as two floats each.

    Args:
        name: of the problem.
        ranges: what was given for each number of the world.
        lowest: what the lower end of some of them may be at least.

    Raises:
        InputError: something else than two finite numbers, low then high, or a number below what is possible.
    """
    found = {}
    for what, given in ranges.items():
        if not isinstance(given, list | tuple) or len(given) != 2:
            raise InputError(f"{name}: {what} expected two numbers, low and high, got {given!r}")
        low, high = float(given[0]), float(given[1])
        if not (abs(low) < float("inf") and low <= high < float("inf")):
            raise InputError(f"{name}: {what} expected two finite numbers, low then high, got {low}, {high}")
        if low < lowest.get(what, -float("inf")):
            raise InputError(f"{name}: {what} expected numbers of at least {lowest[what]:g}, got {low:g}; raise it")
        found[what] = (low, high)
    return found
