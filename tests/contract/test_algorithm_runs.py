"""Every method: it learns, resumes exactly, does not read query labels, and comes back from files as it went in."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from contract_table import CASES, NAMES, SLOW_BUT_ONE, assert_same, batch, declared, family, outcome, small, with_known
from toy_tasks import Clusters, RotatedNames, ShuffledQueryLabels, clusters

import innerloop as il
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.storage import load_tensors

pytestmark = [pytest.mark.usefixtures("double"), pytest.mark.parametrize("name", NAMES)]


class Crash(Exception):
    pass


def crash_after(learner, steps: int) -> None:
    """Make the outer step after ``steps`` of them fail."""
    backward, done = learner.backward, []

    def counted(tasks, **options):
        if len(done) == steps:
            raise Crash
        done.append(1)
        return backward(tasks, **options)

    learner.backward = counted


@pytest.mark.parametrize("case", SLOW_BUT_ONE)
def test_resuming_is_exact(name, case, tmp_path):
    settings = {
        "steps": 6, "num_tasks": 3, "log_every": 2, "validate_every": 2, "valid_tasks": 4, "checkpoint_every": 3,
        "quiet": True, "seed": 3,
    }  # fmt: skip
    whole = small(name, case)
    whole_result = il.fit(whole, family(case), out=tmp_path / "whole", **settings)
    first = small(name, case)
    crash_after(first, 3)  # in the middle of two logged steps
    with pytest.raises(Crash):
        il.fit(first, family(case), out=tmp_path / "parts", **settings)
    second = small(name, case, seed=77)  # other initial weights: all must come from the file
    result = il.fit(second, family(case), out=tmp_path / "parts", resume=True, **settings)
    assert (result.steps, result.best_step, result.best_value) == (6, whole_result.best_step, whole_result.best_value)
    assert_same(dict(whole.state_dict()), dict(second.state_dict()))
    files = [
        load_tensors(tmp_path / p / "checkpoint.safetensors", "innerloop-checkpoint", 1) for p in ("whole", "parts")
    ]
    assert_same(files[0][0], files[1][0])  # optimizer state, carry and random state too
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file.read_text().splitlines()]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl")
    ]
    assert logs[0] == logs[1] and [line["step"] for line in logs[0]] == [2, 2, 4, 4, 6, 6]
    assert any(key.startswith("optimizer/") for key in files[0][0]) or "sgd" in whole.outer.optimizer


@functools.cache
def trained(name: str, training: bool = True):
    """A learner for clusters with the method's recommended settings, meta-trained on a small budget."""
    tasks = clusters(shots=2, queries=4, nuisance=declared(name).nuisance)
    recommended = getattr(il, name).settings("classification")["algorithm"]
    options = with_known(name, {**recommended, **declared(name).options})
    torch.manual_seed(0)
    learner = getattr(il, name)(tasks.train.default_model(), **options)
    if training:
        il.fit(learner, tasks, num_tasks=8, validate_every=0, quiet=True, **declared(name).training)
    return learner


@pytest.mark.slow
def test_it_learns(name):
    tasks = clusters(shots=2, queries=4, nuisance=declared(name).nuisance)
    unadapted = il.evaluate(trained(name), tasks.test, num_tasks=60, steps=0)
    adapted = il.evaluate(trained(name), tasks.test, num_tasks=60)
    before = il.evaluate(trained(name, False), tasks.test, num_tasks=60)
    chance = [1 / 3] * 60  # of the three classes
    blind = chance if declared(name).starts_adapted else unadapted.per_task
    gain, width = mean_ci95([a - b for a, b in zip(adapted.per_task, blind, strict=True)])
    assert gain > 3 * width and gain > 0.1, "adapting must help"
    gain, width = mean_ci95([a - b for a, b in zip(adapted.per_task, before.per_task, strict=True)])
    if declared(name).learns:
        assert gain > 1.5 * width and gain > 0.02, "meta-training must help"
    elif not declared(name).meta_gradient:
        assert adapted.per_task == before.per_task


@pytest.mark.slow
def test_shuffled_query_labels_give_chance(name):
    report = il.evaluate(trained(name), ShuffledQueryLabels("test", 3, 2, 4, declared(name).nuisance), num_tasks=100)
    sd = (1 / 3 * 2 / 3 / (100 * 12)) ** 0.5
    assert abs(report.mean - 1 / 3) < 4 * sd


@pytest.mark.slow
def test_label_names_do_not_matter_on_average(name):
    plain = il.evaluate(trained(name), Clusters("test", 3, 2, 4, declared(name).nuisance), num_tasks=60)
    moved = il.evaluate(trained(name), RotatedNames("test", 3, 2, 4, declared(name).nuisance), num_tasks=60)
    _, width = mean_ci95([a - b for a, b in zip(plain.per_task, moved.per_task, strict=True)])
    assert abs(plain.mean - moved.mean) <= max(2 * width, 1e-12)
    if declared(name).equivariant:
        assert plain.per_task == moved.per_task


def test_names_come_back_as_they_went_in(name):
    learner, task = trained(name, False), Clusters("test", 3, 2, 4).at(0, 0, 1)
    x, y, query = task.support.x[0], task.support.y[0], task.query.x[0]
    plain = learner.adapt(x, y)
    for names in (["a", "b", "c"], [-5, 7, 900]):
        renamed = learner.adapt(x, [names[i] for i in y.tolist()])
        assert renamed.classes_ == names
        assert torch.equal(renamed.predict_proba(query), plain.predict_proba(query))
        assert list(renamed.predict(query)) == [names[i] for i in plain.predict(query).tolist()]


@pytest.mark.slow
def test_permuted_names_permute_predictions(name):
    if declared(name).short_of_names:
        pytest.xfail(declared(name).short_of_names)
    learner, task = trained(name), Clusters("test", 3, 2, 10, 0.2).at(0, 0, 1)
    x, y, query = task.support.x[0], task.support.y[0], task.query.x[0]
    plain = learner.adapt(x, y).predict(query)
    turned = learner.adapt(x, (y + 1) % 3).predict(query)
    same = (turned == (plain + 1) % 3).double().mean()
    assert same == 1 if declared(name).equivariant else same > 0.5


def test_support_order(name):
    learner, task = trained(name, False), Clusters("test", 3, 4, 4).at(0, 0, 1)
    x, y, query = task.support.x[0], task.support.y[0], task.query.x[0]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    first = learner.adapt(x, y).outputs(query)
    second = learner.adapt(x[order], y[order]).outputs(query)
    assert torch.allclose(first, second, rtol=1e-8, atol=1e-8) == declared(name).order_free


@pytest.mark.parametrize("case", CASES)
def test_a_saved_fitted_is_the_same_bit_for_bit(name, case, tmp_path):
    learner = small(name, case)
    il.fit(learner, family(case), steps=2, num_tasks=3, validate_every=0, quiet=True)
    task = batch(case, step=9)
    x, y, query = task.support.x[1], task.support.y[1], task.query.x[1]
    target = y if case == "regression" else [f"class {i}" for i in y.tolist()]
    fitted = learner.adapt(x, target)
    again = il.load(fitted.save(tmp_path / "task.safetensors"))
    assert isinstance(again, il.Fitted) and again.classes_ == fitted.classes_
    assert torch.equal(again.outputs(query), fitted.outputs(query))
    assert torch.equal(again.outputs(query, transductive=True), fitted.outputs(query, transductive=True))
    assert again.outputs(query).dtype == torch.float64
    assert list(again.predict(query)) == list(fitted.predict(query))


@pytest.mark.parametrize("case", CASES)
def test_a_run_directory_gives_the_learner_back(name, case, tmp_path):
    learner = small(name, case)
    il.fit(learner, family(case), out=tmp_path, steps=2, num_tasks=3, valid_tasks=3, quiet=True)
    again = il.load(tmp_path)
    assert isinstance(again, il.MetaLearner) and again.name == name and again.options == learner.options
    assert_same(dict(learner.state_dict()), dict(again.state_dict()))
    assert_same({"p": learner.predict_queries(batch(case))}, {"p": again.predict_queries(batch(case))})


def test_trained_weights_are_used(name):
    """Guards the tests above: what a file or a run gives back must depend on the weights."""
    first, second = small(name), small(name)
    with torch.no_grad():
        for p in second.parameters():
            p.mul_(1.5)
    a, b = (outcome(learner, "classification")["trajectory"] for learner in (first, second))
    assert not torch.allclose(a, b)
