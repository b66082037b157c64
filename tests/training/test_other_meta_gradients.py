"""A learner with another meta-gradient: made from names, remembered by files and runs, resumed, refused where it cannot be."""

from __future__ import annotations

import copy
import json

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import CheckpointError, ConfigError
from innerloop.storage import load_tensors

pytestmark = pytest.mark.usefixtures("double")
PES = {"sigma": 0.05, "num_pairs": 2, "truncation": 2}
SETTINGS = {"num_tasks": 2, "validate_every": 0, "quiet": True, "seed": 3, "strategy": "vmapped"}


def family():
    return il.tasks.sinusoid(shots=4, queries=3)


def small(seed: int = 1, inner_steps: int = 5):
    torch.manual_seed(seed)
    return il.maml(il.models.mlp(1, 1, hidden=(5,), activation="tanh"), inner_lr=0.05, inner_steps=inner_steps)


def test_the_learner_given_stays_as_it_is():
    plain = small()
    before = copy.deepcopy(plain.state_dict())
    other = il.with_meta_gradient(plain, "es")
    assert plain.meta_gradient_spec is None and other.meta_gradient_spec["options"] == {"sigma": 0.01, "num_pairs": 8}
    il.fit(other, family(), steps=2, **SETTINGS)
    assert all(torch.equal(v, before[name]) for name, v in plain.state_dict().items())
    assert any(not torch.equal(v, before[name]) for name, v in other.state_dict().items())
    again = il.with_meta_gradient(other, "backprop")
    tasks = family().train.at(0, 0, 2)
    plain.load_state_dict(other.state_dict())
    for learner in (again, plain):
        learner.backward(tasks)
    for a, b in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-12)  # looped here, batched there


@pytest.mark.parametrize("name", ["truncated", "first_order", "es", "pes"])
def test_runs_and_files_remember_it(name, tmp_path):
    learner = il.with_meta_gradient(small(), name)
    il.fit(learner, family(), steps=2, out=tmp_path / "run", **SETTINGS)
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["meta_gradient"]
    again = il.load(tmp_path / "run")
    assert isinstance(again, il.MetaLearner)
    assert recorded == again.meta_gradient_spec == learner.meta_gradient_spec and recorded["name"] == name
    assert type(again.meta_gradient) is type(learner.meta_gradient)
    x = torch.linspace(-1, 1, 4)[:, None]
    fitted = learner.adapt(x, x.sin())
    back = il.load(fitted.save(tmp_path / "task.il"))
    assert isinstance(back, il.Fitted) and back.owner.meta_gradient_spec == learner.meta_gradient_spec
    assert torch.equal(back.predict(x), fitted.predict(x))


def test_resuming_in_the_middle_of_an_inner_loop_is_exact(tmp_path):
    """Five inner steps in parts of two: the checkpoint after four outer steps holds the second loop's first part."""
    whole = il.with_meta_gradient(small(), "pes", **PES)
    il.fit(whole, family(), steps=8, out=tmp_path / "whole", checkpoint_every=4, **SETTINGS)
    first = il.with_meta_gradient(small(), "pes", **PES)
    backward, calls = first.backward, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError
        return backward(*args, **kwargs)

    first.backward = failing
    with pytest.raises(RuntimeError):
        il.fit(first, family(), steps=8, out=tmp_path / "parts", checkpoint_every=4, **SETTINGS)
    stored, _ = load_tensors(tmp_path / "parts" / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert int(stored["carry/step"]) == 2 and any(name.startswith("carry/sum/") for name in stored)
    second = il.with_meta_gradient(small(seed=77), "pes", **PES)
    il.fit(second, family(), steps=8, out=tmp_path / "parts", resume=True, checkpoint_every=4, **SETTINGS)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_another_meta_gradient_does_not_resume_a_run(tmp_path):
    il.fit(il.with_meta_gradient(small(), "es"), family(), steps=2, out=tmp_path, **SETTINGS)
    for learner in (small(), il.with_meta_gradient(small(), "es", sigma=0.5)):
        with pytest.raises(CheckpointError, match="expected the meta-gradient es"):
            il.fit(learner, family(), steps=3, out=tmp_path, resume=True, **SETTINGS)


def test_what_is_no_estimate_of_an_outer_loss_is_not_replaced():
    net = il.models.mlp(1, 1)
    for make in (il.reptile, il.scratch, il.pretrained, il.multitask_average):
        with pytest.raises(ConfigError, match="does not descend the gradient of an outer loss"):
            il.with_meta_gradient(make(net), "backprop")
    with pytest.raises(ConfigError, match="unknown meta-gradient 'trunkated': did you mean 'truncated'"):
        il.with_meta_gradient(small(), "trunkated")
    with pytest.raises(ConfigError, match="has no option 'sigmas'"):
        il.with_meta_gradient(small(), "es", sigmas=1.0)
    with pytest.raises(ConfigError, match="it has none"):
        il.with_meta_gradient(small(), "first_order", steps=1)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("truncated", {"steps": 2}, "truncated"),
        ("truncated", {"steps": 9}, "second"),
        ("first_order", {}, "first"),
        ("es", {}, "zeroth"),
        ("pes", {"truncation": 2}, "zeroth"),
    ],
)
def test_the_doctor_checks_it_and_says_what_it_is(name, options, order):
    learner = il.with_meta_gradient(small(), name, **options)
    found = il.check_meta_gradient(learner, family().train.at(0, 0, 2))
    assert found.ok and found.order == order, found
    assert found.differences_error is not None or found.definition_error is not None


@pytest.mark.parametrize(("name", "attribute", "wrong"), [("es", "sigma", 0.02), ("implicit", "damping", 0.9)])
def test_the_doctor_sees_a_wrong_estimate(name, attribute, wrong, monkeypatch):
    learner = il.imaml(il.models.mlp(1, 1, hidden=(5,), activation="tanh"), inner_steps=3)
    learner = il.with_meta_gradient(learner, name)
    tasks = family().train.at(0, 0, 2)
    assert il.check_meta_gradient(learner, tasks).ok
    kind = type(learner.meta_gradient)
    right = kind.__call__

    def other(self, *args):
        setting = getattr(self, attribute)
        setattr(self, attribute, wrong)
        found = right(self, *args)
        setattr(self, attribute, setting)
        return found

    monkeypatch.setattr(kind, "__call__", other)
    found = il.check_meta_gradient(learner, tasks)
    assert not found.ok and "the estimate is not" in found.problems[0]


@pytest.mark.slow
def test_command_line(tmp_path, capsys):
    line = "train maml sinusoid --inner-steps 3 --steps 3 --num-tasks 2 --valid-tasks 2 --quiet --meta-gradient"
    assert main([*line.split(), "es", "--meta-gradient-sigma", "0.1", "--out", str(tmp_path / "a")]) == 0
    recorded = json.loads((tmp_path / "a" / "config.json").read_text())["meta_gradient"]
    assert recorded == {"name": "es", "options": {"sigma": 0.1, "num_pairs": 8}}
    again = ["train", "maml", "sinusoid", "--config", str(tmp_path / "a" / "config.json"), "--quiet"]
    assert main([*again, "--out", str(tmp_path / "b"), "--meta-gradient-num-pairs", "2"]) == 0
    recorded = json.loads((tmp_path / "b" / "config.json").read_text())["meta_gradient"]
    assert recorded == {"name": "es", "options": {"sigma": 0.1, "num_pairs": 2}}
    assert main(["train", "--resume", str(tmp_path / "b"), "--quiet"]) == 0
    capsys.readouterr()
    out = ["--out", str(tmp_path / "c")]
    for words, said in (
        (["ess"], "did you mean 'es'?"),
        (["es", "--meta-gradient-sigma", "-1"], "sigma expected a finite number above 0, got -1.0"),
        (["es", "--meta-gradient-steps", "2"], "--meta-gradient-steps"),
        (["implicit"], "proximal"),
        (["pes", "--config", str(tmp_path / "a" / "config.json")], "expected 'pes' as on the command line, got 'es'"),
    ):
        assert main([*line.split(), *words, *out]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
    assert main(["list", "meta-gradients"]) == 0
    assert capsys.readouterr().out.startswith("backprop\t")
