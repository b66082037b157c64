"""`torchrun -m innerloop train`: one voice, one run directory, and workers that are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import launching
import pytest
import torch

from innerloop.cli import main as command
from innerloop.cli.boundary import Stop
from innerloop.cli.main import main
from innerloop.errors import DivergedError, InputError
from innerloop.storage import load_tensors
from innerloop.training import launch

pytestmark = pytest.mark.slow  # processes and trainings of their own

STEPS = 400
LINE = [
    "-m", "innerloop", "train", "maml", "sinusoid", "--steps", STEPS, "--num-tasks", 5, "--precision", "float64",
    "--checkpoint-every", 10, "--validate-every", 40, "--valid-tasks", 9, "--model", "mlp", "--model-hidden", 4,
]  # fmt: skip
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")


def checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    return load_tensors(folder / "checkpoint.safetensors", "innerloop-checkpoint", 1)


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def reached(folder: Path, step: int, process) -> None:
    """Wait until the run's checkpoint has come this far."""
    deadline = time.monotonic() + 60
    while not (folder / "checkpoint.safetensors").exists() or checkpoint(folder)[1]["step"] < step:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, out, err = launching.end(launching.start(2, *LINE, "--out", folder))
    assert code == 0, err
    (folder / "said.txt").write_text(f"{out}\0{err}")
    return folder


@linux
def test_killed_workers_are_restarted_and_nothing_is_lost(whole, tmp_path):
    folder = tmp_path / "run"
    process = launching.start(2, *LINE, "--out", folder, restarts=2)
    for step, rank in ((50, 1), (200, 0)):
        reached(folder, step, process)
        os.kill(launching.workers(process)[rank], signal.SIGKILL)
    code, out, err = launching.end(process)
    assert code == 0, err
    assert out.count("run directory:") == 1
    # It went on, twice: an early validation is seen once, the one before a kill maybe twice.
    assert len(re.findall(rf"^step 40/{STEPS}:", err, re.M)) == 1 and f"step {STEPS}/{STEPS}" in err
    assert err.count("SIGKILL") + err.count("exitcode: -9") >= 2
    for name in ("checkpoint.safetensors", "best.safetensors"):
        kind = f"innerloop-{'checkpoint' if name.startswith('c') else 'weights'}"
        one, two = (load_tensors(place / name, kind, 1)[0] for place in (whole, folder))
        assert one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())
    assert lines(whole) == lines(folder)


def test_the_command_gives_the_run_of_one_process_and_prints_once(whole, tmp_path):
    folder = tmp_path / "run"
    code, _, err = launching.end(launching.start(1, *LINE, "--out", folder, "--quiet"))
    assert code == 0, err
    one, two = checkpoint(folder)[0], checkpoint(whole)[0]
    state = [name for name in one if not name.startswith("rng")]
    assert len(state) > 4 and all(torch.allclose(one[name], two[name], 1e-10, 1e-11) for name in state)
    for mine, theirs in zip(lines(folder), lines(whole), strict=True):
        assert mine == {key: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v for key, v in theirs.items()}
    out, err = (whole / "said.txt").read_text().split("\0")
    assert out.count("best validated mse") == out.count("next: innerloop evaluate") == 1
    assert err.count(f"step 40/{STEPS}: valid mse") == 1


def test_an_error_of_all_is_told_once(tmp_path):
    folder = tmp_path / "run"
    process = launching.start(2, *LINE, "--out", folder, "--inner-lr", "1e200", "--json")
    code, out, err = launching.end(process)
    assert code != 0 and out == ""
    assert (
        len(re.findall(r"^innerloop: error: the outer loss at outer step 0 is .*no checkpoint was written$", err, re.M))
        == 1
    )
    assert err.count("innerloop: ") == 1 and re.search(r"exitcode +: 2 ", err)
    assert not folder.exists()


@pytest.fixture
def process_of_two(monkeypatch):
    """This process takes itself for one of torchrun's; how long it waited is noted."""
    waited = []
    monkeypatch.setattr(command.time, "sleep", waited.append)

    def become(rank: int) -> list[float]:
        for name, value in {
            "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(value))
        return waited

    return become


def failing(error: BaseException):
    def work() -> int:
        raise error

    return work


def test_the_first_process_tells_its_error_at_once(process_of_two):
    waited = process_of_two(0)
    with pytest.raises(InputError, match="mine"):
        command.in_turn(failing(InputError("mine")))
    assert waited == []
    with pytest.raises(launch.ProcessLost):  # who is gone may still be saying why
        command.in_turn(failing(launch.ProcessLost("gone")))
    assert waited and waited[0] > command._TURN


def test_the_others_let_it_speak_first(process_of_two):
    waited = process_of_two(1)
    shared = DivergedError("of all")
    launch.everywhere(shared)
    with pytest.raises(Stop) as stop:
        command.in_turn(failing(shared))
    assert stop.value.code == 2 and waited == [command._TURN]
    with pytest.raises(InputError, match="mine alone"):
        command.in_turn(failing(InputError("mine alone")))
    assert waited == [command._TURN] * 2


def test_commands_for_one_process_say_so(process_of_two, capsys):
    process_of_two(0)
    assert main(["list", "models"]) == 2
    assert "expected one process for list, got 2; only train is for several" in capsys.readouterr().err


def test_what_torchrun_says(monkeypatch):
    assert (launch.size(), launch.rank(), launch.local_rank(), launch.restarts(), launch.identity()) == (
        1,
        0,
        0,
        0,
        None,
    )
    monkeypatch.setenv("RANK", "3")
    assert (launch.size(), launch.rank()) == (1, 0)  # somebody else's variable
    for name, value in {"WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (launch.size(), launch.rank(), launch.local_rank()) == (4, 3, 1)
