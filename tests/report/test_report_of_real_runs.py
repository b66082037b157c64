"""A report of runs that were really trained, evaluated and loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop.report.adaptation import measure
from innerloop.report.from_runs import build, unknown_section


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


def test_whether_unknown_inputs_can_be_told_is_said(tmp_path: Path) -> None:
    """One learner sees the inputs, whose classes lie far apart; the other sees nothing of them."""
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(40, 1, 6, generator=generator) + torch.randn(40, 10, 6, generator=generator)
    y = torch.arange(40).repeat_interleave(10)
    family = il.tasks.from_arrays(x.reshape(-1, 6), y, ways=3, shots=2, valid_classes=12, test_classes=12)
    said = {}
    for name, scale in (("sees", 1.0), ("blind", 0.0)):
        net = il.models.mlp(6, 6, hidden=())
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(scale * torch.eye(6) if p.ndim == 2 else torch.zeros(6))
        (section,) = unknown_section({name: il.protonet(net)}, family.valid)
        said[name] = section.parts[0]
    assert "AUROC 0.9" in said["sees"] and "% of other classes for one of them" in said["sees"]
    assert said["blind"].startswith("blind: it cannot tell unknown inputs from known ones (AUROC 0.50 on 20 validation")
    assert unknown_section({"sine": il.maml(il.models.mlp(1, 1))}, il.tasks.sinusoid().valid) == []
