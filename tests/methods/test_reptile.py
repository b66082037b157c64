"""Second moments of the inner Adam that go on from task to task, against one torch.optim.Adam and by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = pytest.mark.usefixtures("double")

LR, STEPS, BATCHES = 0.02, 3, 4
SWITCHES = ("kept", "serial", "fresh")


def reptile(second_moments: str, **options: object) -> il.MetaLearner:
    torch.manual_seed(0)
    settings = {"inner_lr": LR, "inner_steps": STEPS, "inner_batch": None, "second_moments": second_moments, **options}
    return il.reptile(il.models.mlp(2, 1, hidden=(4,)), **settings)  # type: ignore[arg-type]


def tasks(batch: int, number: int = 3) -> Task:
    drawn = torch.Generator().manual_seed(batch)
    x, y = (torch.randn(number, 6, size, generator=drawn, dtype=torch.float64) for size in (2, 1))
    side = Examples(x, y)
    return Task(side, side)


def take(tasks: Task, i: int) -> tuple[Tensor, Tensor]:
    return tasks.support.x[i], tasks.support.y[i]


def trained(second_moments: str, strategy: str = "auto", batches: int = BATCHES, **options: object) -> il.MetaLearner:
    learner = reptile(second_moments, **options)
    learner.engine.strategy = strategy
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.5)
    for b in range(batches):
        learner.backward(tasks(b))
        optimizer.step()
        optimizer.zero_grad()
    return learner


def by_torch(model: nn.Module, second_moments: str) -> list[Tensor]:
    """Weights after the same steps of ordinary optimizers: of one for all tasks, or of a new one for each."""
    params = list(model.parameters())

    def fresh() -> torch.optim.Adam:
        return torch.optim.Adam(params, lr=LR, betas=(0.0, 0.999))

    one = fresh()
    for b in range(BATCHES):
        before = [p.detach().clone() for p in params]
        ends = [torch.zeros_like(p) for p in params]
        batch = tasks(b)
        for i in range(3):
            adam = one if second_moments == "serial" else fresh()
            x, y = take(batch, i)
            for _ in range(STEPS):
                adam.zero_grad()
                F.mse_loss(model(x), y).backward()
                adam.step()
            for end, p, first in zip(ends, params, before, strict=True):
                end += p.detach() / 3
                p.data.copy_(first)
        for p, end in zip(params, ends, strict=True):
            p.data.add_(end - p, alpha=0.5)
    return [p.detach() for p in params]


@pytest.mark.parametrize("second_moments", ["serial", "fresh"])
def test_as_torchs_adam(second_moments: str) -> None:
    """Serial: one optimizer whose weights alone are put back, as in the authors' code; fresh: a new one for each task."""
    learner = trained(second_moments)
    torch.manual_seed(0)
    for found, expected in zip(
        learner.parameters(), by_torch(il.models.mlp(2, 1, hidden=(4,)), second_moments), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # eps stands inside the root


def test_kept_by_hand() -> None:
    """One weight at 0, loss (w - y)^2 at one step a task: the gradient is -2 y, and all tasks begin with the carry's moment."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    learner = il.reptile(model, inner_lr=0.1, inner_steps=1, inner_batch=None)
    moment = 0.0
    for step, targets in enumerate([(1.0, 3.0), (-2.0, 0.5)], 1):
        side = Examples(torch.ones(2, 1, 1), torch.tensor(targets)[:, None, None])
        learner.zero_grad()
        learner.backward(Task(side, side))
        gradients = [-2 * y for y in targets]
        moments = [0.999 * moment + 0.001 * g**2 for g in gradients]
        corrected = [m / (1 - 0.999**step) for m in moments]
        ends = [-0.1 * g / m**0.5 for g, m in zip(gradients, corrected, strict=True)]
        moment = sum(moments) / 2
        assert float(next(learner.parameters()).grad) == pytest.approx(-sum(ends) / 2, rel=1e-9)
        assert float(learner.carry["second_moment/weight"]) == pytest.approx(moment, rel=1e-12)
        assert float(learner.carry["second_moments_of"]) == step


@pytest.mark.parametrize("second_moments", SWITCHES)
def test_looped_as_vmapped_and_doctor(second_moments: str) -> None:
    looped, vmapped = (trained(second_moments, strategy) for strategy in ("looped", "vmapped"))
    for a, b in zip(looped.parameters(), vmapped.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    for name, value in looped.carry.items():
        torch.testing.assert_close(value, vmapped.carry[name], rtol=1e-9, atol=1e-15)
    assert il.check_meta_gradient(looped, tasks(9)).ok  # with what the carry has by now


def test_the_three_differ_and_one_task_a_step_is_serial() -> None:
    ends = [torch.cat([p.detach().flatten() for p in trained(s).parameters()]) for s in SWITCHES]
    assert min(float((a - b).abs().max()) for a, b in [ends[:2], ends[1:], ends[::2]]) > 1e-4
    kept, serial = (reptile(s) for s in ("kept", "serial"))
    for learner in (kept, serial):
        for b in range(3):
            learner.backward(tasks(b, number=1))
    assert kept.carry["second_moments_of"] == 3 * STEPS
    assert all(torch.equal(value, serial.carry[name]) for name, value in kept.carry.items())


def test_other_inner_optimizers_keep_nothing() -> None:
    assert all(not reptile(s, inner_optimizer="sgd").carry for s in SWITCHES)
    assert not reptile("fresh").carry
    only_head = reptile("kept", adapt=["head.*"])
    assert set(only_head.carry) == {"second_moments_of", "second_moment/head.weight", "second_moment/head.bias"}


def test_without_a_carry_as_older_runs() -> None:
    """A run from before this switch has none in its checkpoint, and goes on as it began."""
    old, fresh = reptile("kept"), trained("fresh")
    old.carry = {}
    optimizer = torch.optim.SGD(old.parameters(), lr=0.5)
    for b in range(BATCHES):
        old.backward(tasks(b))
        optimizer.step()
        optimizer.zero_grad()
    assert not old.carry
    # Up to rounding: both measure how a step is run best, and on a busy machine may find otherwise.
    assert all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(old.parameters(), fresh.parameters(), strict=True)
    )
    kept = trained("kept")
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(kept.parameters(), fresh.parameters(), strict=True))
    assert "second_moments" not in old.options and fresh.options["second_moments"] == "fresh"


def test_a_wrong_switch() -> None:
    with pytest.raises(il.ConfigError, match="second_moments expected one of kept, serial, fresh, got 'keep'"):
        reptile("keep")


def test_tests_begin_with_fresh_moments() -> None:
    """What training has gathered is no part of what a new task is adapted with."""
    learner = trained("kept")
    x, y = take(tasks(7), 0)
    before = learner.adapt(x, y, steps=2).predict(x)
    learner.carry = {name: value + 1 for name, value in learner.carry.items()}
    assert torch.equal(before, learner.adapt(x, y, steps=2).predict(x))


def test_resumed_runs_keep_them(tmp_path) -> None:
    family = il.tasks.sinusoid(shots=3, queries=3)
    settings = {"num_tasks": 2, "quiet": True, "validate_every": 2, "valid_tasks": 2, "device": "cpu"}

    def learner() -> il.MetaLearner:
        torch.manual_seed(0)
        return il.reptile(il.models.mlp(1, 1, hidden=(4,)), inner_steps=2)

    whole, parts = learner(), learner()
    il.fit(whole, family, steps=4, schedule="constant", out=tmp_path / "whole", **settings)
    il.fit(parts, family, steps=2, schedule="constant", out=tmp_path / "parts", **settings)
    assert float(parts.carry["second_moments_of"]) == 4
    parts = learner()
    il.fit(parts, family, steps=4, schedule="constant", out=tmp_path / "parts", resume=True, **settings)
    assert float(parts.carry["second_moments_of"]) == 8
    assert all(torch.equal(value, parts.carry[name]) for name, value in whole.carry.items())
