"""Layers and functions whose second derivative torch lacks or gets wrong: rewritten, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = pytest.mark.usefixtures("double")
LR = 0.3


def batch(x: Callable[[], Tensor], outputs: int = 2, num_tasks: int = 2) -> Task:
    sides = [
        Examples(torch.stack([x() for _ in range(num_tasks)]), torch.randn(num_tasks, 5, outputs)) for _ in range(2)
    ]
    return Task(*sides)


def tokens() -> Tensor:
    return torch.randint(0, 7, (5, 4))


def vectors() -> Tensor:
    return torch.randn(5, 3)


def gradient(learner: il.MetaLearner, tasks: Task, strategy: str) -> dict[str, Tensor]:
    learner.strategy = strategy
    learner.zero_grad()
    learner.backward(tasks)
    return {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}


def by_hand(forward: Callable[[dict[str, Tensor], Tensor], Tensor], model: nn.Module, tasks: Task) -> dict[str, Tensor]:
    """MAML with one inner step in plain autograd, the forward pass written out."""
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    total = torch.zeros(())
    for i in range(len(tasks.support.y)):
        loss = F.mse_loss(forward(params, tasks.support.x[i]), tasks.support.y[i])
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        fast = {name: p - LR * g for (name, p), g in zip(params.items(), grads, strict=True)}
        total = total + F.mse_loss(forward(fast, tasks.query.x[i]), tasks.query.y[i])
    grads = torch.autograd.grad(total / len(tasks.support.y), list(params.values()))
    return dict(zip(params, grads, strict=True))


class Bag(nn.Module):
    """Bags of words: of one length, or one row of words with the places where bags begin."""

    def __init__(self, mode: str, padding: int | None, rows: bool) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 3, mode=mode, padding_idx=padding, sparse=mode != "max")
        self.head, self.rows = nn.Linear(3, 2), rows

    def forward(self, x: Tensor) -> Tensor:
        if self.rows:
            return self.head(self.bag(x.reshape(-1), torch.arange(0, x.numel(), x.shape[1])))
        return self.head(self.bag(x))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bags(mode: str, padding: int | None, rows: bool) -> None:
    torch.manual_seed(0)
    model, tasks = Bag(mode, padding, rows), batch(tokens)
    tasks.support.x[0, 0] = 2  # a bag of padding alone

    def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
        bags = []
        for words in x:
            kept = p["bag.weight"][[w for w in words.tolist() if w != padding]]
            pooled = {"sum": lambda k: k.sum(0), "mean": lambda k: k.mean(0), "max": lambda k: k.max(0).values}[mode]
            bags.append(pooled(kept) if len(kept) else torch.zeros(3))
        return torch.stack(bags) @ p["head.weight"].T + p["head.bias"]

    learner, expected = il.maml(model, inner_lr=LR), by_hand(forward, model, tasks)
    assert torch.allclose(learner.model(tasks.query.x[0]), model(tasks.query.x[0]), rtol=1e-12)
    for strategy in ("looped", "auto") if mode == "max" else ("looped", "vmapped"):
        for name, value in gradient(learner, tasks, strategy).items():
            assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name


def test_weights_of_single_words_in_a_bag() -> None:
    torch.manual_seed(0)
    theirs, x, w = nn.EmbeddingBag(7, 3, mode="sum"), tokens(), torch.randn(5, 4)
    ours = il.maml(nn.Sequential(theirs)).model[0]
    assert torch.allclose(ours(x, per_sample_weights=w), theirs(x, per_sample_weights=w), rtol=1e-12)
    ends = torch.tensor([0, 3, 3, 9])
    theirs.include_last_offset = ours.include_last_offset = True
    assert torch.allclose(ours(x.reshape(-1)[:9], ends), theirs(x.reshape(-1)[:9], ends), rtol=1e-12)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm], ids=["new", "old"])
def test_weight_norm(norm: Callable[..., nn.Module], dim: int | None) -> None:
    torch.manual_seed(0)
    with pytest.warns(FutureWarning) if norm is nn.utils.weight_norm else torch.no_grad():  # type: ignore[attr-defined]
        layer = norm(nn.Linear(3, 4), dim=dim)
    model, tasks = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)), batch(vectors)
    model(torch.ones(1, 3))  # the older one leaves a graph in the layer
    bias, g, v = (name for name, _ in layer.named_parameters())

    def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
        long, scale = p[f"0.{v}"], p[f"0.{g}"]
        square = long.square()
        size = (square.sum() if dim is None else square.sum(1 - dim, keepdim=True)).sqrt()
        return torch.tanh(x @ (long * scale / size).T + p[f"0.{bias}"]) @ p["2.weight"].T + p["2.bias"]

    learner, expected = il.maml(model, inner_lr=LR), by_hand(forward, model, tasks)
    for strategy in ("looped", "vmapped"):
        for name, value in gradient(learner, tasks, strategy).items():
            assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    assert [name for name, _ in learner.model.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_sparse_embeddings() -> None:
    torch.manual_seed(0)
    model, tasks = nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Flatten(), nn.Linear(12, 2)), batch(tokens)

    def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return p["0.weight"][x].flatten(1) @ p["2.weight"].T + p["2.bias"]

    expected = by_hand(forward, model, tasks)
    for strategy in ("looped", "vmapped"):
        for name, value in gradient(il.maml(model, inner_lr=LR), tasks, strategy).items():
            assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    assert model[0].sparse, "the user's module stays"


def test_an_embedding_that_writes_its_weights_is_refused() -> None:
    with pytest.raises(il.ConfigError, match=r"'0' has max_norm=1.0"):
        il.fomaml(nn.Sequential(nn.Embedding(7, 3, max_norm=1.0), nn.Flatten(), nn.Linear(12, 2)))
