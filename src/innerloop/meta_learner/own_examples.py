"""How good an adapted task is on its own examples: what `innerloop.evaluation.own_examples` measures and a task file keeps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from innerloop.errors import CheckpointError

VERSION = 1
ONE_EACH = "each class has one only, and without it the class is not known; give two of each class or more"
NAMES = {
    "class_mean": "class mean",
    "nearest": "nearest example",
    "mean": "the values' mean",
    "ridge": "ridge regression",
    "logistic": "logistic regression",
    "forest": "random forest",
}
_PARTS = {
    2: "half",
    3: "a third",
    4: "a quarter",
    5: "a fifth",
    6: "a sixth",
    7: "a seventh",
    8: "an eighth",
    9: "a ninth",
}


@dataclasses.dataclass(frozen=True)
class OnOwn:
    """A predictor on the examples that were left out.

    Attributes:
        value, low, high: of the metric, and its 95 % interval over the examples.
        lead, lead_low, lead_high: of a baseline: how much better the learner is, example by example, with its 95 % interval,
            in accuracy or in squared error; None for the learner itself.
    """

    value: float
    low: float
    high: float
    lead: float | None = None
    lead_low: float | None = None
    lead_high: float | None = None


@dataclasses.dataclass(frozen=True)
class Judged:
    """An adapted task judged on its own examples, each by a learner that was adapted to others of them.

    Attributes:
        metric: "accuracy" (a fraction) or "rmse", the root of the mean squared error, in the targets' unit.
        examples: of the task.
        judged: how many of them were left out once; 0: see ``lacking``.
        parts: into how many the examples were dealt; one part is left out at a time.
        one_of_each: whether a part has one example of each class, or one example.
        learner: None where nothing was judged.
        baselines: the simplest predictors on the same examples, by name; see `NAMES`.
        lacking: why nothing was judged, as words after "as"; "": something was.
    """

    metric: str
    examples: int
    judged: int = 0
    parts: int = 0
    one_of_each: bool = False
    learner: OnOwn | None = None
    baselines: Mapping[str, OnOwn] = dataclasses.field(default_factory=dict)
    lacking: str = ""

    @property
    def hardest(self) -> str:
        """The baseline over which the learner's lead is least; "" where there is none."""
        return min(self.baselines, key=lambda name: self.baselines[name].lead or 0.0, default="")

    @property
    def loses_to(self) -> str:
        """The baseline that is better than the learner by the whole interval of the difference; "" where none is."""
        name = self.hardest
        return name if name and (self.baselines[name].lead_high or 0.0) < 0 else ""

    @property
    def one_each(self) -> bool:
        """Whether nothing was judged because each class has one example only."""
        return self.lacking == ONE_EACH

    @property
    def clearly_better(self) -> bool:
        """Whether the learner is better than every baseline by the whole interval of the difference."""
        return bool(self.baselines) and all((b.lead_low or 0.0) > 0 for b in self.baselines.values())

    def lines(self) -> list[str]:
        """What to say, one thing a line; that the learner loses comes first, with what to try."""
        if self.learner is None:
            return [f"this learner cannot be judged on your examples, as {self.lacking}"]
        others = ", ".join(f"{NAMES.get(name, name)} {self.shown(b.value)}" for name, b in self.baselines.items())
        on = f"your {self.examples}" if self.judged == self.examples else f"{self.judged} of your {self.examples}"
        found = [
            f"judged on {on} examples, {self.left_out()} left out at a time: this learner {self.with_interval(self.learner)}"
            + (f", {others}" if others else "")
        ]
        name = self.hardest
        if self.loses_to:
            found.insert(0, f"LOSES to {NAMES.get(name, name)} on your own examples: {what_to_try(name)}")
        elif name and self.clearly_better:
            found.append("    better than each of them, beyond chance")
        elif name:
            found.append(f"    not clearly better than {NAMES.get(name, name)}, which needs no training")
        return found

    def left_out(self) -> str:
        """What is left out at a time, in words."""
        if self.one_of_each:
            return "one of each class" if self.metric == "accuracy" else "one"
        return f"{_PARTS.get(self.parts, 'a tenth')} of them"

    def shown(self, value: float) -> str:
        """A value in percent, or with three digits."""
        return f"{100 * value:.0f} %" if self.metric == "accuracy" else f"{value:.3g}"

    def with_interval(self, found: OnOwn) -> str:
        """A value and its interval: "84 % (70 to 93)"; an error says what it is."""
        if self.metric == "accuracy":
            return f"{self.shown(found.value)} ({100 * found.low:.0f} to {100 * found.high:.0f})"
        return f"is off by {found.value:.3g} ({found.low:.3g} to {found.high:.3g}; root mean square)"

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` makes the record again."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Judged:
        """The record that a file holds.

        Raises:
            CheckpointError: a newer version, or values that cannot be right.
        """
        try:
            found = dict(given)
            version = found.pop("version")
            if not isinstance(version, int) or version > VERSION:
                raise CheckpointError(f"expected a judgement of version {VERSION}, got {version!r}; upgrade innerloop")
            learner = None if found["learner"] is None else _on_own(found["learner"])
            others = {str(name): _on_own(one) for name, one in found["baselines"].items()}
            if any(one.lead is None for one in others.values()):
                raise ValueError("a baseline without the learner's lead")
            return cls(
                metric=str(found["metric"]),
                examples=int(found["examples"]),
                judged=int(found["judged"]),
                parts=int(found["parts"]),
                one_of_each=bool(found["one_of_each"]),
                learner=learner,
                baselines=others,
                lacking=str(found["lacking"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"what is known of this task on its own examples is damaged ({error}); adapt again for another file"
            ) from None


def what_to_try(name: str) -> str:
    """Where a baseline of this name is better."""
    return (
        f"use {NAMES.get(name, name)}, give more examples, or adapt a learner that was trained on tasks more like yours"
    )


def _on_own(given: Mapping[str, Any]) -> OnOwn:
    found = OnOwn(**{name: None if value is None else float(value) for name, value in given.items()})  # type: ignore[arg-type]
    if not all(math.isfinite(v) for v in dataclasses.astuple(found) if v is not None):
        raise ValueError("a number that is not finite")
    return found
