"""Freed memory is kept where that was asked for: the next block costs no page faults."""

import os
import platform
import subprocess
import sys

import pytest

from innerloop.cli.main import main

_FAULTS = """
import resource, sys
import numpy as np
from innerloop import keep_freed_memory
done = keep_freed_memory() if "keep" in sys.argv else None
for round in range(12):
    if round == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(32 << 20, np.uint8).fill(1)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    said, number = done.stdout.split()
    return said, int(number)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_kept_memory_costs_no_page_faults():
    pages = (32 << 20) // 4096 // 600  # huge pages, where the system has them, are 512 at once
    assert faults()[1] >= 10 * pages
    said, number = faults("keep")
    assert said == "True" and number < 10 * pages / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"  # the user's own setting holds


def test_a_command_that_computes_keeps_memory_unless_told_otherwise(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("innerloop.cli.main.keep_freed_memory", lambda: asked.append(1))
    missing = str(tmp_path / "none")
    assert main(["evaluate", missing, "--no-keep-memory"]) == 2 and main(["list", "recipes"]) == 0 and not asked
    assert main(["evaluate", missing]) == 2 and asked == [1]
    capsys.readouterr()
    assert main(["--help"]) == 0
    assert "--no-keep-memory" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [True, False])
def test_training_says_that_memory_was_kept(kept, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("innerloop.cli.train.keeps", lambda: kept)
    monkeypatch.setattr("innerloop.cli.main.keep_freed_memory", lambda: kept)
    assert main(["train", "maml", "sinusoid", "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    assert ("(freed memory was kept for the next step; --no-keep-memory" in capsys.readouterr().out) == kept
