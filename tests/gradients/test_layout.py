"""Gradients lie in memory as their parameters do: fused optimizers read both as they lie."""

from __future__ import annotations

import torch

import innerloop as il
from innerloop.core import Examples, Task


def test_a_gradient_by_channels_is_laid_out_as_its_weight_and_steps_as_it(monkeypatch):
    torch.manual_seed(0)
    learner = il.maml(il.models.conv4((1, 16, 16), 2, filters=3), inner_lr=0.1, inner_steps=1)
    side = Examples(torch.randn(2, 4, 1, 16, 16), torch.tensor([0, 1, 0, 1]).expand(2, -1))
    estimate = learner.meta_gradient

    def by_channels(*args):
        found = estimate(*args)
        turned = {
            n: g.contiguous(memory_format=torch.channels_last) if g.ndim == 4 else g for n, g in found.params.items()
        }
        return found._replace(params=turned)

    for known in ("compilable", "shardable", "of_mean_gradient"):
        setattr(by_channels, known, getattr(estimate, known))

    def after_a_step() -> dict[str, torch.Tensor]:
        start = {n: p.detach().clone() for n, p in learner.named_parameters()}
        learner.zero_grad()
        optimizer = torch.optim.Adam(learner.parameters(), lr=0.01, fused=True)
        learner.backward(Task(side, side))
        assert all(p.grad.stride() == p.stride() for p in learner.parameters())
        optimizer.step()
        moved = {n: p.detach().clone() for n, p in learner.named_parameters()}
        learner.load_state_dict(start, strict=False)
        return moved

    plain = after_a_step()
    monkeypatch.setattr(learner, "meta_gradient", by_channels)
    for name, value in after_a_step().items():
        if not name.endswith(
            "bias"
        ):  # before batch norm zero but for rounding, and Adam makes a whole step of its sign
            assert torch.allclose(value, plain[name], atol=1e-6), name
