"""Every method: shapes, the same numbers however tasks are run, nothing changed that should not be."""

from __future__ import annotations

import copy

import pytest
import torch
from contract_table import (
    CASES,
    NAMES,
    SLOW_BUT_ONE,
    assert_same,
    batch,
    declared,
    family,
    gradients,
    model_for,
    outcome,
    small,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_unflatten
from toy_tasks import FEATURES, clusters

import innerloop as il
from innerloop.engine import Plan, phases
from innerloop.engine.engine import chunks
from innerloop.engine.tracing import trace
from innerloop.functional import Parts

pytestmark = [pytest.mark.usefixtures("double"), pytest.mark.parametrize("name", NAMES)]


@settings(deadline=None, max_examples=4, derandomize=True, database=None, phases=[Phase.generate])
@given(ways=st.integers(2, 5), shots=st.integers(1, 3), queries=st.integers(1, 3), num_tasks=st.integers(1, 6))
def test_shapes(name, ways, shots, queries, num_tasks):
    tasks = clusters(ways, shots, queries).train.at(0, 0, num_tasks)
    learner = small(name, ways=ways)
    learner.backward(tasks)
    expected = (num_tasks, ways * queries, ways)
    predictions, path = learner.predict_queries(tasks), learner.trajectory(tasks, 3)
    assert predictions.shape == expected and path.shape == (4, *expected)
    assert torch.equal(path[3], predictions)  # eval_steps of `small` are 3
    assert not predictions.requires_grad and predictions.isfinite().all()
    fitted = learner.adapt(tasks.support.x[0], tasks.support.y[0])
    chances = fitted.predict_proba(tasks.query.x[0])
    assert chances.shape == (ways * queries, ways) and fitted.classes_ == list(range(ways))
    assert torch.allclose(chances.sum(-1), torch.ones(ways * queries))
    assert fitted.predict(tasks.query.x[0]).shape == (ways * queries,)


@pytest.mark.parametrize("case", CASES)
def test_looped_and_vmapped_agree(name, case):
    found = {}
    for strategy in ("looped", "vmapped", "per_task"):
        learner = small(name, case)
        learner.strategy = strategy
        found[strategy] = outcome(learner, case)
    assert_same(found["looped"], found["vmapped"], 1e-12, declared(name).least_scale)
    assert_same(found["looped"], found["per_task"], 1e-12, declared(name).least_scale)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_is_compiled_computes_the_same(name, case):
    """The graph that a compiler is given, run operation by operation."""
    learner = small(name, case)
    tasks = learner.ready(batch(case), 0)

    def whole(carry, meta, tasks):
        return learner.meta_gradient(carry, meta, tasks, 0, None)

    args = (learner.carry, learner.meta(), tasks)
    with learner.engine.forced(Plan("vmapped")):
        expected = whole(*args)
        graph, leaves, spec = trace(whole, args)
    found = tree_unflatten(graph(*leaves), spec)
    for part, value in expected._asdict().items():
        assert_same(value, getattr(found, part), 1e-12, declared(name).least_scale)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_chunk_size_does_not_matter(name, case):
    found = {}
    for size in (None, 1, 2, 5):
        learner = small(name, case)
        learner.strategy, learner.chunk_size = "vmapped", size
        found[size] = outcome(learner, case)
    for size in (1, 2, 5):
        assert_same(found[None], found[size], 1e-12, declared(name).least_scale)


def test_chunks_bound_what_is_held_at_once(name):
    learner = small(name)
    learner.strategy, learner.chunk_size = "vmapped", 2
    assert learner.engine.rule(batch("classification")).chunk_size == 2
    assert [n for n, _ in chunks(batch("classification"), 2)] == [2, 2, 1]


@pytest.mark.parametrize("case", SLOW_BUT_ONE)
def test_equal_seeds_give_equal_runs(name, case):
    results = []
    for _ in range(2):
        learner = small(name, case)
        il.fit(learner, family(case), steps=3, num_tasks=4, validate_every=0, quiet=True, seed=5)
        results.append({**learner.state_dict(), **outcome(learner, case)})
    assert_same(*results)


@pytest.mark.parametrize("case", CASES)
def test_meta_and_the_given_model_stay_as_they_are(name, case):
    model = model_for(case)
    model.train(False)
    before = copy.deepcopy(model.state_dict())
    learner = getattr(il, name)(model)
    own = {key: p.detach().clone() for key, p in learner.named_parameters()}
    tasks = batch(case)
    learner.ready(tasks, 0)
    own = {key: p.detach().clone() for key, p in learner.named_parameters()}
    learner.backward(tasks)
    buffers = {key: b.detach().clone() for key, b in learner.named_buffers()}
    fitted = learner.adapt(tasks.support.x[0], tasks.support.y[0], steps=2)
    fitted.predict(tasks.query.x[0])
    il.evaluate(learner, family(case).valid, num_tasks=3, steps=2)
    learner.trajectory(tasks, 2)
    assert_same(own, {key: p.detach() for key, p in learner.named_parameters()})
    assert_same(buffers, dict(learner.named_buffers()))
    assert_same(before, model.state_dict())
    assert not model.training and all(p.grad is None for p in model.parameters())
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in learner.parameters()}
    assert not shared


def test_a_fitted_is_a_snapshot(name):
    learner = small(name)
    tasks = batch("classification")
    fitted = learner.adapt(tasks.support.x[0], tasks.support.y[0])
    before = fitted.outputs(tasks.query.x[0])
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(1.0)
    assert torch.equal(fitted.outputs(tasks.query.x[0]), before)


@pytest.mark.parametrize("case", CASES)
def test_backward_adds_to_grad(name, case):
    learner = small(name, case)
    carry = learner.carry
    learner.backward(batch(case), outer_step=0)
    once = gradients(learner)
    assert once.keys() == dict(learner.named_parameters()).keys(), "zeros are expected, not None"
    learner.carry = carry  # what goes on from step to step makes the next one another
    learner.backward(batch(case), outer_step=0)
    assert_same({key: 2 * value for key, value in once.items()}, gradients(learner), 1e-15)
    assert any(bool(g.any()) for key, g in once.items() if key.startswith("model.")) == declared(name).meta_gradient


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_detached(name, case):
    metrics = small(name, case).backward(batch(case))
    assert "loss" in metrics and ("accuracy" in metrics) == (case != "regression")
    for value in metrics.values():
        assert value.ndim == 0 and not value.requires_grad and value.isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_precision_is_kept(name, case, dtype):
    learner = small(name, case).to(dtype)
    found = outcome(learner, case)
    assert {key: v.dtype for key, v in found.items()} == dict.fromkeys(found, dtype)
    assert all(p.dtype == dtype for p in learner.parameters())
    tasks = batch(case)  # always float64: the learner converts
    assert learner.adapt(tasks.support.x[0], tasks.support.y[0]).outputs(tasks.query.x[0]).dtype == dtype


@pytest.mark.parametrize("case", [*CASES, "conv4", "layer_norm"])
def test_parameters_begin_with_the_models_own(name, case):
    if case == "conv4":
        model = il.models.conv4((1, 16, 16), 3, filters=2)
    elif case == "layer_norm":
        body = torch.nn.Sequential(torch.nn.Linear(FEATURES, 4), torch.nn.LayerNorm(4), torch.nn.Tanh())
        model = torch.nn.Sequential(body, torch.nn.Linear(4, 3))
    else:
        model = model_for(case)
    learner = getattr(il, name)(model)
    theirs, ours = list(model.named_parameters()), list(learner.named_parameters())
    prefix = "model.model." if isinstance(learner.model, Parts) else "model."
    assert [f"{prefix}{key}" for key, _ in theirs] == [key for key, _ in ours[: len(theirs)]]
    for (_, a), (_, b) in zip(theirs, ours, strict=False):
        assert torch.equal(a, b) and b.is_leaf and b.requires_grad
    assert (len(ours) > len(theirs)) == declared(name).adds_parameters


def test_a_fixed_inner_rate_is_no_parameter(name):
    rate = 0.0712345
    learner = small(name, inner_lr=rate, rate_low=rate, rate_high=rate)
    found = [key for key, p in learner.named_parameters() if bool((p - rate).abs().lt(1e-9).any())]
    assert bool(found) == declared(name).learned_rate


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("case", SLOW_BUT_ONE)
def test_phases_compute_the_same(name, case, by_task):
    """The gradient in phases, operation by operation: a step of its own, and the way back computed again."""
    learner = small(name, case, inner_steps=3)
    tasks = learner.ready(batch(case, 4), 0)
    if not learner.facts(tasks).phases:
        pytest.skip("does not ask for the gradient of the mean outer loss of an inner loop")
    args = (learner.learner, learner.meta(), tasks, 0)
    with learner.engine.forced(Plan("vmapped")):
        expected = learner.engine.mean_gradient(*args)
    try:
        found = phases.cut(*args, most=2, by_task=by_task)(learner.meta(), tasks)
    except phases.NotInPhases as error:
        pytest.skip(str(error))
    pairs = [*zip(expected[:2], found[:2], strict=True), *((expected[2][part], found[2][part]) for part in expected[2])]
    for one, other in pairs:
        assert_same(one, other, 1e-11, declared(name).least_scale)
