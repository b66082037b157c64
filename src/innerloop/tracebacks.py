"""Tracebacks that lead from the call to the user's model without the machinery between.

An error in a model comes up through the engine, torch.func and the inner loop: forty frames, few of which its author knows.
What runs inside `shortened` raises the same error with the frames of the machinery left out; ``INNERLOOP_TRACEBACK=full`` in
the environment keeps them.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

_HERE = Path(__file__).parent
_MACHINERY = tuple(
    str(place)
    for place in (
        *(_HERE / part for part in ("engine", "functional", "core.py", "training", "tracebacks.py")),
        Path("torch") / "_functorch",
        Path("torch") / "nn" / "utils" / "stateless.py",
        Path("torch") / "nn" / "modules" / "module.py",
    )
)
_KEPT = str(_HERE / "training" / "fit.py"), "fit"  # where a user's call comes in


class shortened:
    """Leave the machinery's frames out of the traceback of what is raised inside."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, found: TracebackType | None
    ) -> None:
        # A context manager made of a generator would have its change undone by contextlib.
        if isinstance(error, Exception) and os.environ.get("INNERLOOP_TRACEBACK") != "full":
            error.__traceback__ = _without_machinery(found)


def _without_machinery(found: TracebackType | None) -> TracebackType | None:
    frames = []
    while found is not None:
        frames.append(found)
        found = found.tb_next
    made: TracebackType | None = None
    for entry in reversed(frames):
        code = entry.tb_frame.f_code
        # The last frame is where the error is, whoever's it is.
        if entry is frames[-1] or (code.co_filename, code.co_name) == _KEPT or not _is_machinery(code.co_filename):
            made = TracebackType(made, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return made


def _is_machinery(file: str) -> bool:
    return any(place in file for place in _MACHINERY)
