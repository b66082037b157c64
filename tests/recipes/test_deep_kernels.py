"""What stands beside deep kernel transfer: the measures by hand, and rows that a short training leads to."""

from __future__ import annotations

import math

import pytest
import torch
from toy_tasks import clusters

import innerloop as il
from innerloop.recipes import beside_deep_kernels as beside


def test_measures_are_those_of_a_normal_distribution():
    nan = torch.nan
    y = torch.tensor([[0.0, 1.0, 4.0], [2.0, nan, nan]])
    found = beside._measured(
        beside.Answers(torch.tensor([[0.0, 0.0, 0.0], [1.0, nan, nan]]), torch.full((2, 3), 2.0), y)
    )
    assert found["mse"] == pytest.approx([17 / 3, 1.0])
    flat = math.log(2) + 0.5 * math.log(2 * math.pi)
    assert found["log_likelihood"] == pytest.approx([-(0 + 1 / 8 + 2) / 3 - flat, -1 / 8 - flat])
    assert found["coverage % of 90 % intervals"] == pytest.approx([200 / 3, 100.0])  # 4 is beyond 3.29


def test_rows_beside_curves_of_one_process(monkeypatch):
    monkeypatch.setattr(beside, "_CURVES", 12)
    tasks = il.tasks.gaussian_process(length=(0.6, 0.6), scale=(1.0, 1.0), noise=0.1, fewest=3)
    learner = il.dkt(il.models.mlp(1, None, hidden=()))
    with torch.no_grad():  # the truth
        for name, p in learner.named_parameters():
            value = {"log_rbf_length": math.log(0.6), "log_noise": math.log(0.01)}.get(name.rpartition(".")[2], 0.0)
            p.copy_(torch.tensor(value))
    rows = {row["metric"]: row for row in beside.beside_one_process(learner, tasks.test)}
    assert abs(rows["gap to the exact posterior, nats"]["value"]) < 2e-3
    alone = "a process fitted to each task alone"
    assert rows["log_likelihood: dkt"]["value"] > rows[f"log_likelihood: {alone}"]["value"]
    assert 80 < rows["coverage % of 90 % intervals: dkt"]["value"] <= 97
    assert rows["mse: dkt"]["num_tasks"] == 12


def test_calibration_of_what_is_said_of_pictures(monkeypatch):
    """Three readings of the same means, on tasks of points; R2-D2's recipe replaced by a learner that is there."""
    monkeypatch.setattr(beside, "_PICTURES", 30)
    tasks = clusters(shots=2, queries=4)
    torch.manual_seed(0)
    model = tasks.train.default_model()
    monkeypatch.setattr(beside, "_trained", lambda name: (il.r2d2(model), tasks))
    learner = il.dkt(model)
    il.fit(learner, tasks, steps=30, num_tasks=8, outer_lr=0.01, validate_every=0, quiet=True)
    rows = {row["metric"]: row["value"] for row in beside.beside_pictures(learner, tasks.test)}
    report = il.evaluate(learner, tasks.test, num_tasks=30)
    assert rows["calibration error (ECE), points, of 2 mean / variance"] == pytest.approx(100 * report.ece, abs=0.01)
    assert (
        rows["log_likelihood of 2 mean / variance"]
        > rows["log_likelihood of means as logits, the authors' without a temperature"]
    )
