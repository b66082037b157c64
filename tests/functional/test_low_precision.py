"""bfloat16 inside, float32 outside: parameters, losses, norm layers and gradients keep their type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il

STRATEGIES = ("looped", "vmapped", "per_task")


def made(strategy: str, low: torch.dtype | None) -> il.MetaLearner:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 16, 3))
    learner = il.maml(net, inner_lr=0.1, inner_steps=2)
    learner.strategy, learner.low_precision = strategy, low
    return learner


def tasks() -> il.Task:
    x = torch.randn(4, 6, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6).remainder(3).expand(4, -1)
    return il.Task(il.Examples(x, y), il.Examples(x.flip(1), y.flip(1)))


def gradient(strategy: str, low: torch.dtype | None) -> torch.Tensor:
    learner = made(strategy, low)
    metrics = learner.backward(tasks())
    assert {p.grad.dtype for p in learner.parameters()} == {metrics["loss"].dtype} == {torch.float32}
    return torch.cat([p.grad.flatten() for p in learner.parameters()])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_near_to_full_precision_and_not_equal(strategy):
    full, low = gradient(strategy, None), gradient(strategy, torch.bfloat16)
    error = float((low - full).norm() / full.norm())
    assert 1e-4 < error < 0.1, "rounding to 8 bits, and no more than that"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_products_and_convolutions_are_in_it_and_statistics_are_not(strategy, monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: dict[str, set[torch.dtype]] = {}

    class Types(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            if isinstance(args[0], torch.Tensor) and args[0].is_floating_point():
                seen.setdefault(name, set()).add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    learner = made(strategy, torch.bfloat16)
    learner.check(tasks())
    with Types():
        learner.backward(tasks())
    # torch's batching rule for the double backward of a convolution goes back to float32.
    assert seen["convolution"] <= {torch.bfloat16, *([torch.float32] if strategy == "vmapped" else [])}
    assert torch.bfloat16 in seen["convolution"]
    products = [seen[name] for name in ("addmm", "mm", "bmm", "baddbmm") if name in seen]
    assert products and all(torch.bfloat16 in types for types in products)
    for name in ("native_batch_norm", "rsqrt", "_log_softmax"):
        assert seen.get(name, {torch.float32}) == {torch.float32}


def test_training_and_evaluation_keep_float32(tmp_path):
    learner, family = il.maml(il.models.mlp(1, 1, hidden=(8,)), inner_lr=0.01), il.tasks.sinusoid(shots=3, queries=3)
    il.fit(learner, family, steps=4, num_tasks=4, precision="bfloat16", quiet=True, out=tmp_path / "run")
    assert learner.low_precision is torch.bfloat16 and learner.dtype is torch.float32
    report = il.evaluate(learner, family.test, num_tasks=3)
    assert all(p.dtype is torch.float32 for p in learner.parameters()) and report.mean > 0
    il.fit(learner, family, steps=1, num_tasks=4, quiet=True)
    assert learner.low_precision is None, "a setting of the run, not of the learner"


def test_an_unknown_precision_is_refused():
    learner = il.maml(il.models.mlp(1, 1))
    with pytest.raises(il.ConfigError, match=r"precision expected one of .*'bfloat16'.*, got 'float8'"):
        il.fit(learner, il.tasks.sinusoid(), steps=1, precision="float8", quiet=True)
