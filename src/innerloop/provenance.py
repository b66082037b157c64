"""Where a number comes from: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

_COMMIT_DIGITS = 10
# Files whose changes may move a number: the source and the programs of benchmarks/, not the rows beside them.
_MAKE_NUMBERS = ("src", ":(glob)benchmarks/**/*.py")


def _git(*words: str) -> str | None:
    """What git says of the source tree this package runs from; None where there is no tree or no git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@lru_cache(maxsize=1)
def commit() -> str:
    """The short commit of the source tree this package runs from, with "+" when it has changes; "" when there is none."""
    head, changes = (
        _git("rev-parse", f"--short={_COMMIT_DIGITS}", "HEAD"),
        _git("status", "--porcelain", "--", *_MAKE_NUMBERS),
    )
    return "" if head is None or changes is None else head + ("+" if changes else "")


@lru_cache(maxsize=1)
def past_commits() -> frozenset[str] | None:
    """The short commits that the source tree's present state is built on; None where that is not known (no full clone)."""
    if _git("rev-parse", "--is-shallow-repository") != "false":
        return None
    listed = _git("rev-list", "HEAD")
    return None if listed is None else frozenset(line[:_COMMIT_DIGITS] for line in listed.splitlines())


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name as the system tells it; the machine's kind where it does not."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Versions, processor and threads; no paths, no names of people or hosts."""
    from importlib.metadata import version

    import torch

    return {
        "innerloop": version("innerloop"),
        "torch": torch.__version__,
        "pillow": version("pillow"),  # draws the characters of `glyphs`, and makes pictures smaller
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
