"""The expected calibration error is that of its definition, pooled over tasks, and is said wherever probabilities are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.evaluation.confidence import counted, expected_calibration_error
from innerloop.report.runs import read_evaluation


def by_definition(sure: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, bin by bin: the sum of |B| / n times |share right in B - mean probability in B|."""
    total = 0.0
    for m in range(1, bins + 1):
        own = (sure > (m - 1) / bins) & (sure <= m / bins)
        if own.any():
            total += own.sum() / len(sure) * abs(right[own].mean() - sure[own].mean())
    return total


@pytest.mark.parametrize("scale", [0.5, 3.0, 40.0])
def test_it_is_the_definitions(scale):
    generator = torch.Generator().manual_seed(0)
    out = scale * torch.randn(7, 30, 4, generator=generator, dtype=torch.double)
    y = torch.randint(4, (7, 30), generator=generator)
    mask = torch.rand(7, 30, generator=generator) < 0.8
    chances = torch.softmax(out, -1)[mask].numpy()
    expected = by_definition(chances.max(1), chances.argmax(1) == y[mask].numpy())
    assert expected_calibration_error(counted(out, y, mask)) == pytest.approx(expected, abs=1e-12)
    other = torch.where(mask[..., None], out, 99.0)  # what does not count may be anything
    assert expected_calibration_error(counted(other, y, mask)) == pytest.approx(expected, abs=1e-12)


def test_the_sure_and_right_are_calibrated_and_the_sure_and_wrong_are_not():
    out = torch.tensor([[[50.0, 0.0], [0.0, 50.0]]])
    assert expected_calibration_error(counted(out, torch.tensor([[0, 1]]))) == pytest.approx(0)
    assert expected_calibration_error(counted(out, torch.tensor([[1, 0]]))) == pytest.approx(1)


@pytest.fixture(scope="module")
def family() -> il.TaskFamily:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 1, 4, generator=generator) + torch.randn(30, 20, 4, generator=generator)
    y = torch.arange(30).repeat_interleave(20)
    return il.tasks.from_arrays(x.reshape(-1, 4), y, ways=3, shots=2, valid_classes=8, test_classes=8)


def test_a_report_has_it_over_all_queries(family):
    torch.manual_seed(0)
    learner = il.protonet(il.models.mlp(4, 8))
    report = il.evaluate(learner, family.test, num_tasks=130)  # more than one batch
    tasks = family.test.at(0, 0, 130)
    chances = torch.softmax(learner.predict_queries(tasks).double(), -1).flatten(0, 1).numpy()
    expected = by_definition(chances.max(1), chances.argmax(1) == tasks.query.y.flatten().numpy())
    assert report.ece == pytest.approx(expected, abs=1e-6) and f"calibration error {report.ece:.3f}" in repr(report)
    later = il.maml(il.models.mlp(4, 3), inner_steps=2)
    plain = il.evaluate(later, family.test, num_tasks=20)
    assert il.evaluate(later, family.test, num_tasks=20, curve_steps=4).ece == pytest.approx(plain.ece)
    assert il.evaluate(later, family.test, num_tasks=20, steps=0).ece != pytest.approx(plain.ece)


def test_values_have_none():
    assert il.evaluate(il.maml(il.models.mlp(1, 1)), il.tasks.sinusoid().test, num_tasks=3).ece is None


def test_the_command_and_the_report_say_it(family, tmp_path, capsys):
    from innerloop.report import cards

    x = np.random.default_rng(0).normal(size=(90, 2)) + np.repeat(np.arange(9), 10)[:, None]
    table = tmp_path / "rows.csv"
    lines = [f"{a},{b},{name}" for (a, b), name in zip(x, np.repeat([*"abcdefghi"], 10), strict=True)]
    table.write_text("\n".join(["one,two,kind", *lines]))
    run = str(tmp_path / "run")
    line = ["train", "protonet", str(table), "--target", "kind", "--tasks-by", "class_pairs", "--steps", "2", "--quiet"]
    assert main([*line, "--out", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--num-tasks", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["ece"]
    assert 0 <= found <= 1
    assert main(["evaluate", run, "--num-tasks", "5"]) == 0
    assert f"off by {100 * found:.1f} points on average (ECE, 15 bins)" in capsys.readouterr().out
    kept = read_evaluation(tmp_path / "run")
    assert kept is not None and kept.ece == pytest.approx(found)
    assert any(f"off by {100 * found:.1f} points" in row[1] for row in cards.evaluation_card(kept).rows)
