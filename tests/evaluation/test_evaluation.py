"""Evaluation: intervals by hand, tasks fixed by the seed, honest about transduction, paired comparison."""

from __future__ import annotations

import dataclasses
import importlib
import json

import pytest
import torch
from torch import Tensor, nn

import innerloop as il
from innerloop import keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.evaluation.compare import paired
from innerloop.evaluation.evaluate import mean_ci95

evaluation = importlib.import_module("innerloop.evaluation.evaluate")


class Points(TaskDistribution):
    """Two classes of points in three dimensions."""

    name, split, input_shape, output_size = "points", "test", (3,), 2

    def from_keys(self, keys_: Tensor) -> Task:
        def side(count: int, salt: int) -> Examples:
            y = (torch.arange(count) % 2).expand(len(keys_), -1).contiguous()
            return Examples(keys.normal(keys_, (count, 3), salt) + y[..., None], y)

        return Task(side(6, 1), side(8, 2), "cross_entropy", noise=keys_)

    def default_model(self) -> nn.Module:
        return il.models.mlp(3, 2)


def learner(normed: bool = True, **options) -> il.MetaLearner:
    torch.manual_seed(1)
    net = il.models.mlp(3, 2, hidden=(4,), activation="tanh", batch_norm=normed)
    return il.maml(net, inner_lr=0.3, inner_steps=2, **options).double()


def test_interval_by_hand():
    mean, width = mean_ci95([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0 and width == pytest.approx(1.96 * (14 / 3) ** 0.5 / 2, rel=1e-15)
    assert mean_ci95([0.5]) == (0.5, 0.0)


def test_a_report_is_the_mean_of_its_tasks():
    one = learner()
    report = il.evaluate(one, Points(), num_tasks=7, seed=4)
    batch = Points().at(4, 0, 7)
    right = (one.predict_queries(batch).argmax(-1) == batch.query.y).double().mean(-1).tolist()
    assert report.per_task == pytest.approx(right, abs=1e-12)
    assert (report.mean, report.ci95) == pytest.approx(mean_ci95(right), abs=1e-12)
    assert (report.metric, report.num_tasks, report.seed, report.split) == ("accuracy", 7, 4, "test")
    assert report.config["algorithm"]["name"] == "maml" and report.config["steps"] == 2
    assert json.loads(json.dumps(evaluation.as_dict(report)))["per_task"] == pytest.approx(right)


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_how_many_at_once_does_not_matter(at_once, monkeypatch):
    whole = il.evaluate(learner(), Points(), num_tasks=7, curve_steps=3)
    monkeypatch.setattr(Points, "at_once", at_once)
    parts = il.evaluate(learner(), Points(), num_tasks=7, curve_steps=3)
    assert parts.per_task == whole.per_task and parts.curve == pytest.approx(whole.curve, abs=1e-12)


def test_the_first_tasks_are_the_same_whatever_the_number():
    few, many = (il.evaluate(learner(), Points(), num_tasks=n).per_task for n in (3, 9))
    assert many[:3] == few
    assert il.evaluate(learner(), Points(), num_tasks=9, seed=1).per_task != many


def test_curves():
    report = il.evaluate(learner(), Points(), num_tasks=5, curve_steps=4)
    for steps in range(5):
        alone = il.evaluate(learner(), Points(), num_tasks=5, steps=steps)
        assert report.curve[steps] == pytest.approx(alone.mean, abs=1e-12)
        assert report.curve_ci95[steps] == pytest.approx(alone.ci95, abs=1e-12)
    assert len(report.curve) == 5 and report.per_task == il.evaluate(learner(), Points(), num_tasks=5).per_task
    short = il.evaluate(learner(), Points(), num_tasks=5, curve_steps=1)
    assert len(short.curve) == 2 and short.per_task == report.per_task


@pytest.mark.parametrize(
    ("options", "asked", "expected"),
    [
        ({}, None, True),
        ({"inductive": True}, None, False),
        ({}, False, False),
        ({"inductive": True}, True, True),
        ({"batch_norm": "running"}, None, False),
        ({"batch_norm": "running"}, True, False),
        ({"batch_norm": "none"}, None, False),
    ],
)
def test_transduction_is_said(options, asked, expected):
    """The flag, and what it says: whether a query's prediction changes when the other queries are left out."""
    one = learner(**options)
    assert il.evaluate(one, Points(), num_tasks=2, transductive=asked).transductive is expected
    assert asked is not None or one.transductive is expected
    batch = Points().at(0, 0, 2)
    some = dataclasses.replace(batch, query=Examples(batch.query.x[:, :3], batch.query.y[:, :3]))
    inductive = None if asked is None else not asked
    whole, part = one.predict_queries(batch, None, inductive)[:, :3], one.predict_queries(some, None, inductive)
    assert torch.allclose(whole, part, rtol=1e-10, atol=1e-12) == (not expected)


def test_without_batch_norm_nothing_is_transductive():
    assert not il.evaluate(learner(normed=False), Points(), num_tasks=2).transductive


def test_a_model_of_ones_own_that_mixes_examples_is_found_out():
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x - x.mean(0))

    torch.manual_seed(0)
    assert il.evaluate(il.maml(Centred()), Points(), num_tasks=2).transductive


def test_inductive_predictions_are_made_one_at_a_time():
    one, batch = learner(), Points().at(0, 0, 3)
    together = one.predict_queries(batch, inductive=True)
    for i in range(8):
        alone = dataclasses.replace(batch, query=Examples(batch.query.x[:, i : i + 1], batch.query.y[:, i : i + 1]))
        assert torch.allclose(one.predict_queries(alone, inductive=True)[:, 0], together[:, i], rtol=1e-10, atol=1e-12)
    # By hand: the query in one batch with the support set, last.
    fitted = one.adapt(batch.support.x[0], batch.support.y[0])
    assert torch.allclose(fitted.outputs(batch.query.x[0]), together[0], rtol=1e-10, atol=1e-12)
    both = torch.cat([batch.support.x[0], batch.query.x[0, :1]]).double()
    by_hand = fitted.learner.predict(fitted.meta, fitted.fast, both)[-1]
    assert torch.allclose(by_hand, together[0, 0], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(fitted.outputs(batch.query.x[0], transductive=True), together[0])


def test_paired_differences_by_hand():
    base = il.evaluate(learner(), Points(), num_tasks=4)
    values = {"a": (0.5, 0.6, 0.7, 0.8), "b": (0.4, 0.2, 0.45, 0.45), "c": (0.9, 0.2, 0.8, 0.6)}
    reports = {k: dataclasses.replace(base, per_task=v, mean=sum(v) / 4) for k, v in values.items()}
    found = paired(reports)
    assert list(found.reports) == ["a", "c", "b"] and found.best == "a"
    difference = next(d for d in found.differences if {d.first, d.second} == {"a", "b"})
    assert (difference.first, difference.mean) == ("a", pytest.approx(0.275))
    sd = ((0.175**2 + 0.125**2 + 0.025**2 + 0.075**2) / 3) ** 0.5  # differences 0.1, 0.4, 0.25, 0.35
    assert difference.ci95 == pytest.approx(1.96 * sd / 2) and difference.winner == "a"
    undecided = next(d for d in found.differences if {d.first, d.second} == {"a", "c"})
    assert undecided.winner is None
    errors = {k: dataclasses.replace(r, metric="mse", higher_is_better=False) for k, r in reports.items()}
    lower = paired(errors)
    assert lower.best == "b"
    assert next(d for d in lower.differences if {d.first, d.second} == {"a", "b"}).winner == "b"


def test_compare_uses_the_same_tasks():
    found = il.compare({"one": learner(), "same": learner()}, Points(), num_tasks=5, seed=3)
    only = found.differences[0]
    assert (only.mean, only.ci95, only.winner) == (0.0, 0.0, None)
    assert found.reports["one"].per_task == il.evaluate(learner(), Points(), num_tasks=5, seed=3).per_task


def test_what_cannot_be_evaluated():
    with pytest.raises(il.ConfigError, match="num_tasks expected at least 1, got 0"):
        il.evaluate(learner(), Points(), num_tasks=0)
    with pytest.raises(il.ConfigError, match="steps expected at least 0, got -1"):
        il.evaluate(learner(), Points(), num_tasks=1, steps=-1)
    with pytest.raises(il.ConfigError, match="at least one learner"):
        il.compare({}, Points())
    with pytest.raises(il.ShapeError, match="expected inputs of shape"):
        il.evaluate(learner(), il.tasks.sinusoid().test, num_tasks=2)


def test_padding_does_not_count():
    batch = Points().at(0, 0, 3)
    prediction = torch.nn.functional.one_hot(batch.query.y, 2).double()
    prediction[:, 4:] = 1 - prediction[:, 4:]  # half of the queries are wrong ...
    masked = Examples(batch.query.x, batch.query.y, (torch.arange(8) < 4).expand(3, -1))
    assert evaluation.task_metrics(["accuracy"], prediction, batch)["accuracy"].tolist() == [0.5] * 3
    masked_batch = dataclasses.replace(batch, query=masked)
    assert (
        evaluation.task_metrics(["accuracy"], prediction, masked_batch)["accuracy"].tolist() == [1.0] * 3
    )  # ... and masked
