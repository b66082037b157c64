"""One contender's peak memory on one case; a program of its own (``python -m benchmarks.speed.memory_probe``).

Memory that one measurement leaves behind would help the next, so each has a fresh process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

from innerloop.errors import InputError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def readable() -> str | None:
    """Why the peak cannot be read here, or None."""
    return None if _RESET.exists() else "the peak of a process is read on Linux only"


def _resident(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the highest since the last reset), MiB."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise InputError(f"expected a line {field} in {_STATUS}, got none; this needs Linux")


def peak_mib(step: Callable[[], object]) -> float:
    """What this process takes while ``step`` runs beyond what it holds before, MiB; where `readable` has no objection."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for later would hide the step's own memory
    before = _resident("VmRSS")
    _RESET.write_text("5", encoding="ascii")
    step()
    return max(0.0, _resident("VmHWM") - before)


def measure(contender_name: str, axis: str, value: int) -> dict[str, object]:
    """{"peak_mib": of one outer step beyond what stays between steps} or {"note": why not}."""
    from benchmarks.speed.contenders import make
    from benchmarks.speed.scaling import problem

    contender, case = make([contender_name])[0], problem(axis, value)
    reason = contender.available() or contender.refuses(case)
    if reason:
        return {"note": reason}
    contender.prepare(case)
    contender.run(contender.warmup)  # libraries' workspaces, compilation and the engine's trials are not the step's
    return {"peak_mib": peak_mib(lambda: contender.run(2)), "version": contender.version()}


if __name__ == "__main__":
    import torch

    name, axis, value, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps(measure(name, axis, int(value))))
