"""A wall-clock budget: the schedule ends with it, the last validation lies within it, and a resumed run has the rest of it."""

import json
import time

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import ConfigError
from innerloop.storage import load_tensors
from innerloop.training import fit as fit_module
from innerloop.training.budget import Budget

QUICK = {"num_tasks": 1, "valid_tasks": 4, "quiet": True, "strategy": "vmapped", "outer_optimizer": "sgd"}
SLOW = 0.01  # seconds that a step takes at least


def learner():
    torch.manual_seed(0)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_steps=1)


def tasks():
    return il.tasks.sinusoid(shots=3, queries=3)


@pytest.fixture
def rates(monkeypatch):
    """The outer rate of every step; steps are slow enough for a short budget to have few."""
    used = []
    step = torch.optim.SGD.step

    def recording(self, *arguments, **options):
        used.append(self.param_groups[0]["lr"])
        time.sleep(SLOW)
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    return used


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), True, "soon"])
def test_a_budget_is_a_time(minutes):
    with pytest.raises(ConfigError, match="minutes expected a finite number above 0"):
        il.fit(learner(), tasks(), minutes=minutes, **QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_reaches_its_floor_when_the_time_is_up(rates, schedule, tmp_path):
    minutes = 3 / 60
    done = il.fit(
        learner(), tasks(), minutes=minutes, outer_lr=1e-3, schedule=schedule, min_lr=0.0, out=tmp_path / "run", **QUICK
    )
    assert done.steps == len(rates) > 10 and done.stopped == "finished"
    assert done.wall_seconds < 2 * 60 * minutes
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.5e-3
    assert rates[-1] < 0.15e-3 if schedule == "linear" else rates[-1] < 0.06e-3
    described = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert described["minutes"] == minutes and described["steps"] is None
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    valid = [line["step"] for line in lines if line["split"] == "valid"]
    assert valid[-1] == done.steps and len(valid) <= 21
    assert sum(line["split"] == "train" for line in lines) <= 101


def test_the_number_of_steps_stays_a_limit(rates):
    done = il.fit(learner(), tasks(), minutes=5, steps=4, outer_lr=0.8e-3, schedule="linear", **QUICK)
    assert done.steps == 4 and done.wall_seconds < 60
    assert rates == pytest.approx([0.8e-3, 0.6e-3, 0.4e-3, 0.2e-3], rel=0.1)


def test_a_step_is_taken_however_short_the_time(rates):
    assert il.fit(learner(), tasks(), minutes=1e-6, **QUICK).steps == 1


@pytest.mark.slow
def test_a_resumed_run_has_the_rest_of_the_time(rates, monkeypatch, tmp_path):
    class Stopped(Exception):
        pass

    save = fit_module.RunDirectory.save

    def stopping(self, learner, optimizer, progress):
        save(self, learner, optimizer, progress)
        if progress.seconds > 1.5 and not progress.ended_minutes:
            raise Stopped

    settings = {"minutes": 4 / 60, "outer_lr": 1e-3, "schedule": "linear", "out": tmp_path / "run", **QUICK}
    with monkeypatch.context() as patch:
        patch.setattr(fit_module.RunDirectory, "save", stopping)
        with pytest.raises(Stopped):
            il.fit(learner(), tasks(), **settings)
    before, at = len(rates), rates[-1]
    _, header = load_tensors(tmp_path / "run" / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert header["seconds"] > 1.5
    began = time.perf_counter()
    done = il.fit(learner(), tasks(), resume=True, **settings)
    assert time.perf_counter() - began < 2 * (4 - header["seconds"])
    assert done.steps == len(rates) > before and done.wall_seconds > header["seconds"]
    assert rates[before] <= at and rates[-1] < 0.15e-3  # its schedule goes on, and ends
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.safetensors")}
    again = il.fit(learner(), tasks(), resume=True, **settings)
    assert (again.steps, len(rates)) == (done.steps, done.steps)  # nothing is left of it
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.safetensors")}


def test_what_is_due_by_the_clock():
    budget = Budget(100.0, spent=0.0)
    assert [budget.due("validate_every", at) for at in (4.9, 5.0, 9.9, 10.1)] == [False, True, False, True]
    assert budget.due("log_every", 1.0) and not budget.due("log_every", 1.9)
    budget.validation, budget.checkpoint = 2.0, 0.5
    assert not budget.due("validate_every", 20.0) and budget.due("validate_every", 28.2)  # a tenth of the time at most
    assert budget.for_steps == 97.5 and budget.share(48.75) == 0.5
    budget.took(4.0, steps=2)
    assert budget.share(48.75, ahead=3) == pytest.approx(54.75 / 97.5)
    assert not budget.over(95.5) and budget.over(95.6)
    budget.validation = 80.0
    assert budget.for_steps == 50.0  # a validation that takes it all leaves half to the steps


def test_the_command_takes_minutes(tmp_path, capsys):
    line = "train maml sinusoid --num-tasks 1 --valid-tasks 2 --strategy vmapped --quiet --json --minutes"
    assert main([*line.split(), "0.01", "--out", str(tmp_path / "run")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] >= 1
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == found["steps"]
    for wrong in ("0", "-2", "nan", "inf", "soon"):
        assert main([*line.split(), wrong, "--out", str(tmp_path / "other")]) == 2
        told = capsys.readouterr()
        assert "minutes expected a finite number" in told.err and told.err.count("\n") == 1
    assert not (tmp_path / "other").exists()
