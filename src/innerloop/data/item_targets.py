"""What the rows of training tasks say of each item: its usual target and how often it came, a task's own rows left out.

With its own rating among a film's, a training user would be told the answer, and a new user would not.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from innerloop.data.table_items import ItemFacts, item_name, item_numbers

_MOST = 3.0  # the number of the most frequent item
_STRENGTHS = (0.5, 50.0)  # the prior's weight in ratings stays between these, however few items tell of it


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTargets:
    """Sums over the training tasks' rows, from which any one row can be taken out again.

    Attributes:
        items: that come in these rows, sorted.
        sums: of each item's targets (scaled, so about zero), and of their differences from the mean of their task.
        counts: how many rows each has.
        strengths: what the two means of an item are shrunk by: sum / (count + strength).
        means: of each task, by name.
    """

    items: tuple[str, ...]
    sums: Float[np.ndarray, "items 2"]
    counts: Int[np.ndarray, " items"]
    strengths: tuple[float, float]
    means: Mapping[str, float]

    @classmethod
    def of(cls, rows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> ItemTargets:
        """The sums over tasks: {name: (cells that name items, scaled targets)}; rows without an item count nowhere."""
        cells = [[item_name(cell) for cell in own] for own, _ in rows.values()]
        items = tuple(sorted({name for own in cells for name in own if name is not None}))
        number = item_numbers([name for own in cells for name in own], items).astype(int) - 1
        means = {name: float(y.mean()) if len(y) else 0.0 for name, (_, y) in rows.items()}
        y = np.concatenate([np.stack([y, y - means[name]], 1) for name, (_, y) in rows.items()]).astype(np.float64)
        y, number = y[number >= 0], number[number >= 0]
        counts = np.bincount(number, minlength=len(items))
        sums = np.stack([np.bincount(number, y[:, i], len(items)) for i in range(2)], 1)
        first, second = (_strength(y[:, i], number, sums[:, i], counts) for i in range(2))
        return cls(items, sums, counts, (first, second), means)

    @functools.cached_property
    def _per_log(self) -> float:
        """What the logarithm of a count is multiplied by: no rows at all are 0, the most frequent item is `_MOST`."""
        return _MOST / float(np.log1p(self.counts.max()))

    def _numbers(self, sums: np.ndarray, counts: np.ndarray) -> Float[np.ndarray, "rows 3"]:
        means = sums / (counts[:, None] + np.array(self.strengths))
        return np.concatenate([means, self._per_log * np.log1p(counts)[:, None]], 1)

    def without(
        self, task: str, cells: Sequence[str | None] | np.ndarray, y: np.ndarray
    ) -> Float[np.ndarray, "rows 3"]:
        """The numbers of the items in a training task's rows, from the rows of all other tasks alone.

        Args:
            task: its name.
            cells: of its rows, that name items; each item in one row.
            y: its scaled targets, those that its sums are of.
        """
        number = item_numbers(cells, self.items).astype(int)
        none = number == 0
        own = np.stack([y, y - self.means[task]], 1).astype(np.float64)
        sums = np.where(none[:, None], 0.0, self.sums[number - 1] - own)
        return self._numbers(sums, np.where(none, 0, self.counts[number - 1] - 1)).astype(np.float32)

    def beside(self, facts: ItemFacts | None, target: str) -> ItemFacts:
        """The numbers of every item, from all training tasks, behind what an item table says of it."""
        known = dict(zip(self.items, self._numbers(self.sums, self.counts).tolist(), strict=True))
        names = names_of(target)
        before = () if facts is None else facts.names
        rows = {} if facts is None else dict(zip(facts.items, facts.values, strict=True))
        missing = (None,) * len(before)
        nothing = (0.0,) * len(names)
        items = tuple(dict.fromkeys([*rows, *self.items]))
        values = tuple(
            (*rows.get(item, missing), *(float(f"{v:.6g}") for v in known.get(item, nothing))) for item in items
        )
        return ItemFacts((*before, *names), items, values)


def names_of(target: str) -> tuple[str, str, str]:
    """What the three numbers are called, for people."""
    return f"{target}: mean", f"{target}: mean above each task's own", f"{target}: how many (log)"


def _strength(y: np.ndarray, number: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> float:
    """The variance within items over that between them, by the method of moments: how much one row says of its item."""
    several = counts > 1
    rows = counts[several].sum()
    if several.sum() < 2 or rows <= several.sum():
        return _STRENGTHS[1]
    means = sums / np.maximum(counts, 1)
    inside = several[number]
    within = np.square(y[inside] - means[number[inside]]).sum() / (rows - several.sum())
    around = means[several] - sums[several].sum() / rows
    left = (counts[several] * around**2).sum() - (several.sum() - 1) * within
    between = left / (rows - (counts[several].astype(float) ** 2).sum() / rows)
    return float(np.clip(within / between, *_STRENGTHS)) if between > 0 else _STRENGTHS[1]
