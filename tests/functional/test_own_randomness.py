"""Models that draw random numbers by themselves: from each task's key inside, none or always the same outside."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task

_GLOBAL = torch.Generator()


class Noisy(nn.Module):
    def __init__(self, draw: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.draw = nn.Linear(3, 2), draw
        self.own, self.rows = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.draw(self, x))


DRAWS = {
    "bernoulli_": lambda m, x: x.new_empty(len(x), 1).bernoulli_(0.5),
    "exponential_": lambda m, x: torch.empty_like(x).exponential_(),
    "dropout that is always on": lambda m, x: F.dropout(torch.ones_like(x)),
    "distribution": lambda m, x: torch.distributions.Gamma(2.0, 1.0).sample(x.shape),
    "numpy": lambda m, x: torch.as_tensor(np.random.rand(*x.shape), dtype=x.dtype),
    "python": lambda m, x: 1 + random.random(),
    "a generator of its own": lambda m, x: torch.rand(x.shape, generator=m.own, dtype=x.dtype),
    "numpy's own": lambda m, x: m.rows.random(),
    "drop path": lambda m, x: x.new_empty(len(x), 1).bernoulli_(0.5) if m.training else 1.0,
}


def tasks() -> Task:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 4, 20, 3, generator=generator), (torch.arange(20) % 2).expand(4, -1)
    return Task(Examples(x[0], y), Examples(x[1], y), noise=torch.arange(4))


def state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("method", [il.maml, il.protonet], ids=lambda m: m.__name__)
def test_numbers_come_from_the_key_alone(method: Any, draw: str, tmp_path: Path) -> None:
    found = []
    for seed in range(2):
        learner = method(Noisy(DRAWS[draw]))
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = state()
        learner.chunk_size = seed + 1
        learner.backward(tasks())
        fitted = learner.adapt(tasks().support.x[0], tasks().support.y[0])
        shown = [fitted.predict_proba(tasks().query.x[0]) for _ in range(2)]
        assert state() == before
        again = il.load(fitted.save(tmp_path / "task.il"), model=Noisy(DRAWS[draw]))
        shown += [again.predict_proba(tasks().query.x[0]) for _ in range(2)]
        assert all(torch.equal(one, shown[0]) for one in shown)
        found.append([learner.model.net.weight.grad, shown[0]])
        learner.zero_grad()
        learner.backward(dataclasses.replace(tasks(), noise=torch.arange(4, 8)))
        assert not torch.equal(learner.model.net.weight.grad, found[-1][0]), "another key"
        assert any("draws random numbers by itself" in note for note in learner.notes)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_drawn_in_training_alone_is_off_outside() -> None:
    """Against the module in evaluation mode, adapted in plain autograd."""
    model, one = Noisy(DRAWS["drop path"]), tasks()
    learner = il.maml(model, inner_lr=0.1)
    learner.backward(one)
    model.eval()
    F.cross_entropy(model(one.support.x[0]), one.support.y[0]).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad  # type: ignore[operator]
    found = learner.adapt(one.support.x[0], one.support.y[0]).outputs(one.query.x[0])
    assert torch.allclose(found, model(one.query.x[0]), atol=1e-6)


@pytest.mark.parametrize(
    "draw", [lambda m, x: torch.rand(x.shape, generator=_GLOBAL), lambda m, x: np.random.default_rng().random()]
)
def test_a_source_that_nobody_can_seed_is_refused(draw: Callable[[Any, Tensor], Any]) -> None:
    with pytest.raises(il.ConfigError, match="other outputs for the same inputs"):
        il.maml(Noisy(draw)).backward(tasks())


def test_dropout_of_torchs_is_drawn_from_the_key_too() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    found = []
    for strategy in ("looped", "vmapped"):
        learner = il.maml(model)
        learner.strategy = strategy
        learner.backward(tasks())
        found.append(learner.model[0].weight.grad)
    assert torch.allclose(*found, atol=1e-7) and not any("by itself" in note for note in learner.notes)


def test_implicit_gradients_refuse_what_draws() -> None:
    il.imaml(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0))).backward(tasks())
    with pytest.raises(il.ConfigError, match="one inner problem for all inner steps"):
        il.imaml(Noisy(DRAWS["bernoulli_"])).backward(tasks())
