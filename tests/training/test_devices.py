"""Where a run computes: what "auto" takes, what a run's configuration keeps, and a run that goes on elsewhere."""

import json

import pytest
import torch
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import ConfigError
from innerloop.meta_learner.fitted import Fitted
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


def test_an_adapted_task_moves_whole_and_leaves_the_first_where_it_is():
    """The meta device stands for a GPU: what is left behind of the task would meet it there in an error."""
    learner = il.protonet(il.models.mlp(2, 3, hidden=(4,)))
    x, y = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    fitted = learner.adapt(x, y)
    before = fitted.predict_proba(x)
    moved = fitted.to("meta")
    assert moved.owner.device.type == "meta" and fitted.owner is learner and learner.device.type == "cpu"
    leaves = [leaf for part in (moved.meta, moved.fast, moved.support) for leaf in pytree.tree_leaves(part)]
    assert {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)} == {"meta"}
    assert moved.learner.predict(moved.meta, moved.fast, x.to("meta")).device.type == "meta"
    assert torch.equal(fitted.predict_proba(x), before) and torch.equal(fitted.to("cpu").predict_proba(x), before)


def test_predict_takes_a_device(tmp_path, monkeypatch, capsys):
    with_gpus(monkeypatch, 0)
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)))
    task = learner.adapt(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])).save(tmp_path / "task.il")
    (tmp_path / "new.csv").write_text("x\n0.5\n")
    line = ["predict", str(task), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]
    assert main([*line, "--device", "cuda"]) == 2
    assert "device 'cuda' is not available here" in capsys.readouterr().err and not (tmp_path / "p.csv").exists()
    asked = []
    monkeypatch.setattr(Fitted, "to", lambda self, device: asked.append(str(device)) or self)
    assert main([*line, "--device", "cpu"]) == 0 and asked == ["cpu"]
