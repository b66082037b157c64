"""Contenders in a process of their own: what one case leaves behind, in memory and in threads, does not reach the next.

There are two kinds. In one, freed memory is kept, as in `innerloop train` (`il.keep_freed_memory`); all contenders of a case
are in it. The other is as the system starts it, which is how most people run the other libraries.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.contenders.contender import Contender, ContenderError, Turn, failed
from benchmarks.speed.rows import DEFAULT, KEPT

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem

_LIMIT = 600.0  # seconds for one thing that a contender is asked for; preparing includes compiling


class OwnProcess:
    """A process that holds contenders; they are reached through `contenders`.

    One that ends it (a crash, too much memory, too much time) is told so in one line, and the others go on in a new one.

    Args:
        names: of the contenders.
        keep: let it keep freed memory.
        threads: of torch.
        make: makes the contenders, in the process.
        limit: seconds for one thing that a contender is asked for.

    Attributes:
        kind: what the rows say of it: `KEPT`, or "" where freed memory cannot be kept; `DEFAULT` where it was not to be.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        keep: bool,
        threads: int,
        make: Callable[[Sequence[str]], list[Contender]] | None = None,
        limit: float = _LIMIT,
    ) -> None:
        self.names, self.limit, self._keep = list(names), limit, keep
        self._given = (self.names, keep, threads, make)
        self._prepared: dict[str, Problem] = {}
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *self._given))
        self._process.start()
        other.close()
        try:
            kept = self._connection.recv()
        except (EOFError, OSError):
            raise ContenderError(f"failed: {self._end()} as it started") from None
        self.kind = KEPT if kept else "" if self._keep else DEFAULT

    def __enter__(self) -> OwnProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # which it takes for the end
        self._process.join(10)
        self._end()

    @property
    def contenders(self) -> list[Contender]:
        """Its contenders, as if they were here."""
        return [_Elsewhere(name, self) for name in self.names]

    def ask(self, name: str, what: str, *given: Any) -> Any:
        """The contender's attribute ``what``, or what its method of that name gives.

        Raises:
            ContenderError: it fails, or its process ends.
        """
        ended = ""
        try:
            self._connection.send((name, what, given))
            if self._connection.poll(self.limit):
                well, found = self._connection.recv()
            else:
                ended = f"not done within {self.limit:g} s"
                well, found = False, None
        except (EOFError, OSError):
            well, found, ended = False, None, self._end()
        if ended:
            self._begin_anew(name)
            raise ContenderError(f"failed: {ended}")
        if not well:
            raise ContenderError(found)
        if what == "prepare":
            self._prepared[name] = given[0]
        return found

    def _begin_anew(self, without: str) -> None:
        """A new process, with those that were prepared in the old one but this."""
        self._end()
        self._prepared.pop(without, None)
        again, self._prepared = self._prepared, {}
        self._start()
        for name, problem in again.items():
            self.ask(name, "prepare", problem)
            self.ask(name, "run", self.ask(name, "warmup"))

    def _end(self) -> str:
        """How the process has ended; it is ended where it has not."""
        self._process.join(5)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        with suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


def _serve(
    connection: Connection,
    names: Sequence[str],
    keep: bool,
    threads: int,
    make: Callable[[Sequence[str]], list[Contender]] | None,
) -> None:
    """What runs in the process: answers what contenders are asked for until nobody asks any more."""
    from benchmarks.speed import contenders
    from innerloop.allocation import keep_freed_memory

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    kept = keep and keep_freed_memory()
    held = dict(zip(names, (make or contenders.make)(names), strict=True))
    connection.send(kept)
    while True:
        try:
            name, what, given = connection.recv()
        except EOFError:
            return
        torch = sys.modules.get("torch")
        if torch is not None and torch.get_num_threads() != threads:  # whatever the contender before has set
            torch.set_num_threads(threads)
        try:
            found = getattr(held[name], what)
            connection.send((True, found(*given) if callable(found) else found))
        except Exception as error:
            connection.send((False, failed(error)))


class _Elsewhere(Contender):
    """A contender in another process."""

    def __init__(self, name: str, process: OwnProcess) -> None:
        self.name, self._process = name, process

    @property
    def process(self) -> str:  # type: ignore[override]
        return self._process.kind

    @property
    def warmup(self) -> int:  # type: ignore[override]
        return self._process.ask(self.name, "warmup")

    def available(self) -> str | None:
        return self._process.ask(self.name, "available")

    def version(self) -> str:
        return self._process.ask(self.name, "version")

    def refuses(self, problem: Problem) -> str | None:
        return self._process.ask(self.name, "refuses", problem)

    def remark(self) -> str:
        return self._process.ask(self.name, "remark")

    def prepare(self, problem: Problem) -> None:
        self._process.ask(self.name, "prepare", problem)

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        return self._process.ask(self.name, "meta_gradient", batch)

    def step(self) -> None:
        self.run(1)

    def run(self, steps: int) -> None:
        self._process.ask(self.name, "run", steps)

    def turn(self, steps: int, clock: Callable[[], float] = time.perf_counter) -> Turn:
        del clock  # that of its process
        return self._process.ask(self.name, "turn", steps)
