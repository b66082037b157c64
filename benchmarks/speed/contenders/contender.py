"""What the harness asks of a contender."""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


class Turn(NamedTuple):
    """What some steps took: seconds, and pages that the system filled with zeros (minor faults; None: not counted here)."""

    seconds: float
    minor_faults: int | None = None


class ContenderError(Exception):
    """What went wrong with a contender, in words for its row."""


def failed(error: Exception) -> str:
    """The first line of what went wrong, for a row's note."""
    if isinstance(error, ContenderError):
        return str(error)
    text = " ".join(str(error).split()) or "no message"
    return f"failed: {type(error).__name__}: {text[:160]}"


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Turn:
    """Do some work once; minor faults are those of this process."""
    faults, start = _minor_faults(), clock()
    work()
    seconds, after = clock() - start, _minor_faults()
    return Turn(seconds, None if faults is None or after is None else after - faults)


def _minor_faults() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Contender(ABC):
    """One way to take an outer step.

    Attributes:
        name: in the rows.
        distribution: the package whose version the rows give.
        modules: what has to be importable.
        warmup: steps before the clock starts.
        process: what the rows say of the process that it runs in, see `rows.Row`.
    """

    name: str
    distribution: str = "torch"
    modules: tuple[str, ...] = ()
    warmup: int = 3
    process: str = ""

    def available(self) -> str | None:
        """Why it cannot run here, or None."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"not installed: {module}"
        return None

    def version(self) -> str:
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return "unknown"

    def refuses(self, problem: Problem) -> str | None:
        """Why this problem is not for it, or None: most adapt by gradients and do nothing else."""
        return None if problem.kind == "gradient" else f"does not do {problem.kind}"

    def remark(self) -> str:
        """What its row should say besides its numbers."""
        return ""

    @abstractmethod
    def prepare(self, problem: Problem) -> None:
        """Take the initial weights and the tasks over; compile what is to be compiled."""

    @abstractmethod
    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        """The gradient of the mean outer loss over this batch at the initial weights, by name; changes nothing.

        It is asked for before the first step.
        """

    @abstractmethod
    def step(self) -> None:
        """One whole outer step on the next batch: inner loops, meta-gradient, Adam."""

    def run(self, steps: int) -> None:
        """``steps`` outer steps, and back only when they are done."""
        for _ in range(steps):
            self.step()

    def turn(self, steps: int, clock: Callable[[], float] = time.perf_counter) -> Turn:
        """`run`, and what it took."""
        return timed(lambda: self.run(steps), clock)
