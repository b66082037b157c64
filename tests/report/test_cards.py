"""Evaluation card, comparison and settings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from innerloop.core import Report
from innerloop.errors import InputError
from innerloop.report.cards import comparison_table, evaluation_card, flat, paired_difference, settings_table

REPORT = Report(
    metric="mse",
    mean=0.5,
    ci95=0.12,
    per_task=(0.1, 0.4, 1.0),
    num_tasks=3,
    seed=7,
    split="test",
    transductive=True,
    commit="abc123",
    environment={"torch": "2.13", "threads": 1},
    wall_seconds=63.0,
)


def test_card_says_all_that_is_needed_to_repeat_it() -> None:
    rows = {row[0]: row[1] for row in evaluation_card(REPORT, {"run": "runs/a"}).rows}
    assert rows["mean squared error"].startswith("0.50 ± 0.12")
    assert (rows["tasks"], rows["seed"], rows["split"], rows["commit"]) == ("3", "7", "test", "abc123")
    assert rows["transductive"].startswith("yes") and rows["wall time"] == "63 s"
    assert rows["environment"] == "torch = 2.13, threads = 1" and rows["run"] == "runs/a"
    assert rows["median over tasks"] == "0.4"
    assert "tasks that are not finite" not in rows


def test_card_counts_what_diverged_and_says_what_was_not_recorded() -> None:
    report = dataclasses.replace(REPORT, per_task=(0.1, math.nan), commit="", environment={}, transductive=False)
    rows = {row[0]: row[1] for row in evaluation_card(report).rows}
    assert rows["tasks that are not finite"] == "1 of 2"
    assert rows["commit"] == rows["environment"] == "not recorded" and rows["transductive"] == "no"


def test_paired_difference_is_over_the_same_tasks() -> None:
    second = dataclasses.replace(REPORT, per_task=(0.2, 0.6, 1.3))
    mean, half = paired_difference(REPORT, second) or (0.0, 0.0)
    apart = np.asarray([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2) and half == pytest.approx(1.96 * apart.std(ddof=1) / math.sqrt(3))
    assert paired_difference(REPORT, dataclasses.replace(REPORT, seed=8)) is None
    assert paired_difference(REPORT, dataclasses.replace(REPORT, per_task=(0.1, 0.2))) is None


def test_comparison_has_a_row_for_everyone() -> None:
    second = dataclasses.replace(REPORT, mean=0.7, per_task=(0.2, 0.6, 1.3), transductive=False)
    other = dataclasses.replace(REPORT, seed=8)
    table = comparison_table({"a": REPORT, "b": second, "c": other, "d": None}, {"time": {"a": "3 s"}})
    assert table.header is not None and list(table.header)[1:3] == [
        "mean squared error",
        "difference to a, same tasks",
    ]
    assert list(table.rows[0]) == ["a", "0.50 ± 0.12", "–", "3", "yes", "3 s"]
    assert table.rows[1][2] == "+0.20 ± 0.11" and table.rows[1][4] == "no"
    assert table.rows[2][2] == "–"
    assert list(table.rows[3]) == ["d", "–", "–", "–", "–", "–"]
    with pytest.raises(InputError, match="at least one learner"):
        comparison_table({})


def test_settings_side_by_side() -> None:
    config = {
        "algorithm": {"name": "maml", "options": {"inner_lr": 0.01, "loss": None}},
        "model": {"name": "mlp", "arguments": {"hidden": [40, 40]}},
        "tasks": {"name": "sinusoid", "options": {"shots": 5}},
        "training": {"steps": 100},
        "command": "innerloop train maml sinusoid",
    }
    settings = flat(config)
    assert settings["method: inner_lr"] == "0.01" and settings["model: hidden"] == "(40, 40)"
    assert "method: loss" not in settings
    assert settings["run: command"] == "innerloop train maml sinusoid"
    single = settings_table({"a": settings})
    assert single.header is None
    both = settings_table({"a": settings, "b": {"method: inner_lr": "0.1", "method: momentum": "0.9"}})
    rows = {row[0]: list(row[1:]) for row in both.rows}
    assert rows["method: inner_lr"] == ["0.01", "0.1"] and rows["method: momentum"] == ["–", "0.9"]
    groups = [row[0].split(":")[0] for row in both.rows]
    assert groups == sorted(groups, key=["method", "model", "tasks", "training", "run"].index)
    assert flat({"model": {"custom": "pkg.Net"}})["model: name"] == "pkg.Net"
