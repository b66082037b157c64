"""Tasks moved away from those of training by a chosen distance: how far may a task differ?

A shifted split is made of the same task keys, so tasks at two distances differ by the shift alone and can be compared in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar, overload

from innerloop.core import TaskDistribution, TaskFamily
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.tasks.curves.sinusoid import SineTasks, moved
from innerloop.tasks.pictures.few_shot import FewShotImages
from innerloop.tasks.pictures.shifted import inverted, of_alphabet, of_digits, rotated

T = TypeVar("T", TaskDistribution, TaskFamily)
Amount = float | str


class Shift(NamedTuple):
    """One way in which tasks may differ from those of training.

    Attributes:
        summary: what an amount means.
        unit: of the amount, for an axis; "" where amounts are names.
        takes: whether a split can be shifted so.
        apply: the shifted split.
    """

    summary: str
    unit: str
    takes: Callable[[TaskDistribution], bool]
    apply: Callable[[TaskDistribution, Amount], TaskDistribution]


def _is_sine(tasks: TaskDistribution) -> bool:
    return isinstance(tasks, SineTasks)


def _has_pictures(tasks: TaskDistribution) -> bool:
    return len(tasks.input_shape) == 3


def _has_classes_of_pictures(tasks: TaskDistribution) -> bool:
    return isinstance(tasks, FewShotImages)


SHIFTS: dict[str, Shift] = {
    "phase": Shift(
        "sine: every phase is larger by AMOUNT",
        "radians",
        _is_sine,
        lambda t, a: moved(t, "phase", _number("phase", a)),
    ),
    "amplitude": Shift(
        "sine: every amplitude is larger by AMOUNT",
        "units of y",
        _is_sine,
        lambda t, a: moved(t, "amplitude", _number("amplitude", a)),
    ),
    "range": Shift(
        "sine: every x, of support and query, is larger by AMOUNT",
        "units of x",
        _is_sine,
        lambda t, a: moved(t, "input_range", _number("range", a)),
    ),
    "rotation": Shift(
        "pictures: turned by AMOUNT degrees, anticlockwise",
        "degrees",
        _has_pictures,
        lambda t, a: rotated(t, _number("rotation", a)),
    ),
    "invert": Shift(
        "pictures: 1 swaps ink and paper, 0 does not",
        "0 or 1",
        _has_pictures,
        lambda t, a: inverted(t, _switch("invert", a)),
    ),
    "mnist": Shift(
        "pictures: 1 takes the ten digits of MNIST for the classes, 0 does not",
        "0 or 1",
        _has_classes_of_pictures,
        lambda t, a: of_digits(t, _switch("mnist", a)),
    ),
    "alphabet": Shift(
        "pictures: all classes of a task are of the alphabet (script) AMOUNT",
        "",
        _has_classes_of_pictures,
        lambda t, a: of_alphabet(t, str(a)),
    ),
}


@overload
def shifted(tasks: TaskFamily, kind: str, amount: Amount) -> TaskFamily: ...
@overload
def shifted(tasks: TaskDistribution, kind: str, amount: Amount) -> TaskDistribution: ...
def shifted(tasks: T, kind: str, amount: Amount) -> T:
    """Tasks moved by ``amount``; of a family, those of the test split alone.

    Args:
        tasks: a split, or a family of three.
        kind: "phase", "amplitude" or "range" for `il.tasks.sinusoid`: that much is added to it in every task, so a distance
            as wide as the training range lies wholly outside of it. "rotation" (degrees) and "invert" (0 or 1) for any
            pictures in [0, 1]; "mnist" (0 or 1) and "alphabet" (a name) for `il.tasks.omniglot` and `il.tasks.glyphs`.
        amount: how far; 0 changes nothing.

    Returns:
        The same, drawn from the same task keys; a pure function of them.

    Raises:
        ConfigError: an unknown kind, or one that these tasks do not have.
        InputError: an amount that cannot be, or data that is not there.
    """
    if kind not in SHIFTS:
        raise ConfigError(f"unknown shift {kind!r}: {nearest(kind, SHIFTS)}")
    if isinstance(tasks, TaskFamily):
        return tasks._replace(test=shifted(tasks.test, kind, amount))
    if not SHIFTS[kind].takes(tasks):
        known = ", ".join(kinds_of(tasks)) or "none"
        raise ConfigError(f"{tasks.name} has no shift {kind!r}; its shifts: {known}")
    return SHIFTS[kind].apply(tasks, amount)


def kinds_of(tasks: TaskDistribution) -> list[str]:
    """The kinds of shift that a split has."""
    return [kind for kind, shift in SHIFTS.items() if shift.takes(tasks)]


def parse_shift(text: str) -> tuple[str, tuple[Amount, ...]]:
    """The kind and the amounts of ``KIND=AMOUNT,AMOUNT,...``.

    Raises:
        ConfigError: no such form, an unknown kind, or an amount twice.
        InputError: an amount that is no number, where numbers are meant.
    """
    kind, equals, rest = text.partition("=")
    kind = kind.strip()
    words = [word.strip() for word in rest.split(",")]
    if not equals or not all(words):
        raise ConfigError(f"expected KIND=AMOUNT or KIND=AMOUNT,AMOUNT,..., got {text!r}; for example phase=0,0.5,1")
    if kind not in SHIFTS:
        raise ConfigError(f"unknown shift {kind!r}: {nearest(kind, SHIFTS)}")
    amounts = tuple(_number(kind, word) if SHIFTS[kind].unit else word for word in words)
    for amount in amounts:
        if amounts.count(amount) > 1:
            raise ConfigError(f"{kind} expected different amounts, got {amount} twice; leave one out")
    return kind, amounts


def _number(kind: str, amount: Amount) -> float:
    try:
        value = float(amount)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or isinstance(amount, bool):
        raise InputError(f"shift {kind} expected a finite number ({SHIFTS[kind].unit}), got {amount!r}; give one")
    return value


def _switch(kind: str, amount: Amount) -> bool:
    if _number(kind, amount) not in (0, 1):
        raise InputError(f"shift {kind} expected 0 (as it is) or 1, got {amount!r}; give one of these")
    return bool(_number(kind, amount))
