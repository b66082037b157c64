"""Tasks that change: the worlds do what their physics says, and change when they say so."""

from __future__ import annotations

import math

import pytest
import torch

import innerloop as il
from innerloop import keys
from innerloop.evaluation.online import sequences

PROBLEMS = ("road", "pendulum", "drifting_sines")


def of_split(tasks, number=6):
    return keys.task_keys(0, tasks.split, 0, 0, number)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_stream_is_one_sequence_however_it_is_cut(name):
    """Support and query side are the beginning and the end of the same steps."""
    first, second = (getattr(il.tasks, name)(shots=s, queries=30 - s).train.at(0, 0, 3) for s in (10, 22))
    for a, b in zip(sequences(first), sequences(second), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ("road", "pendulum"))
def test_the_law_changes_once_and_in_the_middle(name):
    tasks = getattr(il.tasks, name)(shots=80, queries=20).valid
    changes, parameters = tasks.changes(of_split(tasks, 40)), tasks.parameters(of_split(tasks, 40))
    assert changes.min() >= 40 and changes.max() < 60 and len(changes.unique()) > 5
    for values in parameters:
        for row, change in zip(values, changes.tolist(), strict=True):
            assert len(row[:change].unique()) == 1 and len(row[change:].unique()) == 1 and row[0] != row[-1]
    same = getattr(il.tasks, name)(shots=80, queries=20, change=False).valid
    assert all(bool((values == values[:, :1]).all()) for values in same.parameters(of_split(same)))
    assert (same.changes(of_split(same)) == 100).all()


def test_before_the_change_it_is_the_drive_without_one():
    first, second = (il.tasks.road(shots=80, queries=20, change=change).valid for change in (True, False))
    x, y = (sequences(tasks.at(0, 0, 6)) for tasks in (first, second))
    for row, change in enumerate(first.changes(of_split(first)).tolist()):
        assert torch.equal(x[0][row, : change + 1], y[0][row, : change + 1])
        assert torch.equal(x[1][row, :change], y[1][row, :change]) and not torch.equal(x[1][row], y[1][row])


def road(**ranges):
    """Drives in which all is known, without noise, in metres, seconds and radians."""
    known = {"grip": (1.0, 1.0), "mass": (1_200.0, 1_200.0), "latency": (0.0, 0.0), "slope": (0.0, 0.0), **ranges}
    tasks = il.tasks.road(shots=60, queries=20, change=False, noise=0.0, dtype="float64", **known).train
    x, y = sequences(tasks.at(0, 0, 40))
    from innerloop.tasks.changing import road as module

    centre, scale = torch.tensor(module._INPUTS, dtype=torch.float64).T
    return x * scale + centre, y * torch.tensor(module._TARGETS, dtype=torch.float64)


def test_a_heavy_car_gains_less_speed_and_a_slope_takes_some():
    light, heavy, uphill = (road(**{what: (v, v)}) for what, v in (("mass", 900.0), ("mass", 1_800.0), ("slope", 0.1)))
    first = [value[:, 0] for value in light]
    pedal = first[0][:, 5]
    gained = {name: value[1][:, 0, 0] for name, value in (("light", light), ("heavy", heavy), ("uphill", uphill))}
    hard = pedal.abs() > 0.3
    ratio = (gained["light"] / gained["heavy"])[hard]  # the air's drag is small beside it
    assert 1.7 < ratio.median() < 2.2
    off = gained["uphill"] - road()[1][:, 0, 0]
    assert off.mean() == pytest.approx(-0.1 * 9.81 * 0.1, rel=0.01), "metres a second in a tenth of a second"


def test_ice_lets_go():
    """No more sideways force than the grip holds; and less of the motor's on ice."""
    for grip in (1.0, 0.2):
        x, y = road(grip=(grip, grip))
        sideways = (y[..., 1] / 0.1 + x[..., 0] * x[..., 2]).abs()  # the tyres' acceleration, metres a second squared
        assert sideways.max() < 1.15 * grip * 9.81
        assert (y[..., 0] / 0.1).abs().quantile(0.95) < 1.3 * grip * 9.81
    assert sideways.quantile(0.9) < 2.0


def test_latency_is_the_share_of_the_steering_before():
    quick, slow = (road(latency=(v, v)) for v in (0.0, 1.0))
    yaw = slow[1][:, 0, 2]
    assert torch.allclose(quick[0][:, 0], slow[0][:, 0]) and torch.allclose(quick[1][:, 0], slow[1][:, 0], atol=1e-9), (
        "at first both are the same steering"
    )
    assert (yaw.abs() > 1e-4).any()
    assert not torch.allclose(quick[1][:, 3, 2], slow[1][:, 3, 2], atol=1e-3)


def test_a_pendulum_without_torque_or_friction_keeps_its_energy(monkeypatch):
    from innerloop.tasks.changing import pendulum as module

    monkeypatch.setattr(module, "_TURNS", 1e-9)
    known = {"length": (1.0, 1.0), "mass": (1.0, 1.0), "friction": (0.0, 0.0)}
    tasks = il.tasks.pendulum(shots=30, queries=10, change=False, noise=0.0, dtype="float64", **known).train
    x, y = sequences(tasks.at(0, 0, 20))
    energy = 0.5 * (3.0 * x[..., 2]) ** 2 - 9.81 * x[..., 1]
    assert (energy - energy[:, :1]).abs().max() < 0.08 * 2 * 9.81, "of the height of the circle"
    assert torch.allclose(3.0 * x[:, 1:, 2], 3.0 * x[:, :-1, 2] + 0.8 * y[:, :-1, 0], atol=1e-12)


def test_sines_drift_and_stay_uniform():
    tasks = il.tasks.drifting_sines(shots=180, queries=20, drift=0.05).train
    of = tasks.parameters(keys.task_keys(0, "train", 0, 0, 2_000))
    for values, high in ((of.amplitude, 5.0), (of.phase, math.pi)):
        for step in (0, 199):
            share = values[:, step] / high
            assert share.mean() == pytest.approx(0.5, abs=0.03) and share.std() == pytest.approx(12**-0.5, abs=0.02)
    near, far = ((of.amplitude[:, 50] - of.amplitude[:, 50 + d]).abs().mean() for d in (1, 100))
    assert near < 0.3 * far
    still = il.tasks.drifting_sines(shots=20, queries=5, drift=0.0, noise=0.0, dtype="float64").train
    x, y = sequences(still.at(0, 0, 4))
    of = still.parameters(of_split(still, 4))
    assert torch.allclose(y[..., 0], of.amplitude[:, :1] * torch.sin(x[..., 0] - of.phase[:, :1]), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("road", {"grip": (0.0, 1.0)}, "road: grip expected numbers of at least 0.05, got 0; raise it"),
        ("road", {"latency": (0.0, 2.0)}, "road: latency expected numbers of at most 1, got 2; lower it"),
        ("road", {"mass": 900.0}, "road: mass expected two numbers, low and high, got 900.0"),
        ("road", {"slope": (0.1, -0.1)}, "road: slope expected two finite numbers, low then high, got 0.1, -0.1"),
        ("road", {"noise": -1.0}, "road: noise expected a finite standard deviation of at least 0, got -1.0"),
        ("road", {"shots": 0}, r"road \(train\): shots expected at least 1, got 0; raise shots"),
        ("pendulum", {"length": (0.0, 1.0)}, "pendulum: length expected numbers of at least 0.2, got 0"),
        ("drifting_sines", {"drift": 2.0}, "drifting_sines: drift expected a share from 0 to 1, got 2.0"),
    ],
)
def test_what_cannot_be_a_world(name, options, message):
    with pytest.raises(il.InputError, match=message):
        getattr(il.tasks, name)(**options)


def test_resized_keeps_the_world():
    tasks = il.tasks.road(shots=10, queries=5).valid
    assert tasks.resized(1, 12, 3).shots == 12 and torch.equal(
        sequences(tasks.resized(1, 12, 3).at(0, 0, 2))[1], sequences(tasks.at(0, 0, 2))[1]
    )
