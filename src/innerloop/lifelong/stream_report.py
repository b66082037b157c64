"""What a stream left in a learner: how well it does on every part, after every part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class StreamReport:
    """The frozen result of `il.learn_stream`. With ``a[t, j]`` what is reached on part j after part t, t = 0 before the first:

    Attributes:
        method, stream: names.
        parts: names of the parts.
        metric: "accuracy", in [0, 1], or "mse".
        matrix: a, (1 + parts learned, parts); rows are NaN where nobody judged.
        prequential: what was reached on each part's examples just before they were learned, in their order; NaN before the
            learner could predict. One pass, so nothing was seen twice.
        examples: how many were learned.
        order: "stream" or "shuffled" (all parts mixed: what the same steps reach where order does no harm).
        seed, settings: of the run.
        config, commit, environment, wall_seconds: as of `Report`.
        learner: what learned, to go on with.
    """

    method: str
    stream: str
    parts: tuple[str, ...]
    metric: str
    matrix: np.ndarray
    prequential: tuple[float, ...]
    examples: int
    order: str = "stream"
    seed: int = 0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str = ""
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wall_seconds: float = 0.0
    learner: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "accuracy"

    @property
    def _after(self) -> np.ndarray | None:
        """a[t, j] for t = 1, 2, ...: a square; None where parts were mixed or are not all learned."""
        square = self.matrix[1:]
        return square if self.order == "stream" and square.shape[0] == square.shape[1] else None

    @property
    def retained(self) -> float:
        """``mean over j of a[T, j]``: what is left on all parts at the end. Also called average accuracy."""
        return float(self.matrix[-1].mean())

    @property
    def learned(self) -> float:
        """``mean over j of a[j, j]``: what was reached on each part just after it."""
        after = self._after
        return math.nan if after is None else float(np.diag(after).mean())

    @property
    def backward_transfer(self) -> float:
        """``mean over j of a[T, j] - a[j, j]``: what later parts did to earlier ones; the last part counts with its 0."""
        after = self._after
        return math.nan if after is None else float((after[-1] - np.diag(after)).mean())

    @property
    def forward_transfer(self) -> float:
        """``mean over j >= 2 of a[j - 1, j] - a[0, j]``: what earlier parts did for one that is still to come."""
        after = self._after
        if after is None or len(after) < 2:
            return math.nan
        return float((np.diag(self.matrix[1:-1, 1:]) - self.matrix[0, 1:]).mean())

    @property
    def forgetting(self) -> float:
        """``mean over j < T of (best of a[t, j] for j <= t < T) - a[T, j]``; turned round for an error."""
        after = self._after
        if after is None or len(after) < 2:
            return math.nan
        sign = 1 if self.higher_is_better else -1
        count = len(after)
        best = [(sign * after[j : count - 1, j]).max() for j in range(count - 1)]
        return float(np.mean([b - sign * after[-1, j] for j, b in enumerate(best)]))

    @property
    def anytime(self) -> float:
        """``mean over t of the mean over j <= t of a[t, j]``: what is there on all so far, at any time."""
        after = self._after
        return math.nan if after is None else float(np.mean([after[t, : t + 1].mean() for t in range(len(after))]))

    @property
    def numbers(self) -> dict[str, float]:
        """All of the above by name, and the mean of `prequential`."""
        known = [value for value in self.prequential if math.isfinite(value)]
        names = ("retained", "learned", "backward_transfer", "forward_transfer", "forgetting", "anytime")
        return {**{n: getattr(self, n) for n in names}, "prequential": float(np.mean(known)) if known else math.nan}

    def so_far(self) -> np.ndarray:
        """For t = 1, 2, ... the mean of a[t, j] over the parts learned so far; of all parts where they were mixed."""
        after = self._after
        if after is None:
            return self.matrix[1:].mean(1)
        return np.array([after[t, : t + 1].mean() for t in range(len(after))])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; NaN is None."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("matrix", "learner")}
        plain |= {
            "prequential": _plain(self.prequential),
            "parts": list(self.parts),
            "matrix": [_plain(r) for r in self.matrix],
        }
        return {**plain, **dict(zip(self.numbers, _plain(self.numbers.values()), strict=True))}

    def __repr__(self) -> str:
        words = {
            "retained": f"{self.metric} on all parts at the end",
            "learned": f"{self.metric} on each part just after it",
            "backward_transfer": "change of a part from then to the end",
            "forward_transfer": "change of a part before it came",
            "forgetting": "best of a part less its end",
            "anytime": f"{self.metric} on all so far, mean over the stream",
            "prequential": f"{self.metric} on examples before they were learned",
        }
        if not self.higher_is_better:
            words["forgetting"] = "end of a part less its best"
        lines = [
            f"{self.method} on {self.stream}, {len(self.parts)} parts, {self.examples} examples, {self.order} order"
        ]
        for name, value in self.numbers.items():
            if math.isfinite(value):
                lines.append(
                    f"  {name:<18} {value:+.3f}  {words[name]}"
                    if "transfer" in name
                    else f"  {name:<18} {value:.3f}  {words[name]}"
                )
        return "\n".join(lines)


def _plain(values: Any) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in values]
