"""The outer loop: rates, logs, early stopping, clipping, the best weights, and errors that say where the run is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop.assemble import from_run
from innerloop.cli import config_file
from innerloop.storage import load_tensors, save_tensors
from innerloop.training import fit as fit_module
from innerloop.training.config import TrainConfig
from innerloop.training.run_config import read_run_config
from innerloop.training.schedules import floor, rate

QUICK = {"num_tasks": 2, "valid_tasks": 3, "quiet": True}


def learner(**options) -> il.MetaLearner:
    torch.manual_seed(1)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), **{"inner_lr": 0.01, **options})


def tasks() -> il.TaskFamily:
    return il.tasks.sinusoid(shots=3, queries=3)


def lines(folder: Path, split: str) -> list[dict]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["split"] == split]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8]),
        ("linear", [0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.8, 0.1 + 0.35 * (1 + math.sqrt(0.5)), 0.45, 0.1 + 0.35 * (1 - math.sqrt(0.5))]),
        ("average", [0.8, 0.4, 0.8 / 3, 0.2]),
        ("halving", [0.8, 0.8, 0.8, 0.8]),
    ],
)
def test_rates_by_hand(schedule, expected):
    assert [rate(schedule, step, 4, 0.8, 0.1 if schedule == "cosine" else 0.0) for step in range(4)] == pytest.approx(
        expected
    )


def test_halving_is_every_two_thousand_steps():
    steps = (0, 1_999, 2_000, 3_999, 4_000, 10_000)
    assert [rate("halving", step, 50_000, 1e-3) for step in steps] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 1e-3 / 32]


def test_the_optimizer_gets_the_rate_of_its_step(monkeypatch):
    used = []
    step = torch.optim.SGD.step

    def recording(self, *arguments, **options):
        used.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    il.fit(
        learner(), tasks(), steps=4, outer_optimizer="sgd", outer_lr=0.8, schedule="linear", validate_every=0, **QUICK
    )
    assert used == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_a_rate_of_ones_own_falls_in_proportion(monkeypatch):
    used = []
    step = torch.optim.SGD.step

    def recording(self, *arguments, **options):
        used.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    settings = {
        "steps": 4,
        "outer_optimizer": "sgd",
        "outer_lr": 1e-3,
        "validate_every": 0,
        "schedule": "cosine",
        **QUICK,
    }
    two = il.mamlpp(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01)
    il.fit(two, tasks(), rule_lr=1e-6, **settings)
    assert two.outer.min_lr == 1e-5
    for step_number, (model, rule) in enumerate(used):
        assert model == rate("cosine", step_number, 4, 1e-3, 1e-5)
        assert rule == pytest.approx(model / 1_000, rel=1e-12)
    used.clear()
    il.fit(two, tasks(), min_lr=0.0, **settings)
    assert used[3] == [rate("cosine", 3, 4, 1e-3, 0.0)] * 2  # no floor where the method recommends one
    assert floor(1e-5, 1e-6, 0.0) == 0.0


def test_a_run_of_the_version_before_has_the_methods_floor(tmp_path):
    def two() -> il.MetaLearner:
        torch.manual_seed(1)
        return il.mamlpp(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01)

    settings = {"steps": 4, "outer_lr": 1e-3, "schedule": "cosine", "checkpoint_every": 2, "log_every": 1, **QUICK}
    whole = two()
    il.fit(whole, tasks(), out=tmp_path / "run", validate_every=0, **settings)
    config = tmp_path / "run" / "config.json"
    described = json.loads(config.read_text())
    assert described["version"] == 2 and described["training"]["min_lr"] is None
    described["training"]["min_lr"] = 0.0
    config.write_text(json.dumps(described))
    assert read_run_config(tmp_path / "run")["training"]["min_lr"] == 0.0  # of this version: no floor
    config.write_text(json.dumps({**described, "version": 1}))
    assert read_run_config(tmp_path / "run")["training"]["min_lr"] is None
    assert config_file.read(config).content["training"]["min_lr"] is None
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    again, family, training = from_run(tmp_path / "run")
    again.load_state_dict(two().state_dict())
    il.fit(again, family, **{**training, "quiet": True})
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())


def test_lines_of_the_log_are_means_since_the_last_one(tmp_path):
    one = learner()
    losses, backward = [], one.backward

    def recording(batch, **options):
        metrics = backward(batch, **options)
        losses.append(float(metrics["loss"]))
        return metrics

    one.backward = recording
    il.fit(one, tasks(), out=tmp_path, steps=5, log_every=2, validate_every=4, **QUICK)
    found = lines(tmp_path, "train")
    assert [line["step"] for line in found] == [2, 4, 5]
    assert [line["loss"] for line in found] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]])
    assert [line["step"] for line in lines(tmp_path, "valid")] == [4, 5]
    assert all({"mse", "ci95", "seconds"} <= line.keys() for line in lines(tmp_path, "valid"))


def scripted(monkeypatch, values: list[float]) -> None:
    """Validation results as given, one after the other."""
    real, left = fit_module.evaluate, iter(values)

    def evaluate(*arguments, **options):
        import dataclasses

        return dataclasses.replace(real(*arguments, **options), mean=next(left))

    monkeypatch.setattr(fit_module, "evaluate", evaluate)


def test_the_best_weights_are_restored(tmp_path, monkeypatch):
    for out in (None, tmp_path):
        scripted(monkeypatch, [3.0, 1.0, 2.0, 5.0])
        one, kept = learner(), {}
        backward = one.backward

        def keeping(batch, kept=kept, one=one, backward=backward, **options):
            kept[options["outer_step"]] = {k: v.clone() for k, v in one.state_dict().items()}
            return backward(batch, **options)

        one.backward = keeping
        result = il.fit(one, tasks(), out=out, steps=4, validate_every=1, outer_lr=0.1, **QUICK)
        assert (result.best_step, result.best_value, result.metric, result.stopped) == (2, 1.0, "mse", "finished")
        assert all(torch.equal(v, kept[2][k]) for k, v in one.state_dict().items())
        assert not all(torch.equal(v, kept[3][k]) for k, v in one.state_dict().items())
        monkeypatch.undo()
    again = il.load(tmp_path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in one.state_dict().items())


def test_early_stopping(tmp_path, monkeypatch):
    scripted(monkeypatch, [3.0, 1.0, 2.0, 5.0, 0.5, 0.1])
    result = il.fit(learner(), tasks(), out=tmp_path, steps=6, validate_every=1, patience=2, **QUICK)
    assert (result.stopped, result.steps, result.best_step) == ("early", 4, 2)
    _, header = load_tensors(tmp_path / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert header["step"] == 4


@pytest.mark.parametrize("largest", [0.01, 1e6])
def test_clipping(largest, monkeypatch):
    norms = []

    def recording(self, *arguments, **options):
        norms.append(float(torch.cat([p.grad.reshape(-1) for p in self.param_groups[0]["params"]]).norm()))

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    settings = {"steps": 1, "outer_optimizer": "sgd", "validate_every": 0, **QUICK}
    il.fit(learner(), tasks(), **settings)
    il.fit(learner(), tasks(), clip_norm=largest, **settings)
    assert norms[1] == pytest.approx(min(largest, norms[0]), rel=1e-4) and norms[0] > 0.01


@pytest.mark.parametrize("clip_norm", [None, 0.02, 1e6])
@pytest.mark.parametrize("rule_clip_norm", [None, 0.003, 1e6])
def test_clipping_by_group(clip_norm, rule_clip_norm, monkeypatch):
    seen = []

    def recording(self, *arguments, **options):
        seen.append([torch.cat([p.grad.reshape(-1) for p in group["params"]]) for group in self.param_groups])

    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    settings = {"steps": 1, "outer_optimizer": "sgd", "validate_every": 0, **QUICK}
    for clips in ({}, {"clip_norm": clip_norm, "rule_clip_norm": rule_clip_norm}):
        torch.manual_seed(1)
        il.fit(il.meta_sgd(il.models.mlp(1, 1, hidden=(4,))), tasks(), **settings, **clips)
    (model, rule), found = seen
    norms = [float(model.norm()), float(rule.norm())]
    if rule_clip_norm is None:
        norms = [float(torch.cat([model, rule]).norm())] * 2
    assert norms[0] > 0.02 and norms[1] > 0.003
    largest = [clip_norm, clip_norm if rule_clip_norm is None else rule_clip_norm]
    for before, after, norm, most in zip((model, rule), found, norms, largest, strict=True):
        assert torch.allclose(after, before * (1.0 if most is None else min(1.0, most / norm)), rtol=1e-3, atol=1e-9)


def test_divergence_of_the_loss_names_step_quantity_and_checkpoint(tmp_path):
    one = learner()
    backward = one.backward

    def exploding(batch, **options):
        if options["outer_step"] == 3:
            with torch.no_grad():
                one.model.head.weight.fill_(1e30)
        return backward(batch, **options)

    one.backward = exploding
    message = rf"outer loss at outer step 3 is (inf|nan).*lower inner_lr.*last good checkpoint is .*{tmp_path.name}"
    with pytest.raises(il.DivergedError, match=message):
        il.fit(one, tasks(), out=tmp_path, steps=6, checkpoint_every=2, validate_every=0, **QUICK)
    _, header = load_tensors(tmp_path / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert header["step"] == 2


def test_divergence_of_the_gradient_stops_before_the_weights_change():
    one = learner()
    estimate = one.meta_gradient

    def exploding(*given):
        found = estimate(*given)
        return found._replace(params={**found.params, "head.weight": found.params["head.weight"] * float("nan")})

    for known in ("compilable", "shardable", "of_mean_gradient"):
        setattr(exploding, known, getattr(estimate, known))
    one.meta_gradient = exploding
    before = {k: v.clone() for k, v in one.state_dict().items()}
    with pytest.raises(
        il.DivergedError, match=r"meta-gradient's norm at outer step 0 is nan.*no checkpoint was written"
    ):
        il.fit(one, tasks(), steps=2, **QUICK)
    assert all(torch.equal(v, before[k]) for k, v in one.state_dict().items())


@pytest.fixture
def run(tmp_path) -> Path:
    il.fit(learner(), tasks(), out=tmp_path / "run", steps=2, validate_every=1, **QUICK)
    return tmp_path / "run"


def resume(folder: Path, model: il.MetaLearner | None = None) -> None:
    il.fit(model or learner(), tasks(), out=folder, resume=True, steps=4, **QUICK)


def test_a_truncated_checkpoint(run):
    file = run / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(il.CheckpointError, match=r"checkpoint\.safetensors is truncated or damaged"):
        resume(run)
    file.write_bytes(b"")
    with pytest.raises(il.CheckpointError, match="truncated or damaged"):
        resume(run)
    file.unlink()
    with pytest.raises(il.CheckpointError, match="expected a file of kind innerloop-checkpoint, found none"):
        resume(run)


def test_a_newer_checkpoint_and_one_of_another_kind(run):
    file = run / "checkpoint.safetensors"
    tensors, header = load_tensors(file, "innerloop-checkpoint", 1)
    save_tensors(file, "innerloop-checkpoint", 2, tensors, header)
    with pytest.raises(il.CheckpointError, match=r"version 1 or older, got version 2; upgrade"):
        resume(run)
    save_tensors(file, "something", 1, tensors, header)
    with pytest.raises(il.CheckpointError, match="expected a file of kind innerloop-checkpoint, got 'something'"):
        resume(run)


def test_a_checkpoint_of_another_model_or_method(run):
    wider = il.maml(il.models.mlp(1, 1, hidden=(5,)))
    with pytest.raises(il.CheckpointError, match=r"another model.*expected shape \(5,\), got \(4,\)"):
        resume(run, wider)
    with pytest.raises(il.CheckpointError, match="another model: it lacks"):
        resume(run, il.maml(il.models.mlp(1, 1, hidden=(4, 4))))
    with pytest.raises(il.CheckpointError, match="expected a run of reptile, got one of maml"):
        resume(run, il.reptile(il.models.mlp(1, 1, hidden=(4,))))


def test_damaged_configurations(run):
    config = run / "config.json"
    described = json.loads(config.read_text())
    for text, message in (
        ("{", "damaged"),
        ("[]", "to say format 'innerloop-run'"),
        (json.dumps({**described, "version": 3}), "version 2 or older, got 3; upgrade"),
        (json.dumps({**described, "format": "x"}), "to say format 'innerloop-run'"),
        (json.dumps({k: v for k, v in described.items() if k != "model"}), "expected a table 'model'"),
    ):
        config.write_text(text)
        with pytest.raises(il.CheckpointError, match=message):
            il.load(run)
    config.unlink()
    with pytest.raises(il.CheckpointError, match=r"without config\.json"):
        il.load(run)


def test_what_is_there_is_not_overwritten(run, tmp_path):
    before = (run / "checkpoint.safetensors").read_bytes()
    with pytest.raises(il.InputError, match="is not empty; resume that run, choose another place, or overwrite"):
        il.fit(learner(), tasks(), out=run, steps=2, **QUICK)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    il.fit(learner(), tasks(), out=run, steps=1, validate_every=0, force=True, **QUICK)
    assert not (run / "best.safetensors").exists() and len(lines(run, "train")) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(il.InputError, match="holds no innerloop run; it is not overwritten"):
        il.fit(learner(), tasks(), out=other, steps=1, force=True, **QUICK)
    with pytest.raises(il.InputError, match="expected a directory for the run, got a file"):
        il.fit(learner(), tasks(), out=other / "thesis.txt", steps=1, **QUICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 3}, "fit has no setting 'step': did you mean 'steps'"),
        ({"steps": 0}, "steps expected an integer of at least 1, got 0"),
        ({"outer_lr": float("nan")}, "outer_lr expected a finite number"),
        ({"clip_norm": -1.0}, "clip_norm expected"),
        ({"rule_clip_norm": -1.0}, "rule_clip_norm expected"),
        ({"seed": 2**63}, "64-bit"),
        ({"device": "tpu0"}, "device expected"),
        ({"resume": True}, "resume expected the run directory as out=, got none"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(il.ConfigError, match=message):
        il.fit(learner(), tasks(), quiet=True, **settings)


def test_derived_intervals():
    config = TrainConfig(steps=1000)
    assert [config.every(n) for n in ("validate_every", "checkpoint_every", "log_every")] == [50, 50, 10]
    assert TrainConfig(steps=1000, validate_every=0).every("checkpoint_every") == 50
    assert TrainConfig(steps=3).every("log_every") == 1


def test_what_is_said_on_the_way(capfd):
    il.fit(learner(), tasks(), steps=2, validate_every=1, num_tasks=2, valid_tasks=3)
    out, err = capfd.readouterr()
    assert out == "" and err.count("step 1/2: valid mse") == 1 and err.count("step 2/2: valid mse") == 1
    il.fit(learner(), tasks(), steps=2, validate_every=1, **QUICK)
    assert capfd.readouterr() == ("", "")


def test_one_process_needs_no_syncing():
    one = learner()
    one.backward(tasks().train.at(0, 0, 2))
    before = [p.grad.clone() for p in one.parameters()]
    il.sync_gradients(one)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, one.parameters(), strict=True))
