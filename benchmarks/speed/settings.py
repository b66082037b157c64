"""How a benchmark is to run: one frozen record, handed to every benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from innerloop.errors import ConfigError


def _silent(text: str) -> None:
    del text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark is to run.

    Attributes:
        rounds: timed rounds; every round runs each contender once.
        seconds: how long a contender runs in a round, at least.
        contenders: names to run; None: all of the benchmark's.
        threads: CPU threads; `conditions.limited` has to hold the process to them.
        out: folder of the CSV files; None: nothing is written.
        tiny: the smallest size of each benchmark, for tests.
        both_processes: run the contenders in a default process, too, beside the one that keeps its memory.
        say: told what is under way.

    Raises:
        ConfigError: a number out of range.
    """

    rounds: int = 9
    seconds: float = 0.2
    contenders: Sequence[str] | None = None
    threads: int = 1
    out: Path | None = None
    tiny: bool = False
    both_processes: bool = True
    say: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"--rounds expected an integer of at least 1, got {self.rounds}")
        if not self.seconds > 0:
            raise ConfigError(f"seconds expected a number above 0, got {self.seconds}")

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of a benchmark's contenders that are wanted."""
        return [name for name in names if self.contenders is None or name in self.contenders]
