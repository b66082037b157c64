"""What is waited for, told in one line once it has taken two seconds: on the command line's stderr; elsewhere nothing is said."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

AFTER = 2.0  # seconds
AGAIN = 60.0  # seconds before the same is told again

_tell: Callable[[str], None] | None = None  # None: nothing is told
_told: dict[str, float] = {}  # what, and when
_waits: list[_Wait] = []  # the innermost last


class _Wait:
    """One thing that is waited for; its clock stands still while something within it is."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.timer: threading.Timer | None = None

    def go(self) -> None:
        self.timer = threading.Timer(AFTER, self._say)
        self.timer.daemon = True
        self.timer.start()

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _say(self) -> None:
        now = time.monotonic()
        if _tell is not None and now - _told.get(self.what, -math.inf) >= AGAIN:
            _told[self.what] = now
            _tell(self.what)


@contextlib.contextmanager
def telling(tell: Callable[[str], None] | None) -> Iterator[None]:
    """Within it, what takes long is told by ``tell``, the same once a minute; None: nothing is, as where a bar moves anyway."""
    global _tell
    before, _tell = _tell, tell
    if before is None:
        _told.clear()
    try:
        yield
    finally:
        _tell = before


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Tell ``what`` once it has taken `AFTER` seconds. In threads beside the main one nobody waits, and nothing is told."""
    if _tell is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    if _waits:
        _waits[-1].stop()
    wait = _Wait(what)
    _waits.append(wait)
    wait.go()
    try:
        yield
    finally:
        wait.stop()
        _waits.pop()
        if _waits:
            _waits[-1].go()
