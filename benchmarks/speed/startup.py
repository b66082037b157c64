"""How long the command line and the import take, each in a fresh process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.speed.contenders.contender import Turn, timed
from benchmarks.speed.harness import alternate, blank, with_ratios
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings
from innerloop.errors import InputError

COMMANDS = {
    "python": ["-c", "pass"],
    "innerloop --help": ["-m", "innerloop", "--help"],
    "import innerloop": ["-c", "import innerloop"],
    "import torch": ["-c", "import torch"],
    "import innerloop, first use": ["-c", "import innerloop as il; il.maml, il.fit"],
}


def _start(words: list[str], times: int) -> Turn:
    return timed(lambda: _run(words, times))._replace(minor_faults=None)  # they would be those of this process


def _run(words: list[str], times: int) -> None:
    for _ in range(times):
        done = subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise InputError(
                f"expected {' '.join(words)!r} to run, got exit code {done.returncode}: {done.stderr[-200:]}"
            )


def run(settings: Settings) -> Iterator[list[Row]]:
    """One case, a contender for each command; "import innerloop, first use" is what loads torch."""
    names = list(COMMANDS)[:2] if settings.tiny else list(COMMANDS)
    runs: dict[str, Any] = {n: lambda k, words=COMMANDS[n]: _start(words, k) for n in names}
    settings.say(f"startup: {settings.rounds} rounds of {', '.join(names)}")
    rows = []
    for name, timing in alternate(runs, settings.rounds, seconds=1e-9).items():
        row = blank("startup", "fresh process", name, settings.threads)
        if isinstance(timing, str):
            rows.append(dataclasses.replace(row, note=timing))
        else:
            rows.append(dataclasses.replace(row, **dataclasses.asdict(timing)))
    yield with_ratios(rows)
