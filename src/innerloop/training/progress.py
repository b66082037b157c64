"""What a person sees of a training run: a bar with rate and time left on a terminal, a line a validation elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Any

from innerloop.waiting import telling

# Seconds between lines where there is no bar: at first, and at most; each is twice the one before.
_FIRST, _MOST = 10.0, 600.0


class Display:
    """Progress on stderr; nothing when quiet."""

    after: float
    spoke: float

    def __init__(self, title: str, steps: int | None, start: int, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        self.silence: contextlib.ExitStack = contextlib.ExitStack()
        self.after, self.spoke = _FIRST, time.monotonic()
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(title, total=steps, completed=start, rate="", note="")

    def __enter__(self) -> Display:
        if self.bar is not None or self.quiet:
            self.silence.enter_context(telling(None))
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.silence.close()
        if self.bar is not None:
            self.bar.stop()

    def advance(self, step: int, steps: int | None, rate: float, note: str) -> None:
        """``steps``: how many there will be, as far as is known."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, total=steps, rate=f"{rate:.1f} steps/s", note=note)
        elif time.monotonic() - self.spoke > self.after:
            self.after = min(2 * self.after, _MOST)
            self.say(f"step {step}{'' if steps is None else f' of {steps}'}: {rate:.2g} steps/s, {note.strip()}")

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False)
        elif not self.quiet:
            self.spoke = time.monotonic()
            print(text, file=sys.stderr, flush=True)
