"""The simplest predictors: equal to scikit-learn's, blind to padding, judged on the learner's own tasks."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.evaluation import baselines
from innerloop.report.runs import read_evaluation


@pytest.fixture
def classes():
    """Three tasks of four classes in five dimensions, 3 examples a class, classes in any order."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 4, 5, generator=generator)
    y = torch.stack([torch.randperm(12, generator=generator) % 4 for _ in range(3)])
    x = centres[torch.arange(3)[:, None], y] + 0.5 * torch.randn(3, 12, 5, generator=generator)
    z = torch.randn(3, 7, 5, generator=generator)
    return il.Task(support=il.Examples(x, y), query=il.Examples(z, torch.zeros(3, 7, dtype=torch.long)))


def test_classifiers_are_those_of_scikit_learn(classes):
    neighbors = pytest.importorskip("sklearn.neighbors")
    known = {"class_mean": neighbors.NearestCentroid(), "nearest": neighbors.KNeighborsClassifier(1)}
    for name, model in known.items():
        found = baselines.predictions(name, classes, 4).argmax(-1)
        for i in range(3):
            expected = model.fit(classes.support.x[i].numpy(), classes.support.y[i].numpy()).predict(
                classes.query.x[i].numpy()
            )
            assert found[i].tolist() == expected.tolist(), name


def test_ridge_is_scikit_learns_with_the_strength_of_least_leave_one_out_error():
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(1)
    x, z = torch.randn(1, 20, 4, generator=generator).double(), torch.randn(1, 6, 4, generator=generator).double()
    y = x @ torch.randn(4, 2, generator=generator).double() + 0.5 * torch.randn(1, 20, 2, generator=generator) + 3.0
    task = il.Task(support=il.Examples(x, y), query=il.Examples(z, torch.zeros(1, 6, 2).double()))
    scale = float((x[0] - x[0].mean(0)).square().sum() / 20)
    model = linear.RidgeCV(alphas=[scale * s for s in baselines.STRENGTHS]).fit(x[0].numpy(), y[0].numpy())
    found = baselines.predictions("ridge", task, 0)[0].numpy()
    np.testing.assert_allclose(found, model.predict(z[0].numpy()), rtol=1e-9)


@pytest.mark.parametrize("name", ["class_mean", "nearest", "ridge"])
def test_padding_changes_nothing(classes, name):
    support = classes.support
    mask = torch.ones(3, 14, dtype=torch.bool)
    mask[:, 12:] = False
    padded = il.Examples(
        torch.cat([support.x, torch.full((3, 2, 5), 9.0)], 1),
        torch.cat([support.y, torch.zeros(3, 2, dtype=torch.long)], 1),
        mask,
    )
    found = baselines.predictions(name, dataclasses.replace(classes, support=padded), 4)
    torch.testing.assert_close(found, baselines.predictions(name, classes, 4))


def test_a_report_says_who_wins_on_the_same_tasks(tmp_path):
    tasks = il.tasks.sinusoid()
    learner = il.maml(il.models.mlp(1, 1), inner_steps=1)  # untrained: no better than the mean
    report = il.evaluate(learner, tasks.test, num_tasks=30)
    assert set(report.baselines) == {"mean", "nearest", "ridge"}
    nearest = report.baselines["nearest"]
    assert nearest.lead == pytest.approx(nearest.mean - report.mean)  # of errors: above 0 is better
    assert nearest.lead < -nearest.lead_ci95 and report.beside.startswith("LOSES to nearest")
    assert report.beside in repr(report)
    alone = dataclasses.replace(nearest, lead_ci95=float("nan"))  # one distinct task has no interval
    unsure = dataclasses.replace(report, baselines={"nearest": alone}).beside
    assert unsure.startswith("not clearly better than nearest")
    from innerloop.evaluation.evaluate import card

    card(report, tmp_path)
    assert read_evaluation(tmp_path) == dataclasses.replace(
        report, **{k: getattr(read_evaluation(tmp_path), k) for k in ("config", "environment")}
    )
    assert json.loads((tmp_path / "evaluation.json").read_text())["baselines"]["ridge"]["num_tasks"] == 30


def test_they_can_be_left_out():
    learner = il.maml(il.models.mlp(1, 1))
    assert not il.evaluate(learner, il.tasks.sinusoid().test, num_tasks=3, baselines=False).baselines


def test_fit_tells_them_once(capsys):
    learner = il.maml(il.models.mlp(1, 1))
    result = il.fit(learner, il.tasks.sinusoid(), steps=2, validate_every=1, valid_tasks=5, strategy="vmapped")
    assert capsys.readouterr().err.count("baselines on the validation tasks") == 1
    assert set(result.baselines) == {"mean", "nearest", "ridge"}
