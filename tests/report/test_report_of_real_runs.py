"""A report of runs that were really trained, evaluated and loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import innerloop as il
from innerloop.report.adaptation import measure
from innerloop.report.from_runs import build


@pytest.mark.slow
def test_two_trained_runs(tmp_path: Path) -> None:
    tasks = il.tasks.sinusoid(shots=5)
    for name, steps in (("maml", 1), ("reptile", 2)):
        learner = getattr(il, name)(il.models.mlp(1, 1), inner_lr=0.01, inner_steps=steps)
        il.fit(learner, tasks, out=tmp_path / name, steps=4, num_tasks=2, valid_tasks=4, validate_every=2, quiet=True)
        report = il.evaluate(learner, tasks.test, num_tasks=5)
        (tmp_path / name / "evaluation.json").write_text(json.dumps(dataclasses.asdict(report)))
    text = build([tmp_path / "maml", tmp_path / "reptile"], tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'class="note"' not in text
    assert "difference to maml, same tasks" in text and "100 validation tasks, seed 0" in text
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"training.png", "adaptation.png", "curves.png"}


def test_measured_curves_are_those_of_evaluate() -> None:
    tasks = il.tasks.sinusoid(shots=5)
    learner = il.maml(il.models.mlp(1, 1), inner_lr=0.01, inner_steps=2)
    found, metric = measure({"maml": learner}, tasks.valid, num_tasks=6, seed=3)
    report = il.evaluate(learner, tasks.valid, num_tasks=6, seed=3)
    assert metric == "mse" and len(found["maml"].mean) == 5 and found["maml"].trained_steps == 2
    assert abs(found["maml"].mean[learner.eval_steps] - report.mean) < 1e-6
