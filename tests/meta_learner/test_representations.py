"""What a console shows of a learner, an adapted task and a report: a line or two, never tensors."""

from __future__ import annotations

import dataclasses
import math

import torch

import innerloop as il
from innerloop.core import Measured


def test_a_learner_is_one_line_and_its_model_can_be_printed():
    learner = il.maml(il.models.mlp(1, 1, hidden=(40, 40)), inner_steps=2, eval_steps=10)
    assert repr(learner) == (
        "MetaLearner(maml, Perceptron with 1,761 parameters, inner steps 2, 10 on new tasks, strategy auto)"
    )
    assert "Linear" in str(learner.model)
    rated = il.meta_sgd(torch.nn.Sequential(torch.nn.Linear(2, 3)), inner_steps=1)
    assert repr(rated) == "MetaLearner(meta_sgd, Sequential with 9 + 9 parameters, inner steps 1, strategy auto)"
    own = il.MetaLearner.of(
        il.models.mlp(1, 1),
        rule=il.rules.SGD(0.01),
        learner=lambda pure, rule: il.learners.GradientLearner(pure, rule, inner_steps=5),
        meta_gradient=il.meta_gradients.Backprop,
    )
    assert repr(own).startswith("MetaLearner(own (GradientLearner x SGD x Backprop), Perceptron with ")


def test_an_adapted_task_is_one_line(tmp_path):
    learner = il.maml(il.models.mlp(3, 2), inner_steps=1)
    fitted = learner.adapt(torch.rand(4, 3), ["no", "yes", "no", "yes"])
    assert repr(fitted) == "Fitted(maml, 2 classes: 'no', 'yes'; 4 support examples)"
    assert repr(il.load(fitted.save(tmp_path / "task.il"))) == repr(fitted)
    values = il.maml(il.models.mlp(1, 2), inner_steps=1).adapt(torch.rand(5, 1), torch.rand(5, 2))
    assert repr(values) == "Fitted(maml, regression, 2 outputs; 5 support examples)"
    many = il.protonet(il.models.mlp(1, None)).adapt(torch.rand(7, 1), list(range(7)))
    assert repr(many) == "Fitted(protonet, 7 classes: 0, 1, 2, 3, 4, ...; 7 support examples)"


def report(**given):
    fields = {"metric": "accuracy", "mean": 0.98349, "ci95": 0.0041, "per_task": (0.9,) * 600, "num_tasks": 600}
    return il.Report(**{**fields, "seed": 0, "split": "test", "transductive": False, **given})


def test_a_report_is_a_line_and_one_more_for_other_metrics():
    assert repr(report()) == "accuracy 0.983 ± 0.004 (600 test tasks, seed 0, inductive)"
    measured = {
        "accuracy": Measured(0.98349, 0.0041, 600, True),
        "f1": Measured(0.5, 0.00002, 600, True),
        "roc_auc": Measured(math.nan, math.nan, 0, True),
        "mse": Measured(12345.678, 50.0, 600, False),
    }
    assert repr(report(metrics=measured, transductive=True)) == (
        "accuracy 0.983 ± 0.004 (600 test tasks, seed 0, transductive)\nf1 0.50000 ± 0.00002, mse 12345.7 ± 50.0"
    )
    assert repr(dataclasses.replace(report(), ci95=0.0)).startswith("accuracy 0.983 ± 0.000 (")
