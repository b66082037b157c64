"""The page about objectives, in both languages: its code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["objectives.md", "objectives.zh-CN.md"])
def test_the_example_runs_in_python_and_on_the_command_line(page, tmp_path):
    code = next(block for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S))
    short = code.replace("steps=200", "steps=3, quiet=True").replace("curve_steps=5", "curve_steps=2, num_tasks=5")
    problem, use = short.split("tasks = clouds()", 1)
    (tmp_path / "mine.py").write_text(problem)
    done = subprocess.run(
        [sys.executable, "-c", f"from mine import *\ntasks = clouds(){use}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(eval(done.stdout)) == 3
    words = ["train", "maml", "mine:clouds", "--steps", "2", "--out", "run", "--quiet", "--validate-every", "0"]
    done = subprocess.run([sys.executable, "-m", "innerloop", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = ["evaluate", "run", "--tasks", "mine:clouds", "--num-tasks", "4", "--json"]
    done = subprocess.run([sys.executable, "-m", "innerloop", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and '"metric": "distance"' in done.stdout, done.stderr
