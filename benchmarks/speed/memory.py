"""Peak memory of an outer step over the grid of the scaling benchmark, each point in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks import ROOT
from benchmarks.speed import memory_probe
from benchmarks.speed.harness import blank, with_ratios
from benchmarks.speed.rows import Row
from benchmarks.speed.scaling import AXES, LONG_LOOPS
from benchmarks.speed.settings import Settings

CONTENDERS = ("ours", "ours_recompute", "plain_loop", "higher")
# Backpropagation keeps every inner step, implicit differentiation the last one.
LONG_LOOP_STEPS = (10, 50, 200)
LONG_LOOP_CONTENDERS = ("ours_implicit", "ours_vmapped", "ours_recompute")
_LIMIT = 600  # seconds for one process
_LEAST = 1.0  # MiB; what the allocator keeps and gives back is as much


def run(settings: Settings) -> Iterator[list[Row]]:
    """Every point of `scaling.AXES`, and long inner loops; ``ratio_to_ours`` is of memory here."""
    grid: dict[str, tuple[tuple[int, ...], tuple[str, ...]]]
    grid = {axis: (values, CONTENDERS) for axis, values in AXES.items()}
    grid[LONG_LOOPS] = (LONG_LOOP_STEPS, LONG_LOOP_CONTENDERS)
    if settings.tiny:
        grid = {"parameters": ((10**6,), CONTENDERS), LONG_LOOPS: (LONG_LOOP_STEPS[:1], LONG_LOOP_CONTENDERS[:2])}
    for axis, (values, contenders) in grid.items():
        for value in values:
            rows = []
            for name in settings.chosen(contenders):
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
    words = [sys.executable, "-m", "benchmarks.speed.memory_probe", name, axis, str(value), str(threads)]
    # Beside what implicit differentiation takes, the holes in glibc's heap are large: there each tensor has pages of its own.
    own_pages = {"MALLOC_MMAP_THRESHOLD_": "65536"} if axis == LONG_LOOPS else {}
    environment = {**os.environ, **own_pages}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_LIMIT, check=False, env=environment, cwd=ROOT
        )
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
