"""Where tasks are a finite number: each judged once, and intervals over them, not over draws of them."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twelve patients of thirty rows; two of them are test tasks."""
    path = tmp_path_factory.mktemp("table") / "doses.csv"
    draw = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient", "a", "b", "dose"])
        for patient in range(12):
            slope = draw.normal()
            for a, b in draw.normal(size=(30, 2)):
                rows.writerow([patient, a, b, 100 + 10 * slope * a + 5 * b])
    return path


@pytest.fixture(scope="module")
def problem(table):
    return il.tasks.from_path(table, target="dose", task_column="patient")


def learner_for(problem) -> il.MetaLearner:
    torch.manual_seed(0)
    return il.maml(problem.train.default_model(), inner_lr=0.1, inner_steps=2)


def test_each_task_is_judged_once(problem):
    learner, tasks = learner_for(problem), problem.test
    report = il.evaluate(learner, tasks, every_task=True, seed=3)
    assert report.num_tasks == len(report.per_task) == tasks.size == len(tasks.task_names)
    more = il.evaluate(learner, tasks, every_task=True, draws=4, seed=3)
    assert len(more.per_task) == tasks.size
    mean, sd = np.mean(more.per_task), np.std(more.per_task, ddof=1)
    assert more.mean == pytest.approx(mean) and more.ci95 == pytest.approx(1.96 * sd / math.sqrt(tasks.size))


def test_many_draws_of_few_tasks_are_few_tasks(problem):
    learner, tasks = learner_for(problem), problem.test
    report = il.evaluate(learner, tasks, num_tasks=60)
    assert report.distinct == tasks.size == 2 and len(report.per_task) == 60
    from innerloop import keys

    of = tasks.which(keys.task_keys(0, "test", 0, 0, 60)).numpy()
    means = [np.mean(np.array(report.per_task)[of == number]) for number in (0, 1)]
    assert report.mean == pytest.approx(np.mean(report.per_task))
    assert report.ci95 == pytest.approx(1.96 * np.std(means, ddof=1) / math.sqrt(2))


def test_errors_are_in_the_targets_own_unit(problem):
    learner, tasks = learner_for(problem), problem.test
    report = il.evaluate(learner, tasks, num_tasks=20)
    batch = tasks.at(0, 0, 20)
    wrong = (learner.predict_queries(batch) - batch.query.y).double() * tasks.record.target_std[0]
    assert tasks.record.target_std[0] > 5
    assert report.metric == "mse" and report.mean == pytest.approx(float(wrong.square().mean()), rel=1e-6)
    assert report.metrics["rmse"].mean == pytest.approx(float(wrong.square().mean((1, 2)).sqrt().mean()), rel=1e-6)
    assert set(report.metrics) == {"mse", "mae", "rmse", "r2"}


def test_problems_without_end_say_so():
    tasks = il.tasks.sinusoid().test
    learner = il.maml(il.models.mlp(1, 1))
    with pytest.raises(il.ConfigError, match="every_task expected a problem with a finite number of distinct tasks"):
        il.evaluate(learner, tasks, every_task=True)
    with pytest.raises(il.ConfigError, match="draws expected every_task=True"):
        il.evaluate(learner, tasks, draws=3)
    assert il.evaluate(learner, tasks, num_tasks=3).distinct is None


def test_the_command_carries_them_all(table, tmp_path, capsys):
    run = tmp_path / "run"
    words = f"train maml {table} --target dose --task-column patient --steps 2 --out {run} --quiet --validate-every 0"
    assert main(words.split()) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--every-task", "--draws", "2", "--metric", "rmse,r2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "rmse" and found["num_tasks"] == 2 and list(found["metrics"]) == ["rmse", "r2"]
    assert found["metrics"]["rmse"]["mean"] == found["mean"]
    assert main(["evaluate", str(run), "--num-tasks", "20"]) == 0
    assert "they are draws of 2 distinct tasks" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--draws", "2"]) == 2
    assert main(["evaluate", str(run), "--metric", "accuracy"]) == 2
    assert "accuracy expected targets that are labels" in capsys.readouterr().err


def test_a_curve_has_the_intervals_of_its_report(problem):
    report = il.evaluate(learner_for(problem), problem.test, num_tasks=40, curve_steps=2)
    assert (report.curve[2], report.curve_ci95[2]) == (report.mean, report.ci95)


def test_many_draws_of_one_task_have_no_interval(problem, monkeypatch):
    monkeypatch.setattr(type(problem.test), "which", lambda self, keys: torch.zeros_like(keys))
    report = il.evaluate(learner_for(problem), problem.test, num_tasks=20)
    assert report.distinct == 1 and math.isfinite(report.mean) and math.isnan(report.ci95)


@pytest.mark.parametrize("metric", ["mse", "r2"])
def test_a_task_that_diverged_is_not_one_that_cannot_be_judged(problem, metric):
    wild = il.maml(problem.train.default_model(), inner_lr=1e20, inner_steps=3)
    with pytest.raises(il.DivergedError, match=f"tasks gave a {metric} that is not finite"):
        il.evaluate(wild, problem.test, num_tasks=5, metric=metric)
