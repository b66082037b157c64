"""A few ratios of the plain loop's time to ours, and whether one has halved since it was stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from benchmarks.speed.cases import run_cases
from benchmarks.speed.conv4 import problem as conv4_problem
from benchmarks.speed.problem import Problem, sine_problem
from benchmarks.speed.rows import Row, latest
from benchmarks.speed.settings import Settings
from innerloop.errors import InputError

FILE = "check.csv"
_LARGEST_DROP = 2.0
# What is measured: its name in front of the case, and the case. Another line is another ratio; store it (`check`) with it.
CASES: tuple[tuple[str, Callable[[], Problem]], ...] = (
    ("sine", sine_problem),
    ("sine", lambda: sine_problem(25, 100)),
    ("conv4", lambda: conv4_problem(32, 1, 1)),
)
_TINY: tuple[tuple[str, Callable[[], Problem]], ...] = (("sine", lambda: sine_problem(2, 1)),)


def run(settings: Settings) -> Iterator[list[Row]]:
    """Ours and the plain loop on each of `CASES`, in one process a case that keeps the memory it frees."""
    quick = dataclasses.replace(
        settings,
        rounds=min(settings.rounds, 7),
        seconds=min(settings.seconds, 0.2),
        contenders=None,
        both_processes=False,
    )
    made = ((name, make()) for name, make in (_TINY if settings.tiny else CASES))
    problems = (dataclasses.replace(problem, case=f"{name}: {problem.case}") for name, problem in made)
    yield from run_cases("check", problems, ("ours", "plain_loop"), quick)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One ratio beside its stored value; ``ratio`` None: it could not be measured, ``note`` says why."""

    case: str
    ratio: float | None
    stored: float
    note: str

    @property
    def halved(self) -> bool:
        return self.ratio is None or self.ratio < self.stored / _LARGEST_DROP

    def __str__(self) -> str:
        now = f"not measured ({self.note})" if self.ratio is None else f"{self.ratio:.2f} times as fast"
        return f"{self.case}: ours is {now}, stored {self.stored:.2f}: {'HALVED' if self.halved else 'ok'}"


def _loops(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.case: row for row in rows if row.contender == "plain_loop"}


def judge(measured: Sequence[Row], stored: Sequence[Row]) -> list[Verdict]:
    """A verdict for each case measured.

    Compared with this machine's last stored row where there is one, else with the smallest of the other machines'.

    Raises:
        InputError: a case has no stored ratio.
    """
    found = []
    kept = [row for row in latest(stored) if row.contender == "plain_loop" and row.ratio_to_ours is not None]
    for case, row in _loops(measured).items():
        same_case = [other for other in kept if other.case == case]
        here = [other for other in same_case if (other.machine, other.threads) == (row.machine, row.threads)]
        ratios = [other.ratio_to_ours for other in here[-1:] or same_case if other.ratio_to_ours is not None]
        if not ratios:
            raise InputError(
                f"expected a stored ratio of {case!r}, got none; store it with python -m benchmarks.speed check"
            )
        note = row.note or next((r.note for r in measured if r.case == case and r.contender == "ours"), "")
        found.append(Verdict(case, row.ratio_to_ours, min(ratios), note))
    return found
