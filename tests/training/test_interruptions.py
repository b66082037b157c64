"""Runs that are killed, interrupted or out of disk space lose nothing but the steps after the last checkpoint."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_run
import pytest
import torch

import innerloop as il
from innerloop.storage import load_tensors, write_atomically

STEPS = 20


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, killed_run.__file__, *map(str, arguments)]
    source = str(Path(il.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def fit_here(folder: Path, resume: bool = False) -> il.MetaLearner:
    learner, tasks = killed_run.learner_and_tasks()
    il.fit(learner, tasks, out=folder, resume=resume, **killed_run.settings(STEPS))
    return learner


@pytest.mark.slow
def test_kill_minus_nine_and_resume_gives_the_uninterrupted_run(tmp_path):
    whole = fit_here(tmp_path / "whole")
    kills = sorted(random.Random(2).sample(range(4, STEPS - 4), 3))
    for number, step in enumerate(kills):
        flags = ["resume"] * (number > 0) + ["saving"] * (number == 1)
        process = start(tmp_path / "killed", STEPS, step, *flags)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors
    again = fit_here(tmp_path / "killed", resume=True)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")
    ends = [
        load_tensors(tmp_path / p / "checkpoint.safetensors", "innerloop-checkpoint", 1)[0] for p in ("whole", "killed")
    ]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(v, ends[1][k]) for k, v in ends[0].items())


def test_ctrl_c_leaves_a_whole_checkpoint_and_stops(tmp_path):
    process = start(tmp_path / "run", 10_000_000, -1)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoint.safetensors").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    stopped, steps = output.split()
    _, header = load_tensors(tmp_path / "run" / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert stopped == "interrupted" and header["step"] == int(steps) > 0


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, function):
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_in_training_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    learner, tasks = killed_run.learner_and_tasks()
    replace, backward = os.replace, learner.backward

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    def later(batch, **options):
        monkeypatch.setattr(os, "replace", full if options["outer_step"] >= 3 else replace)
        return backward(batch, **options)

    learner.backward = later
    with pytest.raises(OSError, match="No space"):
        il.fit(learner, tasks, out=tmp_path / "run", **killed_run.settings(STEPS))
    monkeypatch.setattr(os, "replace", replace)
    _, header = load_tensors(tmp_path / "run" / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert header["step"] == 3 and not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]
    assert fit_here(tmp_path / "run", resume=True) is not None
