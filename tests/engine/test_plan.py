"""The planner: the fastest by measurement, kept, final after the third call, without a trace in the results."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.engine import plan as planning
from innerloop.engine.plan import Plan, measure, recall, remember, signature


class Clock:
    """Time that passes as the jobs say."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.now, self.seconds, self.calls = 0.0, seconds, []

    def __call__(self) -> float:
        return self.now

    def job(self, plan: Plan, tasks: il.Task) -> None:
        self.calls.append((plan.label, len(tasks.support.y)))
        self.now += self.seconds[plan.label] * len(tasks.support.y)


def tasks(count: int = 16) -> il.Task:
    return il.tasks.sinusoid(shots=2, queries=2).train.at(0, 0, count)


LOOPED, VMAPPED, FOUR = Plan("looped"), Plan("vmapped"), Plan("vmapped", 4)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"looped": 0.03, "vmapped": 0.02, "vmapped, 4 at once": 0.01}, FOUR),
        ({"looped": 0.01, "vmapped": 0.02, "vmapped, 4 at once": 0.015}, LOOPED),
        # Not clearly faster than the rule's choice, which comes first:
        ({"looped": 0.0092, "vmapped": 0.01, "vmapped, 4 at once": 0.0095}, VMAPPED),
    ],
)
def test_the_fastest_is_taken_where_it_is_clearly_faster(seconds, best):
    clock = Clock(seconds)
    found = measure(clock.job, tasks(), [VMAPPED, LOOPED, FOUR], clock)
    assert (found.strategy, found.chunk_size, found.why) == (best.strategy, best.chunk_size, "measured")
    assert found.milliseconds["vmapped"] == pytest.approx(seconds["vmapped"] * 16e3)
    assert {count for label, count in clock.calls if label == "looped"} == {2}, "two tasks tell what a loop takes"
    assert {count for label, count in clock.calls if label == FOUR.label} == {4}


def test_a_hopeless_candidate_runs_once():
    clock = Clock({"looped": 1.0, "vmapped": 0.1})
    measure(clock.job, tasks(), [VMAPPED, LOOPED], clock)
    assert [label for label, _ in clock.calls].count("looped") == 1


def test_measuring_ends_after_a_while():
    clock = Clock({"looped": 30.0, "vmapped": 30.0, "vmapped, 4 at once": 0.1})
    assert measure(clock.job, tasks(), [VMAPPED, LOOPED, FOUR], clock).strategy == "vmapped"


def test_a_candidate_that_fails_is_not_taken():
    def job(plan: Plan, _: il.Task) -> None:
        if plan.strategy == "vmapped":
            raise RuntimeError("out of memory, or anything")

    assert measure(job, tasks(), [VMAPPED, LOOPED]).strategy == "looped"
    failing = measure(lambda *_: 1 / 0, tasks(), [VMAPPED, LOOPED])
    assert failing == VMAPPED, "what fails in every way fails where the user sees it"


def test_the_users_errors_come_through():
    def job(*_: object) -> None:
        raise il.InputError("labels expected 0 to 4")

    with pytest.raises(il.InputError):
        measure(job, tasks(), [VMAPPED, LOOPED])


def test_measuring_draws_no_random_numbers():
    before = torch.get_rng_state()
    measure(lambda *_: torch.rand(3), tasks(), [VMAPPED, LOOPED])
    assert torch.equal(before, torch.get_rng_state())


# ---- the cache -----------------------------------------------------------------------------------------------------
@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "_known", {})
    monkeypatch.setattr(planning, "_file", lambda: tmp_path / "plans.json")
    return tmp_path / "plans.json"


def test_plans_are_kept_on_disk(cache, monkeypatch):
    plan = Plan("per_task", 4, 1, {"looped": 2.5, "per_task, 4 at once": 1.0}, "measured")
    remember("name", plan)
    assert recall("name") == plan and recall("other") is None
    monkeypatch.setattr(planning, "_known", {})
    assert recall("name") == plan


@pytest.mark.parametrize("content", ["", "[1]", '{"name": 3}', '{"name": {"strategy": "magic"}}', '{"name": {"x": 1}}'])
def test_a_damaged_cache_is_none(cache, content):
    cache.write_text(content)
    assert recall("name") is None
    remember("name", VMAPPED)
    assert recall("name") == VMAPPED


def test_a_cache_that_cannot_be_written_is_no_trouble(cache):
    cache.mkdir()
    remember("name", VMAPPED)
    assert recall("name") == VMAPPED


def test_the_cache_does_not_grow_without_end(cache, monkeypatch):
    monkeypatch.setattr(planning, "_KEPT", 3)
    for number in range(5):
        remember(str(number), VMAPPED)
    assert list(planning._read()) == ["2", "3", "4"]


def test_signatures_tell_apart_what_may_take_another_time(monkeypatch):
    names = {
        signature("maml", tasks(4)),
        signature("anil", tasks(4)),
        signature("maml", tasks(5)),
        signature("maml", tasks(4), 1),
    }
    monkeypatch.setattr(planning, "processor", lambda: "another")
    assert len(names | {signature("maml", tasks(4))}) == 5
    assert signature("maml", tasks(4)) == signature("maml", il.tasks.sinusoid(shots=2, queries=2).train.at(1, 9, 4))


# ---- in use --------------------------------------------------------------------------------------------------------
def learner(**options) -> il.MetaLearner:
    torch.manual_seed(0)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01, **options)


def prefer(monkeypatch, strategy: str) -> list[int]:
    """The planner always finds this strategy the fastest."""
    measured = []

    def measure(job, tasks, candidates):
        measured.append(1)
        for plan in candidates:
            job(plan, tasks)
        return Plan(strategy, why="measured")

    monkeypatch.setattr(planning, "measure", measure)
    monkeypatch.setattr(planning, "_known", {})
    return measured


def test_the_plan_is_made_at_the_third_call_and_final(cache, monkeypatch):
    measured, made = prefer(monkeypatch, "looped"), learner()
    for call in range(8):
        made.backward(tasks())
        assert len(measured) == (call >= 2)
    assert [plan.strategy for plan in made.engine.plans.values()] == ["looped"]
    learner_of_the_same_kind = learner()
    for _ in range(4):
        learner_of_the_same_kind.backward(tasks())
    assert len(measured) == 1, "known from the cache"


def test_another_shape_is_another_plan(cache, monkeypatch):
    measured, made = prefer(monkeypatch, "looped"), learner()
    for count in (8, 8, 8, 6, 6, 6, 8):
        made.backward(tasks(count))
    assert len(measured) == 2


def test_measuring_changes_nothing(cache, monkeypatch):
    prefer(monkeypatch, "vmapped")
    planned, plain = learner(), learner()
    plain.strategy = "vmapped"
    for _ in range(4):
        planned.backward(tasks())
        plain.backward(tasks())
    for ours, theirs in zip(planned.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert planned.outer_step == plain.outer_step == 4


def test_what_is_asked_for_is_not_measured(cache, monkeypatch):
    measured = prefer(monkeypatch, "looped")
    for strategy in ("looped", "vmapped", "per_task"):
        made = learner()
        made.strategy = strategy
        assert made.plan(tasks()).strategy == strategy
    one, pictures = il.maml(il.models.conv4((1, 16, 16), 2, filters=2)), torch.zeros(1, 4, 1, 16, 16)
    side = il.Examples(pictures, torch.tensor([[0, 1, 0, 1]]))
    assert one.plan(il.Task(side, side)).strategy == "looped", "one task of pictures is not worth a batch"
    torch.manual_seed(0)
    looped = il.maml(nn.Sequential(nn.LSTM(1, 2), Last()))
    assert looped.plan(tasks()).strategy == "looped"
    assert not measured


def test_one_task_of_a_small_net_is_measured_so_that_it_can_be_compiled(cache, monkeypatch):
    measured = prefer(monkeypatch, "looped")
    assert learner().plan(tasks(1)).strategy == "looped"
    assert measured


class Last(nn.Module):
    def forward(self, x):
        return x[0][:, :1]


def test_convolutions_have_more_candidates():
    assert {plan.label for plan in learner().engine.candidates(tasks(12))} == {"vmapped", "looped"}
    convolutional = learner()
    convolutional.engine.convolutional = True
    labels = [plan.label for plan in convolutional.engine.candidates(tasks(6))]
    assert labels == ["vmapped", "looped", "vmapped, 4 at once", "per_task", "per_task, 4 at once"]


def test_plans_read_well_and_survive_json():
    plan = Plan("vmapped", 4, 1, {"vmapped, 4 at once": 1.2345, "looped": 160.3}, "measured")
    assert str(plan) == "vmapped, 4 at once, 1 thread (measured: vmapped, 4 at once 1.23 ms, looped 160 ms)"
    assert Plan.from_dict(plan.as_dict()) == plan
    assert str(Plan("looped")) == "looped (rule)"
    with pytest.raises(ValueError, match="magic"):
        Plan.from_dict(dataclasses.asdict(plan) | {"strategy": "magic"})


def test_a_plan_is_of_the_method_with_its_options():
    """Where they were left out, five inner steps were planned as fifty, by the times of those measured first."""

    def model():
        return il.models.mlp(1, 1, hidden=(4,))

    made = [il.maml(model(), inner_steps=1), il.maml(model(), inner_steps=5), il.fomaml(model()), il.reptile(model())]
    assert len({learner.engine.identity for learner in made}) == len(made)
    assert il.maml(model(), inner_steps=5).engine.identity == made[1].engine.identity
