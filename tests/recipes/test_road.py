"""Who keeps up with a changing road: the baselines are what they are called, and every method has its rows."""

from __future__ import annotations

import pytest
import torch

from innerloop.evaluation.online import PHASES
from innerloop.recipes import beside_road as race


def test_recursive_least_squares_is_ridge_regression_of_all_examples_so_far():
    generator = torch.Generator().manual_seed(0)
    z, y = (torch.randn(2, 9, k, generator=generator, dtype=torch.float64) for k in (4, 3))
    weights = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    for keep in (1.0, 0.9):
        errors = race.recursive(z, y, weights, keep, 0.3)
        for step in (0, 1, 8):
            age = keep ** torch.arange(step - 1, -1, -1.0, dtype=torch.float64)
            seen, off = z[1, :step], y[1, :step] - z[1, :step] @ weights
            system = (seen.T * age) @ seen + keep**step * torch.eye(4, dtype=torch.float64) / 0.3
            found = weights + torch.linalg.solve(system, (seen.T * age) @ off)
            expected = (y[1, step] - z[1, step] @ found).square().mean()
            assert float(errors[1, step]) == pytest.approx(float(expected), rel=1e-9)


def test_the_recurrent_network_sees_targets_one_step_late():
    torch.manual_seed(0)
    net = race.Recurrent(8)
    x, y = torch.randn(2, 7, 6), torch.randn(2, 7, 3)
    before, later = y.clone(), y.clone()
    before[:, 3] += 1
    assert torch.equal(net(x, before)[:, :4], net(x, later)[:, :4])
    assert not torch.allclose(net(x, before)[:, 4], net(x, later)[:, 4])


@pytest.mark.slow
def test_every_method_has_its_rows(monkeypatch):
    pytest.importorskip("onnxruntime")
    small = {"VALID": 8, "TEST": 8, "_TRAIN": 10, "_TIMED": 3, "_STEPS": dict.fromkeys(race._STEPS, 1)}
    knobs = {"_HAZARDS": (0.01,), "_KEEPS": (0.9,), "_FORGETTING": (0.97,), "_CONFIDENCE": (0.1,)}
    for name, value in {**small, **knobs, "_INNER_RATES": (0.03,), "_WINDOWS": (4,), "_GRU_RATES": (0.01,)}.items():
        monkeypatch.setattr(race, name, value)
    monkeypatch.setattr(race, "_LAST", {})
    rows = {row["metric"]: row for row in race.rows()}
    first = "alpaca, changepoints"
    own = {m: row["value"] for m, row in rows.items() if m.startswith("squared error, 1-5 steps")}
    assert len(own) == 9 and len([m for m in rows if m.startswith("squared error")]) == 9 * len(PHASES)
    lead = rows[f"1-5 steps after the change: {first} less no adaptation, drive by drive"]
    means = {name: next(v for m, v in own.items() if f": {name}" in m) for name in (f"{first} (", "no adaptation")}
    assert lead["value"] == pytest.approx(means[f"{first} ("] - means["no adaptation"], rel=1e-2)
    assert rows["state on a device, kB"]["value"] <= 100 and rows["state on a device, kB"]["num_tasks"] == 1
