"""What goes wrong leaves as one line and an exit code."""

import contextlib
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


@pytest.mark.slow
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


def test_ctrl_c_in_any_command_is_told(monkeypatch, tmp_path, capsys):
    """cyclopts would leave with 130 and without a word."""
    import innerloop
    from innerloop.cli.main import main

    def fit(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(innerloop, "fit", fit, raising=False)
    assert main(["train", "maml", "sinusoid", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "innerloop: stopped by Ctrl-C\n")


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a job that a shell has put in the background is started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_a_library_swallows_is_no_defect(capsys):
    """As an import of torch does: it goes on without what it was importing, and fails later."""
    before = signal.getsignal(signal.SIGINT)

    def work():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("module 'numpy' has no attribute 'multiply'") from None
        return 0

    assert boundary.guarded(work) == 130
    assert capsys.readouterr().err == "innerloop: stopped by Ctrl-C\n"
    assert signal.getsignal(signal.SIGINT) is before
    assert boundary.guarded(raising(AttributeError("of our own"))) == 1


@pytest.mark.usefixtures("interruptible")
def test_a_swallowed_interrupt_ends_the_command_before_it_begins(capsys):
    from innerloop.cli import program

    begun = []

    def command() -> int:
        begun.append(1)
        return 0

    def work():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return program.run("anything", command, [])

    assert boundary.guarded(work) == 130
    assert begun == []
    assert capsys.readouterr().err == "innerloop: stopped by Ctrl-C\n"
    assert boundary.guarded(lambda: program.run("anything", command, [])) == 0


def test_a_result_that_is_not_finite_is_one_line(monkeypatch, tmp_path, capsys):
    import innerloop
    from innerloop.cli.main import main

    run = tmp_path / "run"
    line = "train maml sinusoid --steps 1 --num-tasks 1 --validate-every 0 --quiet --out"
    assert main([*line.split(), str(run)]) == 0
    capsys.readouterr()

    def evaluate(*_, **__):
        raise DivergedError("expected finite errors,\n got nan on 3 of 4 tasks; lower inner_lr")

    monkeypatch.setattr(innerloop, "evaluate", evaluate, raising=False)
    assert main(["evaluate", str(run), "--num-tasks", "4", "--json"]) == 2
    said = "innerloop: error: expected finite errors, got nan on 3 of 4 tasks; lower inner_lr\n"
    assert capsys.readouterr() == ("", said)
    assert not (run / "evaluation.json").exists()


def test_json_never_holds_a_nan(tmp_path, capsys):
    import json

    import numpy as np

    from innerloop.cli import output

    value = {"a": float("nan"), "b": [np.float32("inf"), 1.5], "c": {"d": (float("-inf"),)}}
    output.print_json(value)
    output.write_json(tmp_path / "x.json", value)

    def refuse(word):
        raise AssertionError(word)

    for text in (capsys.readouterr().out, (tmp_path / "x.json").read_text()):
        assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [None, 1.5], "c": {"d": [None]}}
