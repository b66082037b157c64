"""What takes over two seconds is told in one line, once; what does not, is not."""

from __future__ import annotations

import threading
import time

import pytest

import innerloop as il
from innerloop import waiting as module
from innerloop.cli.main import main
from innerloop.data import tables
from innerloop.training import progress
from innerloop.waiting import telling, waiting


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(module, "AFTER", 0.1)
    found = []
    with telling(found.append):
        yield found


def test_only_what_takes_long_is_told_and_not_again_soon(said, monkeypatch):
    for _ in range(2):
        with waiting("slow"):
            time.sleep(0.25)
    with waiting("fast"):
        pass
    time.sleep(0.2)
    assert said == ["slow"]
    monkeypatch.setattr(module, "AGAIN", 0.1)
    with waiting("slow"):
        time.sleep(0.25)
    assert said == ["slow", "slow"]


def test_the_innermost_is_told_and_the_outer_goes_on_after_it(said):
    with waiting("outer"):
        with waiting("inner"):
            time.sleep(0.25)
        assert said == ["inner"]
        time.sleep(0.25)
    assert said == ["inner", "outer"]


def test_an_error_ends_the_wait(said):
    with pytest.raises(ValueError), waiting("failing"):
        raise ValueError
    time.sleep(0.2)
    assert said == [] and module._waits == []


def test_nothing_is_told_of_other_threads_or_where_nobody_asks(said):
    @waiting("slow")
    def work():
        time.sleep(0.25)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with telling(None):
        work()
    assert said == []
    work()
    assert said == ["slow"]


def test_a_command_tells_what_it_waits_for_but_not_beside_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "AFTER", 0.1)
    real = tables.table_from_bytes
    monkeypatch.setattr(tables, "table_from_bytes", lambda *a, **k: time.sleep(0.3) or real(*a, **k))
    file = tmp_path / "rows.csv"
    file.write_text("who,a,b\n" + "".join(f"p{i % 9},{i},{i * i % 7}\n" for i in range(90)))
    assert main(["data", "check", str(file)]) == 0
    assert capsys.readouterr().err.count(f"innerloop: reading {file} ...\n") == 1
    assert main(["data", "check", str(file), "--json"]) == 0
    assert "reading" not in capsys.readouterr().err


def test_training_without_a_terminal_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    tasks = il.tasks.sinusoid(shots=2, queries=2)
    settings = {"steps": 6, "num_tasks": 2, "log_every": 1, "validate_every": 0, "strategy": "vmapped"}
    il.fit(il.maml(il.models.mlp(1, 1, hidden=(2,))), tasks, **settings)
    assert "step 1 of 6: " in capsys.readouterr().err
    il.fit(il.maml(il.models.mlp(1, 1, hidden=(2,))), tasks, quiet=True, **settings)
    assert capsys.readouterr().err == ""
