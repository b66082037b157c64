"""Modules that people bring most: as the user's own module in plain autograd, and through pickle, joblib and copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from test_shared_parameters import LR, STEPS, plain, tasks
from torch import nn

import innerloop as il


class LoRA(nn.Module):
    """A frozen layer with a trained update of low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(3, 4).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(3, 1)), nn.Parameter(torch.randn(1, 4))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.base(x) + x @ self.down @ self.up))


class Recurrent(nn.Module):
    """A GRU over the three features as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.gru(x[..., None])[0][:, -1])


class Attention(nn.Module):
    """Self-attention over the three features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(12, 2)

    def forward(self, x):
        z = self.embed(x[..., None])
        return self.out((z + self.attention(z, z, z)[0]).flatten(1))


CASES = [(net, way) for net in (LoRA, Recurrent, Attention) for way in ("looped", "vmapped")]
CASES[3] = (Recurrent, "auto")  # vmap cannot differentiate torch's recurrent kernels, and is refused


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("kind", "strategy"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_meta_gradient_and_predictions(kind, strategy):
    torch.manual_seed(1)
    net, batch = kind(), tasks()
    loss, grads, predictions = plain(net, batch)
    learner = il.maml(net, inner_lr=LR, inner_steps=STEPS)
    learner.strategy = strategy
    frozen = {name: p.clone() for name, p in learner.model.named_parameters() if not p.requires_grad}
    assert torch.allclose(learner.backward(batch)["loss"], loss, rtol=1e-10)
    own = [p for p in learner.model.parameters() if p.requires_grad]
    for p, grad in zip(own, grads, strict=True):
        assert torch.allclose(p.grad, grad, rtol=1e-8, atol=1e-11)
    assert torch.allclose(learner.predict_queries(batch), predictions, rtol=1e-8, atol=1e-11)
    assert all(torch.equal(dict(learner.model.named_parameters())[name], p) for name, p in frozen.items())


def test_a_model_in_bfloat16_stays_in_it():
    torch.manual_seed(1)
    batch = tasks()
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    near = il.maml(copy.deepcopy(net).bfloat16(), inner_lr=LR, inner_steps=STEPS).predict_queries(batch)
    exact = plain(net, batch)[2]
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_learners_and_adapted_tasks_travel(way, tmp_path):
    def sent(value):
        if way == "joblib":
            joblib = pytest.importorskip("joblib")
            joblib.dump(value, tmp_path / "it")
            return joblib.load(tmp_path / "it")
        return copy.deepcopy(value) if way == "deepcopy" else pickle.loads(pickle.dumps(value))

    torch.manual_seed(1)
    batch = tasks()
    learner = il.maml(LoRA(), inner_lr=LR, inner_steps=STEPS)
    learner.backward(batch)  # what a first step has found out travels too
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    assert torch.equal(sent(learner).predict_queries(batch), learner.predict_queries(batch))
    assert torch.equal(sent(fitted).predict_proba(batch.query.x[0]), fitted.predict_proba(batch.query.x[0]))
