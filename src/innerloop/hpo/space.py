"""What is searched: parameters with their types and ranges, as a study declares them, and configurations as rows of numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from innerloop.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Config = Mapping[str, Any]  # a configuration: the value of each parameter that it has
_NEAR = 1e-9  # of a range: what rounding may add to a value at its end


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Attributes:
        kind: "float", "int" or "categorical".
        low, high: ends of the range of a number, both in it.
        log: whether a number counts by its logarithm.
        step: what a number moves by from ``low`` on; None: any.
        choices: of a categorical one: None, truth values, numbers or texts.
    """

    kind: Literal["float", "int", "categorical"]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, distribution: BaseDistribution) -> Parameter:
        """The parameter that an optuna distribution declares."""
        choices = getattr(distribution, "choices", None)
        if choices is not None:
            return cls("categorical", choices=tuple(choices))
        kind = "int" if type(distribution).__name__.startswith("Int") else "float"
        low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]
        step = distribution.step  # type: ignore[attr-defined]
        return cls(kind, low, high, bool(distribution.log), None if step is None else float(step))  # type: ignore[attr-defined]

    def distribution(self) -> BaseDistribution:
        """The optuna distribution that declares it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "categorical":
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    @property
    def columns(self) -> int:
        """How many numbers a value becomes."""
        return len(self.choices) if self.kind == "categorical" else 1

    @property
    def single(self) -> bool:
        """Whether there is one value only."""
        return len(self.choices) == 1 if self.kind == "categorical" else self.low == self.high

    def unit(self, value: Any) -> float | None:
        """A number's place in the range, 0 at ``low`` and 1 at ``high``, beyond that outside; None where it has none."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number) or (self.log and number <= 0):
            return None
        low, high = self._ends
        if high <= low:
            return 0.5
        return ((math.log(number) if self.log else number) - low) / (high - low)

    @property
    def _ends(self) -> tuple[float, float]:
        """The range in the scale that counts; whole numbers reach half a step further: the ends are as likely as others."""
        low, high = self.low, self.high
        if self.kind == "int":
            half = 0.5 * (self.step or 1.0)
            low, high = (low - min(half, 0.5 * low) if self.log else low - half), high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def choice(self, value: Any) -> int | None:
        """The place of a categorical value among the choices; a past table's "3" or 3.0 is the choice 3. None: it is none."""
        for i, own in enumerate(self.choices):
            if type(own) is type(value) and (own == value or (own != own and value != value)):
                return i
        number = _number(value)
        for i, own in enumerate(self.choices):
            if isinstance(own, bool) or isinstance(value, bool):  # tables hold truth values as numbers or texts
                same = str(own).lower() == str(value).lower() or (number is not None and number == float(bool(own)))
            elif own is None or value is None:
                same = str(own).lower() == str(value).lower()
            else:
                own_number = _number(own)
                same = own_number == number if None not in (own_number, number) else str(own) == str(value)
            if same:
                return i
        return None

    def place(self, value: Any) -> list[float] | None:
        """The numbers that stand for a value, `columns` of them; None where this parameter has no such value."""
        if self.kind == "categorical":
            at = self.choice(value)
            # Two different choices are as far apart as the ends of a range.
            return None if at is None else [math.sqrt(0.5) * (i == at) for i in range(len(self.choices))]
        unit = self.unit(value)
        return None if unit is None else [unit]

    def at(self, unit: float) -> Any:
        """The value at a place from 0 to 1; of a categorical one, each choice has an equal share."""
        unit = min(max(float(unit), 0.0), 1.0)
        if self.kind == "categorical":
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        low, high = self._ends
        value = low + unit * (high - low)
        return self.nearest(math.exp(value) if self.log else value)

    def nearest(self, value: Any) -> Any:
        """The value of the range that is nearest to a number, of the right type; the choice equal to it, else None."""
        if self.kind == "categorical":
            at = self.choice(value)
            return None if at is None else self.choices[at]
        number = _number(value)
        if number is None or not math.isfinite(number):
            return None
        step = self.step if self.step is not None else (1.0 if self.kind == "int" else None)
        number = min(max(number, self.low), self.high)
        if step is not None:
            number = min(self.low + round((number - self.low) / step) * step, self.high)
        return round(number) if self.kind == "int" else float(number)

    def has(self, value: Any) -> bool:
        """Whether a value lies in the range, or is one of the choices."""
        if self.kind == "categorical":
            return self.choice(value) is not None
        unit = self.unit(value)
        return unit is not None and -_NEAR <= unit <= 1 + _NEAR

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        said = dataclasses.asdict(self)
        return {**said, "choices": list(self.choices)}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Parameter:
        return cls(**{**said, "choices": tuple(said["choices"])})


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclasses.dataclass(frozen=True)
class Space:
    """All parameters of a search.

    Attributes:
        parameters: by name.
        optional: names that not all configurations have: conditional ones.
    """

    parameters: Mapping[str, Parameter]
    optional: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """In the order of columns."""
        return sorted(self.parameters)

    @property
    def owners(self) -> list[str]:
        """The parameter that each column belongs to; an optional one has one more, for whether it is there."""
        return [n for n in self.names for _ in range(self.parameters[n].columns + (n in self.optional))]

    def rows(self, configs: Sequence[Config]) -> np.ndarray:
        """(configurations, columns) float64.

        A parameter that a configuration lacks, or whose value is none of this space, is put in the middle of all its values; so
        is one that no configuration has, which then tells nothing.
        """
        found = np.zeros((len(configs), len(self.owners)))
        at = 0
        for name in self.names:
            own = self.parameters[name]
            middle = [math.sqrt(0.5) / own.columns] * own.columns if own.kind == "categorical" else [0.5]
            for i, config in enumerate(configs):
                place = own.place(config[name]) if name in config else None
                found[i, at : at + own.columns] = middle if place is None else place
                if name in self.optional:
                    found[i, at + own.columns] = place is not None
            at += own.columns + (name in self.optional)
        return found

    def expect(self, config: Config) -> None:
        """Raise InputError where a configuration has a value outside of its parameter's range."""
        for name, value in config.items():
            if name in self.parameters and not self.parameters[name].has(value):
                raise InputError(
                    f"{name} expected a value of its range in the study, got {value!r}; leave the trial out"
                )
