"""Compiling never reaches the user as a crash, a wait without end, or a wrong number."""

from __future__ import annotations

import pickle
import stat
import time
import zipfile
from pathlib import Path

import pytest
import torch

from innerloop.engine import compiling, kept
from innerloop.engine.compiling import STANDARD, CompileFailed, Limits, begin, trial
from innerloop.engine.tracing import trace


@pytest.fixture(autouse=True)
def compiled_for_one_test_alone(tmp_path, monkeypatch):
    """In a folder that tests look into."""
    monkeypatch.setattr(kept, "_folder", lambda: tmp_path / "compiled")


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


# ---- what an earlier run has compiled -------------------------------------------------------------------------------
def no_process(monkeypatch):
    monkeypatch.setattr(compiling, "Attempt", lambda *_: pytest.fail("compiled again"))


def the_file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "compiled").glob("*.zip")
    return found


@pytest.mark.slow
def test_a_second_run_compiles_nothing_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "before")
    first = compile_function(squares, arguments())(*arguments())
    assert the_file(tmp_path).stat().st_mode & 0o777 == 0o600
    no_process(monkeypatch)
    again = compile_function(squares, arguments())(*arguments())
    assert torch.equal(first[0]["a"], again[0]["a"]) and torch.equal(first[1], again[1])
    assert compiling.os.environ["TORCHINDUCTOR_CACHE_DIR"] == "before"
    with pytest.raises(BaseException, match="compiled again"):  # another constant, another graph
        compile_function(lambda state, x: ({"a": state["a"] * x + 2}, x.square().sum()), arguments())
    wider = {"a": torch.arange(4.0)}, torch.arange(4.0)
    with pytest.raises(BaseException, match="compiled again"):
        compile_function(squares, wider)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def no_archive(path: Path) -> None:
    path.write_bytes(b"what somebody else keeps here")


def of_another_graph(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"another name"


def writable_by_all(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize("damage", [truncated, one_bit, no_archive, of_another_graph, writable_by_all, Path.unlink])
def test_what_is_damaged_or_foreign_is_not_taken(tmp_path, damage):
    (tmp_path / "written" / "below").mkdir(parents=True)
    (tmp_path / "written" / "below" / "one").write_bytes(torch.rand(4096).numpy().tobytes())
    kept.remember("a", tmp_path / "written")
    assert kept.recall("a", tmp_path / "read")
    read, written = (tmp_path / name / "below" / "one" for name in ("read", "written"))
    assert read.read_bytes() == written.read_bytes()
    damage(the_file(tmp_path))
    assert not kept.recall("a", tmp_path / "read again")


@pytest.mark.slow
def test_what_is_damaged_is_compiled_again(tmp_path, monkeypatch):
    compile_function(squares, arguments())
    truncated(the_file(tmp_path))
    started = []

    class One(compiling.Attempt):
        def __init__(self, *given):
            started.append(self)
            super().__init__(*given)

    monkeypatch.setattr(compiling, "Attempt", One)
    found, total = compile_function(squares, arguments())(*arguments())
    assert found["a"].tolist() == [1.0, 3.0, 7.0] and float(total) == 14.0 and len(started) == 1
    no_process(monkeypatch)  # it was kept anew
    compile_function(squares, arguments())


@pytest.mark.parametrize(("change", "right"), [(1.0, True), (1.1, False), (float("nan"), False)])
def test_what_was_kept_is_compared_again(tmp_path, monkeypatch, change, right):
    """A file whose numbers are others here is not taken, and does not stay."""
    _, packed, given = a_graph()
    name = kept.name(packed, given)
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "one").write_bytes(b"1")
    kept.remember(name, tmp_path / "written")
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, _: lambda *v: (graph(*v)[0] * change, graph(*v)[1]))
    (tmp_path / "cache").mkdir()
    assert (compiling._recalled(name, tmp_path / "cache", packed, given) is not None) is right
    assert len(list((tmp_path / "cache").iterdir())) == right
    assert the_file(tmp_path).exists() if right else not list((tmp_path / "compiled").iterdir())


def a_graph():
    graph, leaves, _ = trace(lambda x: (x + 1, x > 0), (torch.ones(3),))
    return graph, [pickle.dumps(graph)], [leaves]


def test_the_name_tells_what_it_is_for(monkeypatch):
    _, packed, given = a_graph()
    names = [kept.name(packed, given), kept.name([*packed, b"more"], given)]
    names += [kept.name(packed, [[t]]) for t in (torch.ones(4), torch.ones(3).double(), torch.ones(6)[::2])]
    monkeypatch.setattr(kept.torch, "__version__", "another")
    names.append(kept.name(packed, given))
    monkeypatch.setattr(kept, "processor", lambda: "another")
    names.append(kept.name(packed, given))
    monkeypatch.setenv("CXX", "another")
    names.append(kept.name(packed, given))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "another")
    assert len(set(names)) == len(names) and kept.name(packed, given) == names[-1]


def test_the_oldest_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_MOST", 2)
    (tmp_path / "written").mkdir()
    for i, name in enumerate("abc"):
        kept.remember(name, tmp_path / "written")
        compiling.os.utime(tmp_path / "compiled" / f"{name}.zip", (i, i))
    assert kept.recall("b", tmp_path / "read")  # used now, so "c" is the older one
    kept.remember("d", tmp_path / "written")
    assert sorted(file.stem for file in (tmp_path / "compiled").iterdir()) == ["b", "d"]


def test_a_disk_that_cannot_be_written_is_no_trouble(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "_folder", lambda: tmp_path / "file" / "below")
    kept.remember("a", tmp_path)
    assert not kept.recall("a", tmp_path / "read")
    kept.forget("a")


def test_nothing_is_kept_where_torch_was_told_so(monkeypatch):
    import torch._inductor.config as config

    assert kept.usable([[torch.ones(1)]])
    with config.patch(force_disable_caches=True):
        assert not kept.usable([[torch.ones(1)]])
