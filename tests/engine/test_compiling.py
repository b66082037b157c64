"""Compiling never reaches the user as a crash, a wait without end, or a wrong number."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
import torch

from innerloop.engine import compiling
from innerloop.engine.compiling import STANDARD, CompileFailed, Limits, begin, trial


def compile_function(function, args, limits=STANDARD):
    return begin([(function, args)], limits).wait()[0]


def squares(state, x):
    return {"a": state["a"] * x + 1}, x.square().sum()


def arguments():
    return {"a": torch.arange(3.0)}, torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.slow
def test_a_compiled_function_gives_the_same_in_the_same_structure():
    compiled = compile_function(squares, arguments())
    found, total = compiled(*arguments())
    assert found["a"].tolist() == [1.0, 3.0, 7.0] and float(total) == 14.0
    assert not total.requires_grad


def stand_in(folder: Path, script: str) -> str:
    """A program that takes the compiling process's place."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", r"crashed \(signal 11\)"),
        ("exec sleep 60", "took more than 1 s"),
        ("echo 'ImportError: no compiler' >&2; exit 1", "ImportError: no compiler"),
        ("exit 0", "it said nothing"),
        ('echo \'{"error": "CppCompileError: g++"}\'', "CppCompileError"),
        ('echo \'{"right": false, "difference": 0.5}\'', r"differs from the step by 0\.5"),
    ],
)
def test_what_can_go_wrong_in_the_other_process_is_one_error(tmp_path, monkeypatch, script, message):
    monkeypatch.setattr(compiling.sys, "executable", stand_in(tmp_path, script))
    begun = time.monotonic()
    with pytest.raises(CompileFailed, match=message):
        compile_function(squares, arguments(), Limits(seconds=1))
    assert time.monotonic() - begun < 30


def test_no_process_at_all(monkeypatch):
    monkeypatch.setattr(compiling.sys, "executable", "/nonexistent/python")
    with pytest.raises(CompileFailed, match="no process"):
        compile_function(squares, arguments())


def test_code_that_looks_at_values_is_refused_before_any_process(monkeypatch):
    monkeypatch.setattr(compiling, "Attempt", lambda *_: pytest.fail("started"))
    with pytest.raises(CompileFailed, match="cannot be traced"):
        compile_function(lambda x: x * float(x.sum()), (torch.ones(2),))
    with pytest.raises(CompileFailed, match="operations, more than 2"):
        compile_function(lambda x: (x.sin() + x.cos()).exp(), (torch.ones(2),), Limits(nodes=2))


@pytest.mark.parametrize(("change", "right"), [(1.0, True), (1.0 + 1e-5, True), (1.1, False), (float("nan"), False)])
def test_the_trial_compares_numbers(monkeypatch, change, right):
    import pickle

    from innerloop.engine.tracing import trace

    graph, leaves, _ = trace(lambda x: (x + 1, x > 0), (torch.ones(3),))
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, _: lambda *v: (graph(*v)[0] * change, graph(*v)[1]))
    assert trial([pickle.dumps(graph)], [leaves])["right"] is right


def test_the_trial_says_what_failed(monkeypatch):
    monkeypatch.setattr(compiling, "compile_graph", lambda *_: (_ for _ in ()).throw(RuntimeError("no g++\nlong text")))
    assert trial([b"not a graph"], [[]])["error"].startswith("UnpicklingError")


def test_other_processes_end_with_what_they_were_for(tmp_path, monkeypatch):
    """With whoever gives up waiting, and with whoever lets go of what is pending."""
    monkeypatch.setattr(compiling.sys, "executable", stand_in(tmp_path, "exec sleep 60"))
    pending = compiling.begin([(squares, arguments())] * 2)
    given_up = compiling.Attempt([], [], 60)
    process, folder = given_up.process, Path(given_up.folder.name)
    assert process.poll() is None and folder.exists()
    del given_up
    assert process.poll() is not None and not folder.exists()
    begun = time.monotonic()
    pending.cancel()
    with pytest.raises(CompileFailed, match="given up"):
        pending.wait()
    assert time.monotonic() - begun < 10


def test_one_failure_is_enough(tmp_path, monkeypatch):
    """Nobody waits for the other graphs then."""
    made = []

    class One(compiling.Attempt):
        def __init__(self, *given):
            monkeypatch.setattr(compiling.sys, "executable", stand_in(tmp_path, "exec sleep 60" if made else "exit 0"))
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(compiling, "Attempt", One)
    monkeypatch.setattr(compiling, "_cores", lambda: 2)
    with pytest.raises(CompileFailed, match="it said nothing"):
        compiling.begin([(squares, arguments())] * 2).wait()
    assert len(made) == 2 and all(one.process.poll() is not None for one in made)
