"""Where a run computes: what "auto" takes, what a run's configuration keeps, and a run that goes on elsewhere."""

import json

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import ConfigError
from innerloop.training.placement import device_of, going_on, resolved

QUICK = {"num_tasks": 1, "valid_tasks": 1, "quiet": True}


def with_gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("gpus", "processes", "taken"), [(0, 1, "cpu"), (1, 1, "cuda"), (2, 2, "cuda"), (1, 2, "cpu")])
def test_auto_takes_a_gpu_where_every_process_has_one(monkeypatch, gpus, processes, taken):
    with_gpus(monkeypatch, gpus)
    if processes > 1:
        told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
    assert resolved("auto") == taken
    assert resolved("cuda:1") == "cuda:1"


@pytest.mark.parametrize("name", ["gpu", "", "meta", "tpu0", "cuda:9"])
def test_an_unknown_device_is_refused(monkeypatch, name):
    with_gpus(monkeypatch, 1)
    with pytest.raises(ConfigError, match="device"):
        device_of(name)


def test_a_run_keeps_the_device_that_was_taken(tmp_path, monkeypatch):
    with_gpus(monkeypatch, 0)
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)))
    il.fit(learner, il.tasks.sinusoid(), out=tmp_path / "run", steps=1, **QUICK)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["device"] == "cpu"


def test_a_run_of_a_gpu_goes_on_without_one_and_says_so(tmp_path, monkeypatch, capsys):
    with_gpus(monkeypatch, 0)
    run = tmp_path / "run"
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)))
    il.fit(learner, il.tasks.sinusoid(), out=run, steps=1, **QUICK)
    described = json.loads((run / "config.json").read_text())
    described["training"] |= {"device": "cuda", "steps": 2}
    (run / "config.json").write_text(json.dumps(described))
    assert main(["train", "--resume", str(run), "--quiet", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["steps"] == 2
    assert "this run was on cuda, which is not here; it goes on on cpu" in told.err and told.err.count("\n") == 1
    assert going_on("cpu") == ("cpu", "")
