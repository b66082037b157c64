"""The compiled outer step: what step by step training gives, whatever the method, and nothing lost when it goes wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.engine import Plan, compiling, deciding
from innerloop.engine.compiling import STANDARD, CompileFailed
from innerloop.training.optimizer import clip, make_optimizer
from innerloop.training.stepping import Stepper
from innerloop.training.whole_step import WholeStep

RATES = [[0.01, 0.02], [0.03, 0.01], [0.02, 0.02], [0.01, 0.01]]


@pytest.fixture
def interpreted(monkeypatch):
    """The traced graph, run operation by operation: what compiling gives but for rounding, without its time."""
    monkeypatch.setattr(compiling, "Attempt", Mock())
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, _: graph)


def problem(name: str = "maml", **options):
    torch.manual_seed(0)
    model = il.models.mlp(1, 1, hidden=(4,), activation="tanh").double()
    return getattr(il, name)(model, **options), il.tasks.sinusoid(shots=3, queries=3).train


def step_by_step(learner, optimizer, batches, rates, clip_norm=None, rule_clip_norm=None):
    losses = []
    for batch, own in zip(batches, rates, strict=True):
        for group, rate in zip(optimizer.param_groups, own, strict=False):
            group["lr"] = rate
        losses.append(float(learner.backward(batch)["loss"]))
        clip(learner, clip_norm, rule_clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return losses


def same_state(one, other, tolerance=1e-11):
    for (name, mine), theirs in zip(one[0].state_dict().items(), other[0].state_dict().values(), strict=True):
        assert torch.allclose(mine, theirs, rtol=tolerance, atol=tolerance), name
    states = [optimizer.state_dict()["state"] for _, optimizer in (one, other)]
    assert states[0].keys() == states[1].keys()
    for key, own in states[0].items():
        for name in ("step", "exp_avg", "exp_avg_sq"):
            assert name not in states[1][key] or torch.allclose(
                own[name], states[1][key][name], tolerance, tolerance
            ), name


@pytest.mark.parametrize(
    ("name", "options", "optimizer", "clip_norm"),
    [
        ("maml", {"inner_steps": 2, "inner_lr": 0.1}, "adam", None),
        ("maml", {"inner_lr": 0.1}, "adam", 0.1),
        ("meta_sgd", {"inner_steps": 2}, "adam", None),
        ("meta_sgd", {}, "sgd", 0.5),
        ("fomaml", {"inner_lr": 0.1, "inner_optimizer": "adam"}, "adam", 0.01),
        ("reptile", {"inner_steps": 3}, "sgd", None),
        ("pretrained", {}, "adam", None),
    ],
)
def test_equal_to_steps_taken_one_by_one(interpreted, name, options, optimizer, clip_norm):
    found = []
    for compiled in (True, False):
        learner, tasks = problem(name, **options)
        outer = make_optimizer(optimizer, learner, 0.01, 0.02)
        rates = [own[: len(outer.param_groups)] for own in RATES]
        batches = [tasks.at(0, i, 5) for i in range(4)]
        step_by_step(learner, outer, batches[:1], rates[:1], clip_norm)  # the optimizer has a state
        if compiled:
            whole = WholeStep(learner, outer, clip_norm)
            whole.begin(batches[0], 1).wait()
            losses = whole.run(
                [whole.leaves(learner.ready(b, 1 + i), 1 + i) for i, b in enumerate(batches[1:3])], 1, rates[1:3]
            )
            losses += whole.run([whole.leaves(learner.ready(batches[3], 3), 3)], 3, rates[3:])
        else:
            losses = step_by_step(learner, outer, batches[1:], rates[1:], clip_norm)
        assert learner.outer_step == 4
        found.append((learner, outer, losses))
    assert found[0][2] == pytest.approx(found[1][2], rel=1e-11)
    same_state(found[0][:2], found[1][:2])
    moved = problem(name)[0].state_dict()
    assert any(not torch.allclose(value, moved[key], atol=1e-4) for key, value in found[0][0].state_dict().items())


@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_groups_are_clipped_by_themselves(interpreted, clip_norm):
    def made():
        learner, tasks = problem("meta_sgd", inner_steps=2)
        return learner, make_optimizer("sgd", learner, 0.1), [tasks.at(0, i, 5) for i in range(3)]

    compiled, outer, batches = made()
    whole = WholeStep(compiled, outer, clip_norm, 0.01)
    whole.begin(batches[0], 0).wait()
    whole.run([whole.leaves(compiled.ready(b, i), i) for i, b in enumerate(batches)], 0, [[0.1, 0.1]] * 3)
    plain, theirs, batches = made()
    step_by_step(plain, theirs, batches, [[0.1, 0.1]] * 3, clip_norm, 0.01)
    same_state((compiled, outer), (plain, theirs))
    together, theirs, batches = made()
    step_by_step(together, theirs, batches, [[0.1, 0.1]] * 3, clip_norm)
    assert not all(
        torch.allclose(p, q, rtol=1e-6) for p, q in zip(plain.rule.values(), together.rule.values(), strict=True)
    )


def test_what_is_frozen_stays(interpreted):
    learner, tasks = problem(inner_lr=0.1)
    frozen = next(iter(learner.model.parameters()))
    frozen.requires_grad_(False)
    before = frozen.clone()
    whole = WholeStep(learner, make_optimizer("adam", learner, 0.01))
    whole.begin(tasks.at(0, 0, 5), 0).wait()
    whole.run([whole.leaves(learner.ready(tasks.at(0, 0, 5), 0), 0)], 0, [[0.1]])
    assert torch.equal(frozen, before)


def test_a_step_that_is_not_finite_changes_nothing(interpreted):
    learner, tasks = problem(inner_lr=0.1)
    outer = make_optimizer("adam", learner, 0.01)
    good, bad = learner.ready(tasks.at(0, 0, 5), 0), learner.ready(tasks.at(0, 1, 5), 1)
    bad.query.y[0] = float("inf")
    whole = WholeStep(learner, outer)
    whole.begin(good, 0).wait()
    with pytest.raises(il.DivergedError, match=r"the outer loss at outer step 1 is inf"):
        whole.run([whole.leaves(batch, 0) for batch in (good, bad, good, good)], 0, [[0.01]] * 4)
    other, _ = problem(inner_lr=0.1)
    theirs = make_optimizer("adam", other, 0.01)
    step_by_step(other, theirs, [good], [[0.01]])
    same_state((learner, outer), (other, theirs))
    assert learner.outer_step == 1


def test_measuring_changes_nothing(interpreted):
    learner, tasks = problem()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    whole = WholeStep(learner, make_optimizer("adam", learner, 0.01))
    whole.begin(tasks.at(0, 0, 5), 0).wait()
    assert 0 < whole.seconds(tasks.at(0, 0, 5), 0) < 10
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert not whole.optimizer.state


def test_it_knows_what_it_was_compiled_for(interpreted):
    learner, tasks = problem("mamlpp", phase_steps=2, annealing_phases=3)
    whole = WholeStep(learner, make_optimizer("adam", learner, 0.01))
    assert whole.leaves(tasks.at(0, 0, 5), 0) is None
    whole.begin(tasks.at(0, 0, 5), 0).wait()
    ready = learner.ready(tasks.at(0, 0, 5), 0)
    assert whole.leaves(ready, 0) and whole.leaves(ready, 1)
    assert whole.leaves(ready, 2) is None, "another phase has other weights"
    assert whole.leaves(learner.ready(tasks.at(0, 0, 6), 0), 0) is None


def test_other_optimizers_are_not_compiled():
    learner, tasks = problem()
    for optimizer in (
        torch.optim.AdamW(learner.parameters()),
        torch.optim.SGD(learner.parameters(), 0.1, momentum=0.9),
    ):
        with pytest.raises(CompileFailed, match="plain Adam and SGD"):
            WholeStep(learner, optimizer).begin(tasks.at(0, 0, 5), 0)


# ---- in a run ------------------------------------------------------------------------------------------------------
def run(folder: Path | None, steps: int = 40, name: str = "maml", options=None, **settings):
    torch.manual_seed(0)
    learner = getattr(il, name)(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01, **(options or {}))
    common = {
        "num_tasks": 5,
        "validate_every": 16,
        "valid_tasks": 4,
        "log_every": 7,
        "checkpoint_every": 10,
        "quiet": True,
    }
    result = il.fit(learner, il.tasks.sinusoid(shots=3, queries=3), steps=steps, out=folder, **{**common, **settings})
    return learner, result


def lines(folder: Path) -> list[str]:
    return [line.partition('"seconds"')[0] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_compiled_run_is_the_vmapped_one(interpreted, tmp_path):
    compiled = run(tmp_path / "compiled", strategy="compiled", precision="float64")
    plain = run(tmp_path / "plain", strategy="vmapped", precision="float64")
    assert "compiled" in (tmp_path / "compiled" / "plan.json").read_text()
    for mine, theirs in zip(compiled[0].parameters(), plain[0].parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-11)
    assert compiled[1].best_step == plain[1].best_step
    assert compiled[1].best_value == pytest.approx(plain[1].best_value, rel=1e-9)
    numbers = [[part.split(":")[0] for part in line.split(",")] for line in lines(tmp_path / "compiled")]
    assert numbers == [[part.split(":")[0] for part in line.split(",")] for line in lines(tmp_path / "plain")]


@pytest.mark.slow
def test_resuming_a_compiled_run_is_exact(interpreted, tmp_path, monkeypatch):
    whole, _ = run(tmp_path / "whole", strategy="compiled")
    original = WholeStep.run
    calls = []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("killed")
        return original(self, *args)

    monkeypatch.setattr(WholeStep, "run", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "parts", strategy="compiled")
    again, _ = run(tmp_path / "parts", strategy="compiled", resume=True)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_where_compiling_fails_the_run_is_vmapped(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compiling, "Attempt", Mock(side_effect=CompileFailed("the compiler crashed")))
    failed, _ = run(tmp_path / "failed", strategy="compiled", quiet=False)
    plain, _ = run(None, strategy="vmapped")
    for mine, theirs in zip(failed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert "plan: vmapped" in capsys.readouterr().err


@pytest.mark.slow
def test_phases_of_a_method_are_taken_one_by_one(interpreted, tmp_path):
    options = {"phase_steps": 6, "annealing_phases": 2, "inner_steps": 2}
    compiled, _ = run(None, 15, "mamlpp", options, strategy="compiled", precision="float64")
    plain, _ = run(None, 15, "mamlpp", options, strategy="vmapped", precision="float64")
    for mine, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-11)


# ---- whether it pays -----------------------------------------------------------------------------------------------
def stepper(**attributes) -> Stepper:
    from innerloop.training.distributed import Group, Part

    learner, _ = problem()
    for name, value in attributes.items():
        setattr(learner, name, value)
    return Stepper(learner, make_optimizer("adam", learner, 0.01), None, Group(), Part(0, 5, 5))


def sines() -> il.Task:
    return il.tasks.sinusoid(shots=3, queries=3).train.at(0, 0, 5)


MEASURED = Plan("vmapped", None, 1, {"vmapped": 20.0, "looped": 150.0}, "measured")


@pytest.mark.parametrize(
    ("attributes", "plan", "steps", "pays"),
    [
        ({}, MEASURED, 15000, True),
        ({}, MEASURED, 500, False),
        ({}, Plan("looped", None, 1, {"looped": 20.0}, "measured"), 15000, True),
        ({}, Plan("looped", None, 1, {}, "rule"), 15000, False),
        ({"strategy": "vmapped"}, MEASURED, 15000, False),
        ({"strategy": "compiled"}, MEASURED, 5, True),
        ({"recompute": True, "strategy": "compiled"}, MEASURED, 15000, False),
    ],
)
def test_compiling_has_to_pay(attributes, plan, steps, pays):
    made = stepper(**attributes)
    assert (deciding.compiling(made.facts(sines(), steps), plan).what == deciding.WHOLE_STEP) is pays


@pytest.mark.parametrize("method", [il.maml, il.protonet])
def test_convolutions_save_less(method):
    """Those of each task and those that all tasks share."""
    made = stepper()
    before = deciding.worth(made.facts(sines(), 10_000), MEASURED).nodes
    made.learner = method(il.models.conv4(1, 2, filters=2))
    assert 0 < deciding.worth(made.facts(sines(), 10_000), MEASURED).nodes < before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "fomaml", "reptile"])
def test_convolutions_are_compiled_for_one_task(interpreted, name):
    """And averaged over the tasks; the run is that of the loop."""
    found = []
    for strategy in ("compiled", "looped"):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
        )
        learner = getattr(il, name)(net.double(), inner_lr=0.1, inner_steps=2)
        learner.strategy = strategy
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(4, 6, 1, 4, 4, dtype=torch.float64, generator=generator)
        y = torch.arange(6).remainder(2).expand(4, -1)
        side = il.Examples(x, y)
        metrics = [learner.backward(il.Task(side, il.Examples(x.flip(1), y.flip(1))), outer_step=i) for i in range(2)]
        assert learner.engine.convolutional and (len(learner.compiled._functions) == (strategy == "compiled"))
        assert not learner.compiled.trouble
        found.append(({n: p.grad for n, p in learner.named_parameters()}, metrics[-1]))
    for mine, theirs in zip(found[0][0].values(), found[1][0].values(), strict=True):
        assert theirs.abs().max() > 1e-6 and torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)
    assert float(found[0][1]["loss"]) == pytest.approx(float(found[1][1]["loss"]), rel=1e-12)


def test_a_slower_compiled_step_is_not_taken(interpreted, monkeypatch):
    monkeypatch.setattr(WholeStep, "seconds", lambda *_: 0.5)
    made = stepper()
    plan = made._begun(MEASURED, sines(), 0, made.facts(sines(), 100_000), lambda _: None)
    assert plan.strategy == "vmapped" and plan.compile_at > 0 and made._whole is None
    plan = made._changed(plan)
    assert plan.strategy == "vmapped" and plan.milliseconds["compiled"] == 500.0 and made._whole is None
    assert plan.compile_at is None and made._pending is None


def test_before_the_change_the_plan_is_measured_again(interpreted, monkeypatch):
    """A machine that was idle when the plan was made, and is busy now: both are measured on what it is now."""
    monkeypatch.setattr(WholeStep, "seconds", lambda *_: 0.5)
    monkeypatch.setattr(Stepper, "_milliseconds", lambda *_: 2000.0)
    made = stepper()
    plan = made._changed(made._begun(MEASURED, sines(), 0, made.facts(sines(), 100_000), lambda _: None))
    assert plan.strategy == "compiled" and plan.milliseconds["vmapped"] == 2000.0, plan
    monkeypatch.undo()
    assert 0 < made._milliseconds(MEASURED) < 1e4


# ---- compiled while steps are taken --------------------------------------------------------------------------------
@pytest.fixture
def meanwhile(interpreted, monkeypatch):
    """Compiling pays, and the compiled step is taken from step 6 on; gives how often a compiled step was measured."""
    measured = []
    monkeypatch.setattr(deciding, "measures", lambda _: True)
    monkeypatch.setattr(deciding, "worth", lambda *_: STANDARD)
    monkeypatch.setattr(deciding, "meanwhile", lambda _, plan, *__: dataclasses.replace(plan, compile_at=6))
    monkeypatch.setattr(il.MetaLearner, "plan", lambda *_: MEASURED)
    monkeypatch.setattr(Stepper, "_milliseconds", lambda *_: 20.0)
    monkeypatch.setattr(WholeStep, "seconds", lambda *_: measured.append(1) or 1e-3)
    return measured


def killed_at(monkeypatch, step: int) -> None:
    original = Stepper.run

    def run(self, batches, first_step, *rest):
        if first_step >= step:
            raise RuntimeError("killed")
        return original(self, batches, first_step, *rest)

    monkeypatch.setattr(Stepper, "run", run)


def kept_plan(folder: Path) -> Plan:
    return Plan.from_dict(json.loads((folder / "plan.json").read_text()))


def test_steps_are_taken_while_the_step_is_compiled(meanwhile, tmp_path, monkeypatch):
    ran = []
    whole_run = WholeStep.run
    monkeypatch.setattr(
        WholeStep,
        "run",
        lambda self, batches, first, rates: ran.append(first) or whole_run(self, batches, first, rates),
    )
    mine, _ = run(tmp_path / "mine", precision="float64")
    assert ran and ran[0] == 6 and meanwhile == [1]
    plan = kept_plan(tmp_path / "mine")
    assert (plan.strategy, plan.before, plan.compile_at) == ("compiled", "vmapped", 6)
    theirs, _ = run(None, strategy="vmapped", precision="float64")
    for own, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("step", [4, 9, 14])
def test_a_run_killed_before_or_after_the_change_resumes_exactly(meanwhile, tmp_path, monkeypatch, step):
    """Checkpoints are at 4, 8, 12: killed at 9 the run is at 8, after the change; at 14 at 12."""
    settings = {"checkpoint_every": 4}
    whole, _ = run(tmp_path / "whole", **settings)
    with monkeypatch.context() as during:
        killed_at(during, step)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "parts", **settings)
    again, _ = run(tmp_path / "parts", resume=True, **settings)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert kept_plan(tmp_path / "parts").compile_at == 6


def test_a_run_that_had_changed_changes_again_from_an_older_checkpoint(meanwhile, tmp_path, monkeypatch):
    """At the same step, and without measuring whether it pays: that was found before."""
    settings = {"checkpoint_every": 5}
    whole, _ = run(tmp_path / "whole", **settings)
    with monkeypatch.context() as during:
        killed_at(during, 8)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "parts", **settings)
    assert kept_plan(tmp_path / "parts").strategy == "compiled"
    monkeypatch.setattr(WholeStep, "seconds", lambda *_: 9.0)
    again, _ = run(tmp_path / "parts", resume=True, **settings)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert kept_plan(tmp_path / "parts").strategy == "compiled"


def test_what_fails_meanwhile_is_said_and_the_run_goes_on(meanwhile, tmp_path, monkeypatch, capsys):
    failing = Mock()
    failing.return_value.wait.side_effect = CompileFailed("the compiler crashed")
    monkeypatch.setattr(compiling, "Attempt", failing)
    failed, _ = run(tmp_path / "failed", quiet=False)
    plan = kept_plan(tmp_path / "failed")
    assert plan.strategy == "vmapped" and plan.compile_at is None and "the compiler crashed" in plan.why
    assert "the compiler crashed" in capsys.readouterr().err
    plain, _ = run(None, strategy="vmapped")
    for mine, theirs in zip(failed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_nobody_waits_for_a_compiler_whose_run_is_over(meanwhile, tmp_path, monkeypatch):
    made = Mock()
    monkeypatch.setattr(compiling, "Attempt", made)
    run(tmp_path / "short", 5)
    assert made.return_value.cancel.called and not made.return_value.wait.called


def test_a_short_run_is_not_measured(monkeypatch):
    made, tasks = stepper(), problem()[1]
    monkeypatch.setattr(il.MetaLearner, "plan", lambda *_: pytest.fail("measured"))
    assert made.decide(lambda: tasks.at(0, 0, 5), 0, 10, None, lambda _: None).why == "rule"


def test_fewer_threads_unless_more_are_clearly_faster(monkeypatch):
    made, tasks = stepper(), problem()[1]
    counts = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    for many, chosen in ((10.0, 4), (19.0, 1)):
        answers = iter([Plan("vmapped", None, None, {"vmapped": many}), Plan("vmapped", None, None, {"vmapped": 20.0})])
        monkeypatch.setattr(il.MetaLearner, "plan", lambda *_, answers=answers: next(answers))
        assert made._measured(tasks.at(0, 0, 5), 0, None, 100).threads == chosen
    assert counts == [1, 4, 1, 4]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_with_the_compiler_of_this_machine(tmp_path):
    compiled = run(tmp_path / "compiled", strategy="compiled")
    assert json.loads((tmp_path / "compiled" / "plan.json").read_text())["strategy"] == "compiled"
    plain = run(None, strategy="vmapped")
    for mine, theirs in zip(compiled[0].parameters(), plain[0].parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5)
