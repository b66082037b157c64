"""The one place that decides how a step is run: a table of cases, from facts alone."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.engine import deciding
from innerloop.engine.compiling import STANDARD
from innerloop.engine.deciding import (
    IN_PHASES,
    META_GRADIENT,
    META_GRADIENT_BY_TASK,
    NOTHING,
    WHOLE_STEP,
    Facts,
    compiling,
)
from innerloop.engine.plan import Plan

MEASURED = Plan("vmapped", None, 1, {"vmapped": 20.0, "looped": 150.0}, "measured")
# A run of a small network, where compiling pays.
RUN = Facts(plain_optimizer=True, steps=15_000)
ASKED = dataclasses.replace(RUN, strategy="compiled")


def facts(of: Facts = RUN, **others) -> Facts:
    return dataclasses.replace(of, **others)


@pytest.mark.parametrize(
    ("given", "plan", "what"),
    [
        # nobody asked: by what was measured
        (RUN, MEASURED, WHOLE_STEP),
        (RUN, Plan("looped", None, 1, {"looped": 20.0}, "measured"), WHOLE_STEP),
        (RUN, Plan("looped"), NOTHING),  # nothing was measured
        (RUN, None, NOTHING),  # one's own loop
        (facts(steps=500), MEASURED, NOTHING),  # too few to pay
        (facts(steps=500, passes=40), MEASURED, META_GRADIENT),
        (facts(steps=1_500), MEASURED, WHOLE_STEP),
        (facts(steps=1_500, convolves=True), MEASURED, NOTHING),  # whose kernels stay the same
        *[(facts(strategy=name), MEASURED, NOTHING) for name in ("looped", "vmapped", "per_task")],
        # asked: whatever it saves
        (facts(ASKED, steps=5), MEASURED, WHOLE_STEP),
        (facts(ASKED, steps=5), None, WHOLE_STEP),
        (Facts(strategy="compiled"), None, META_GRADIENT),
        # a plan that all follows goes before what was asked
        (facts(following=Plan("compiled"), steps=0), None, WHOLE_STEP),
        (facts(ASKED, following=Plan("vmapped")), MEASURED, NOTHING),
        (facts(following=Plan("vmapped")), MEASURED, NOTHING),
        # the optimizer's update is no part of it
        (facts(plain_optimizer=False), MEASURED, META_GRADIENT),
        (facts(passes=2), MEASURED, META_GRADIENT),
        (facts(gathers=True), MEASURED, META_GRADIENT),
        (facts(convolutional=True, convolves=True), MEASURED, META_GRADIENT_BY_TASK),
        (facts(convolutional=True, convolves=True, shardable=False), MEASURED, META_GRADIENT),
        (facts(convolves=True), MEASURED, WHOLE_STEP),
        # where the gradient can be cut: from some inner steps on
        (facts(phases=True, inner_steps=5), MEASURED, WHOLE_STEP),
        (facts(phases=True, inner_steps=50), MEASURED, IN_PHASES),
        (facts(inner_steps=50), MEASURED, WHOLE_STEP),
        (facts(phases=True, inner_steps=1, convolutional=True, convolves=True), MEASURED, IN_PHASES),
    ],
)
def test_what_is_compiled(given, plan, what):
    found = compiling(given, plan)
    assert found.what == what and not found.why_not


@pytest.mark.parametrize("of", [RUN, ASKED, facts(following=Plan("compiled"))])
@pytest.mark.parametrize(
    ("against", "said"),
    [
        ({"recompute": True}, "recompute"),
        ({"needs_loop": ("lstm",)}, "vmap gets lstm wrong"),
        ({"shared": True}, "share data"),
        ({"processes": 2}, "2 processes"),
        ({"compilable": False}, "not the same computation at every step"),
    ],
)
def test_what_stands_against_it(of, against, said):
    found = compiling(facts(of, **against), MEASURED)
    assert found.what == NOTHING and said in found.why_not


def test_what_compiling_may_cost():
    assert compiling(ASKED).limits == STANDARD
    assert compiling(facts(ASKED, seconds=60.0)).limits == STANDARD._replace(seconds=30.0)
    # 3,000 steps of 20 ms, of which four fifths are saved, and two thirds of that may be spent: 32 s.
    few = compiling(facts(steps=3_000), MEASURED).limits
    assert few.seconds == pytest.approx(32.0) and few.nodes == 733
    assert compiling(RUN, MEASURED).limits.nodes == STANDARD.nodes


def test_no_more_steps_than_there_is_time_for():
    assert deciding.within_time(facts(seconds=10.0), MEASURED).steps == 500
    assert deciding.within_time(facts(seconds=math.inf), MEASURED) == RUN
    assert deciding.within_time(facts(seconds=10.0), Plan("looped")).steps == RUN.steps


def test_a_compiled_step_has_to_be_faster_unless_it_was_asked_for():
    assert deciding.compiled(RUN, MEASURED, 0.001).strategy == "compiled"
    slower = deciding.compiled(RUN, MEASURED, 0.5)
    assert slower.strategy == "vmapped" and slower.milliseconds["compiled"] == 500.0
    assert deciding.compiled(ASKED, MEASURED, 0.5).strategy == "compiled"


def test_threads_and_steps_at_once():
    many = Plan("vmapped", threads=4, milliseconds={"vmapped": 10.0})
    for took, chosen in ((20.0, 4), (10.5, 1)):
        single = Plan("vmapped", threads=1, milliseconds={"vmapped": took})
        assert deciding.threads(many, single).threads == chosen
    assert [deciding.measures(facts(steps=n)) for n in (19, 20)] == [False, True]
    quick = Plan("compiled", milliseconds={"compiled": 10.0})
    assert [deciding.steps_at_once(quick, whole) for whole in (False, True)] == [1, 20]
    assert deciding.steps_at_once(Plan("compiled", milliseconds={"compiled": 0.1}), True) == 64


@pytest.mark.parametrize(
    ("given", "num_tasks", "strategy"),
    [
        ({}, 3, "looped"),
        ({}, 4, "vmapped"),
        ({"needs_loop": ("lstm",)}, 32, "looped"),
        ({"convolutional": True}, 32, "vmapped"),  # of few pictures
        ({"strategy": "per_task"}, 2, "per_task"),
        ({"strategy": "compiled"}, 2, "vmapped"),  # beneath the compiled function
        ({"strategy": "compiled", "convolutional": True}, 32, "looped"),
    ],
)
def test_the_rule_of_shapes(given, num_tasks, strategy):
    tasks = il.tasks.sinusoid(shots=2, queries=2).train.at(0, 0, num_tasks)
    assert deciding.rule(Facts(**given), tasks).strategy == strategy


def test_many_pictures_are_looped():
    tasks = il.tasks.sinusoid(shots=20, queries=20).train.at(0, 0, 32)
    assert deciding.rule(Facts(convolutional=True), tasks).strategy == "looped"
    assert deciding.rule(Facts(), tasks).strategy == "vmapped"


@pytest.mark.parametrize(
    "given", [{"strategy": "vmapped", "needs_loop": ("lstm",)}, {"strategy": "magic"}], ids=["needs a loop", "unknown"]
)
def test_a_strategy_that_cannot_be(given):
    with pytest.raises(il.ConfigError, match="strategy"):
        deciding.rule(Facts(**given), il.tasks.sinusoid().train.at(0, 0, 4))


def test_a_learner_says_what_it_knows():
    class GoesOut(il.learners.GradientLearner):
        def experience(self, meta, tasks, key):
            return tasks

    def made(kind):
        return il.MetaLearner.of(
            nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)),
            learner=lambda pure, rule: kind(pure, rule),
            rule=il.rules.SGD(0.1),
            meta_gradient=il.meta_gradients.Backprop,
        )

    tasks = il.tasks.sinusoid().train.at(0, 0, 4)
    plain, other = made(il.learners.GradientLearner), made(GoesOut)
    of_both = Facts(phases=True, inner_steps=1)
    assert plain.facts(tasks) == of_both and other.facts(tasks) == facts(of_both, gathers=True)
    plain.recompute, plain.chunk_size, plain.strategy = 2, 3, "looped"
    assert plain.facts(tasks) == facts(of_both, strategy="looped", chunk_size=3, recompute=True)


def test_compiling_in_ones_own_loop_says_what_stands_against_it():
    learner, tasks = il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.1), il.tasks.sinusoid().train.at(0, 0, 4)
    learner.recompute = True
    with pytest.raises(il.InnerloopError, match="recompute"):
        learner.compile(tasks)
    learner.recompute, learner.engine.needs_loop = False, ("lstm",)
    with pytest.raises(il.InnerloopError, match="wrong or refuses"):
        learner.compile(tasks)


def test_large_tasks_are_mapped_a_few_at_a_time():
    def pictures(num_tasks, size):
        x = torch.zeros(num_tasks, 5, 1, size, size)
        side = il.Examples(x, torch.zeros(num_tasks, 5, dtype=torch.long))
        return il.Task(support=side, query=side, objective="cross_entropy")

    large = pictures(50, 100)
    values = 2 * 5 * (100 * 100 + 1)
    assert deciding.mapping(Facts(), large).chunk_size == deciding._VALUES_AT_ONCE // values < 50
    assert deciding.mapping(Facts(), pictures(50, 2)).chunk_size is None
    assert deciding.mapping(Facts(chunk_size=7), large).chunk_size == 7, "what was asked for stays"
    assert deciding.mapping(Facts(), pictures(5, 2000)).chunk_size == 1
    assert deciding.mapping(Facts(strategy="looped"), large) == deciding.rule(Facts(strategy="looped"), large)


def test_the_step_of_the_change_is_fixed_beforehand():
    """A power of two, the same for times that differ little; later where compiling takes longer and saves less."""

    def after(milliseconds, nodes=900, **known):
        plan = dataclasses.replace(MEASURED, milliseconds={"vmapped": milliseconds})
        return deciding.meanwhile(facts(**known), plan, nodes, 3).compile_at - 3

    assert after(13.9) == after(12.5) == 512 == 2 ** round(math.log2((10 + 900 * 0.03) * 0.2 / 0.0139))
    assert after(13.9, convolves=True) == 4096
    assert after(1e6) == 1
    found = deciding.compiled(RUN, dataclasses.replace(MEASURED, compile_at=7), 0.001)
    assert (found.strategy, found.before, found.compile_at) == ("compiled", "vmapped", 7)
    assert deciding.failed(dataclasses.replace(MEASURED, compile_at=7), "no").why == "measured; not compiled: no"
    assert "compiled from step 7 on" in str(dataclasses.replace(MEASURED, compile_at=7)) and "from step" not in str(
        found
    )
