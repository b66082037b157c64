"""Peak memory of an outer step over the grid of the scaling benchmark, each point in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator

from innerloop.bench import memory_probe
from innerloop.bench.harness import blank, with_ratios
from innerloop.bench.rows import Row
from innerloop.bench.scaling import AXES
from innerloop.bench.settings import Settings

CONTENDERS = ("ours", "ours_recompute", "plain_loop", "higher")
_LIMIT = 600  # seconds for one process
_LEAST = 1.0  # MiB; what the allocator keeps and gives back is as much


def run(settings: Settings) -> Iterator[list[Row]]:
    """Every point of `scaling.AXES`; ``ratio_to_ours`` is of memory here."""
    for axis, values in {"parameters": (10**6,)}.items() if settings.tiny else AXES.items():
        for value in values:
            rows = []
            for name in settings.chosen(CONTENDERS):
                settings.say(f"memory, {axis} {value}: {name}")
                found = _probe(name, axis, value, settings.threads)
                row = blank("memory", f"{axis} {value}", name, settings.threads)
                rows.append(dataclasses.replace(row, **found))
            yield with_ratios(rows, "peak_mib")


def _probe(name: str, axis: str, value: int, threads: int) -> dict[str, object]:
    """What the probe says, or why it says nothing."""
    reason = memory_probe.readable()
    if reason:
        return {"note": reason}
    words = [sys.executable, "-m", "innerloop.bench.memory_probe", name, axis, str(value), str(threads)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"note": f"failed: not done within {_LIMIT} s"}
    if done.returncode != 0:
        # Killed by the system (out of memory) it says nothing; else the last line is the error.
        said = done.stderr.strip().splitlines()
        return {"note": f"failed: exit code {done.returncode}: {said[-1][:160] if said else 'killed'}"}
    measured = json.loads(done.stdout.splitlines()[-1])
    if measured.get("peak_mib", _LEAST) < _LEAST:
        measured["note"] = "under 1 MiB: too little to tell apart"
    return measured
