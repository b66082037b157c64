"""Ctrl-C finishes the step that is under way, so that the checkpoint is a whole one; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted:
    """Set when the user asked to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def on_interrupt() -> Iterator[Interrupted]:
    flag = Interrupted()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # only the main thread may set signal handlers
        return

    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        del number, frame
        if flag.asked:
            raise KeyboardInterrupt
        flag.asked = True

    signal.signal(signal.SIGINT, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
