"""What goes wrong leaves as one line and an exit code."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from innerloop.cli import boundary
from innerloop.errors import DivergedError, InnerloopWarning, ShapeError


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ShapeError("expected 2,\n got 3; mend it"), 2, "error: expected 2, got 3; mend it"),
        (DivergedError("loss is nan at step 3"), 2, "error: loss is nan"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, "full disk"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "expected permission to use 'x'"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "'x'"),
        (MemoryError(), 2, "--chunk-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "--chunk-size"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (KeyError("oops"), 1, "internal error: KeyError: 'oops'; please report"),
    ],
)
def test_errors_become_one_line(capsys, error, code, said):
    assert boundary.guarded(raising(error)) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_a_defect_shows_its_traceback_only_when_asked(capsys, monkeypatch):
    monkeypatch.setenv("INNERLOOP_DEBUG", "1")
    assert boundary.guarded(raising(KeyError("oops"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_our_warnings_are_notes_and_others_unseen(capsys):
    import warnings

    def work():
        warnings.warn("layers were converted", InnerloopWarning, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)
        return 0

    assert boundary.guarded(work) == 0
    assert capsys.readouterr().err == "innerloop: note: layers were converted\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_on_one_line():
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "innerloop", "list"]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "full disk" in done.stderr


def test_ctrl_c_stops_a_training_run_with_130_and_it_resumes(tmp_path):
    out = tmp_path / "run"
    line = [sys.executable, "-m", "innerloop", "train", "maml", "sinusoid", "--steps", "100000", "--quiet"]
    line += ["--validate-every", "0", "--log-every", "1", "--out", str(out)]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    deadline = time.time() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.time() < deadline:
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert f"innerloop train --resume {out}" in said
    assert (out / "checkpoint.safetensors").exists()
