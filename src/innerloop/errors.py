"""The errors that innerloop raises: one small tree. A message says what was expected, what came, and what to do.

`InputError` is also a `ValueError`, so code that knows nothing of innerloop catches it. This file imports nothing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence


class InnerloopError(Exception):
    """Anything the user can mend. The command line prints its message on one line and exits with 2."""


class InputError(InnerloopError, ValueError):
    """Data, a file or an argument is not what it has to be."""


class ShapeError(InputError):
    """Tensors whose shapes (or dtypes) do not fit together."""


class ConfigError(InputError):
    """A setting, a name, or a pairing of parts that cannot work."""


class CheckpointError(InputError):
    """A checkpoint, run directory or task file that cannot be read or belongs to something else."""


class DivergedError(InnerloopError):
    """Training produced a value that is not finite."""


class OutOfMemory(InnerloopError):
    """A step needs more memory than there is."""


class InnerloopWarning(UserWarning):
    """Something was changed or left out on the user's behalf; the message says what and why."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence part that names the closest known name, or lists the names when none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(known)


def first_line(error: BaseException, kind: bool = False) -> str:
    """What an error says in its first line, as a part of a sentence: after its ``kind`` where wanted, or the kind alone."""
    name, said = type(error).__name__, uncoloured(str(error)).strip().partition("\n")[0].rstrip(" .")
    return f"{name}: {said}" if kind and said else said or name


def uncoloured(text: str) -> str:
    """A text of another library without the codes by which a terminal colours it."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def expect_whole(name: str, value: object, low: int = 1) -> None:
    """Raise ConfigError when an argument is no integer of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} expected an integer of at least {low}, got {value!r}")


def expect_above_zero(name: str, value: object) -> None:
    """Raise ConfigError when an argument is no finite number above 0."""
    if isinstance(value, bool) or not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} expected a finite number above 0, got {value!r}")


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, separated by commas, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
