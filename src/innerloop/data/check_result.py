"""What `innerloop data check` found out about a path: lines for people, facts for programs, the command to go on with."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The answer of a data check.

    Attributes:
        lines: sentences for people, in the order in which they are printed.
        facts: the same as plain values (numbers, texts, lists and dicts of them), for ``--json``.
        command: the train command that suits the data; "" where nothing can be trained on it.
        family: the problem that the path makes (a TaskFamily), for a picture of sample tasks; None where it makes none.
    """

    lines: list[str]
    facts: dict[str, Any]
    command: str = ""
    family: Any = dataclasses.field(default=None, compare=False, repr=False)
