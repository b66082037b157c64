"""A new method is one file and one line: from these come its listing, its help, its command and its contract tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHOD = '''"""MAML on the last layer's bias and all else alike: a method to try the house with."""

from __future__ import annotations

from torch import nn

from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, gradient_method, method
from innerloop.rules import SGD


@method(classification={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3}, declares={"memory": "as maml"})
def newcomer(
    model: nn.Module, *, inner_lr: float = 0.1, inner_steps: int = 2, eval_steps: int | None = None, loss: LossArgument = None
) -> MetaLearner:
    """Gradient steps, backpropagated through.

    Args:
        model: any nn.Module.
        inner_lr: inner rate of the newcomer.
        inner_steps, eval_steps: inner steps in meta-training and on a new task.
        loss: a loss or its name.
    """
    return gradient_method(
        model, rule=SGD(inner_lr), inner_steps=inner_steps, eval_steps=eval_steps, loss=loss, adapt=None, freeze=None,
        batch_norm="batch", estimate=Backprop, outer=Outer(),
    )
'''
LINE = '    "newcomer": Entry("innerloop.methods.newcomer:newcomer", "A method that came today."),\n'


@pytest.mark.slow
def test_a_method_is_one_file_and_one_line(tmp_path):
    source, tests = tmp_path / "src", tmp_path / "tests"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "innerloop", source / "innerloop", ignore=skipped)
    shutil.copytree(ROOT / "tests", tests, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (source / "innerloop" / "methods" / "newcomer.py").write_text(METHOD, encoding="utf-8")
    registry = source / "innerloop" / "methods" / "__init__.py"
    start = "ALGORITHMS: dict[str, Entry] = {\n"
    registry.write_text(registry.read_text(encoding="utf-8").replace(start, start + LINE, 1), encoding="utf-8")

    def run(*argv: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    assert "newcomer\tA method that came today." in run("-m", "innerloop", "list", "algorithms")
    told = run("-m", "innerloop", "train", "newcomer", "sinusoid", "--help")
    assert "A method that came today. Takes classification and regression" in " ".join(told.split())
    assert "inner rate of the newcomer" in told
    run(
        "-m",
        "innerloop",
        "train",
        "newcomer",
        "sinusoid",
        "--steps",
        "2",
        "--valid-tasks",
        "2",
        "--quiet",
        "--out",
        "run",
    )
    run("-m", "innerloop", "evaluate", "run", "--num-tasks", "2")
    chosen = "newcomer and not batch_norm and (agree or learns or exact or permuted or options or bit)"
    told = run("-m", "pytest", "-p", "no:cacheprovider", "-m", "not long", "tests/contract", "-k", chosen)
    assert int(told.split(" passed")[0].split()[-1]) >= 8, told
