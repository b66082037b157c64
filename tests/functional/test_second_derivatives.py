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


# ---- functions that nobody can rewrite -------------------------------------------------------------------------------
class Once(torch.autograd.Function):
    """A cube that may be differentiated once: torch says so only to ``.backward``, and leaves it out of ``autograd.grad``."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0] ** 2


class Kept(torch.autograd.Function):
    """A cube that keeps its slope as a number: the second derivative is zero, and nothing says so."""

    @staticmethod
    def forward(ctx, x):
        ctx.slope = 3 * x**2
        return x**3

    @staticmethod
    def backward(ctx, g):
        return g * ctx.slope


class Rounded(torch.autograd.Function):
    """Straight through: what autograd makes of it is what its author wants."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx, g):
        return g


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.function = nn.Linear(3, 4), nn.Linear(4, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.body(x)))


def applied(function: Callable[[Tensor], Tensor], p: dict[str, Tensor], x: Tensor) -> Tensor:
    return function(x @ p["body.weight"].T + p["body.bias"]) @ p["head.weight"].T + p["head.bias"]


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, torch.eye(4))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (Once.apply, "Once: its second derivative contradicts differences by 100.0%"),
        (Kept.apply, "Kept: its second derivative contradicts"),
        (distances, "torch.functional.cdist: the derivative for '_cdist_backward' is not implemented"),
        (lambda x: torch._weight_norm(x, torch.ones(len(x), 1), 0), "_weight_norm: its second derivative contradicts"),
    ],
    ids=["once", "kept", "missing", "wrong"],
)
def test_what_lacks_a_second_derivative_is_named_where_one_is_needed(function, named: str) -> None:
    torch.manual_seed(0)
    model, tasks = Applied(function), batch(vectors)
    for method in (il.maml, il.meta_sgd, il.imaml, il.mamlpp, il.boil):
        with pytest.raises(il.ConfigError, match=f"needs second derivatives.*{named.split(':')[0]}.*il.fomaml") as said:
            method(model).backward(tasks)
        assert named in str(said.value)
    learner = il.fomaml(model, inner_lr=LR)
    grads = gradient(learner, tasks, "auto")
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    expected = dict.fromkeys(params, torch.zeros(()))
    for i in range(2):
        loss = F.mse_loss(applied(function, params, tasks.support.x[i]), tasks.support.y[i])
        slopes = torch.autograd.grad(loss, list(params.values()))
        fast = {n: (p - LR * g).detach().requires_grad_() for (n, p), g in zip(params.items(), slopes, strict=True)}
        loss = F.mse_loss(applied(function, fast, tasks.query.x[i]), tasks.query.y[i])
        slopes = torch.autograd.grad(loss, list(fast.values()))
        expected = {n: expected[n] + g / 2 for n, g in zip(fast, slopes, strict=True)}
    for name, value in grads.items():
        assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    learner.adapt(tasks.support.x[0], tasks.support.y[0])


@pytest.mark.parametrize("function", [Once.apply, distances], ids=["once", "missing"])
def test_a_body_that_is_not_adapted_needs_no_second_derivative(function) -> None:
    torch.manual_seed(0)
    model, tasks = Applied(function), batch(vectors)
    grads = gradient(il.anil(model, inner_lr=LR, inner_steps=1), tasks, "auto")
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    head = [params["head.weight"], params["head.bias"]]
    total = torch.zeros(())
    for i in range(2):
        loss = F.mse_loss(applied(function, params, tasks.support.x[i]), tasks.support.y[i])
        slopes = torch.autograd.grad(loss, head, create_graph=True)
        fast = {**params, "head.weight": head[0] - LR * slopes[0], "head.bias": head[1] - LR * slopes[1]}
        total = total + F.mse_loss(applied(function, fast, tasks.query.x[i]), tasks.query.y[i]) / 2
    for name, value in zip(params, torch.autograd.grad(total, list(params.values())), strict=True):
        assert torch.allclose(grads[name], value, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize(
    "function", [Rounded.apply, lambda x: torch.tanh(x) * torch.sigmoid(x).detach()], ids=["rounded", "detached"]
)
def test_what_is_held_constant_on_purpose_is_taken_and_told(function) -> None:
    torch.manual_seed(0)
    model, tasks = Applied(function), batch(vectors)
    expected = by_hand(lambda p, x: applied(function, p, x), model, tasks)
    learner = il.maml(model, inner_lr=LR)
    for name, value in gradient(learner, tasks, "auto").items():
        assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    assert any("held constant" in note for note in learner.notes)


@pytest.mark.parametrize("function", [torch.relu, lambda x: F.max_pool1d(x[None], 3, 1, 1)[0], torch.abs])
def test_kinks_are_no_contradiction(function) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        learner = il.maml(Applied(function), inner_lr=LR)
        learner.backward(batch(vectors))
        assert learner.notes == []


def test_a_loss_without_a_second_derivative() -> None:
    x, y = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))
    with pytest.raises(il.ConfigError, match=r"multi_margin_loss.*il.fomaml"):
        il.maml(il.models.mlp(3, 3), loss=F.multi_margin_loss).backward(Task(Examples(x, y), Examples(x, y)))


def test_a_function_without_any_derivative() -> None:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

    with pytest.raises(il.ConfigError, match="gradient cannot be taken: You must implement"):
        il.fomaml(Applied(Forward.apply)).backward(batch(vectors))


def test_what_vmap_refuses_is_looped_with_a_note() -> None:
    torch.manual_seed(0)

    def branch(x: Tensor) -> Tensor:
        return torch.tanh(x) if x.sum() > 0 else torch.sin(x)

    model, tasks = Applied(branch), batch(vectors, num_tasks=6)
    expected = by_hand(lambda p, x: applied(branch, p, x), model, tasks)
    learner = il.maml(model, inner_lr=LR)
    for name, value in gradient(learner, tasks, "auto").items():
        assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    assert learner.notes[0].startswith("tasks run one after the other")
    with pytest.raises(il.ConfigError, match="use strategy 'looped'"):
        gradient(learner, tasks, "vmapped")
    assert il.protonet(model).predict_queries(labelled(tasks)).shape == (6, 5, 3)


def labelled(tasks: Task) -> Task:
    """The same tasks with labels."""
    y = (torch.arange(5) % 3).expand(len(tasks.support.y), -1)
    return Task(Examples(tasks.support.x, y), Examples(tasks.query.x, y))


def test_a_model_that_cannot_go_over_to_float64_is_told() -> None:
    table = torch.eye(4, dtype=torch.float32)
    learner = il.maml(Applied(lambda x: x @ table).float())
    learner.backward(batch(vectors))
    assert any("cannot compute in float64" in note for note in learner.notes)


def test_trying_leaves_no_trace() -> None:
    tasks, learner = batch(vectors), il.maml(Applied(lambda x: F.dropout(torch.tanh(x))))
    before, kept = torch.get_rng_state(), {n: v.clone() for n, v in learner.state_dict().items()}
    learner.backward(tasks)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, kept[n]) for n, v in learner.state_dict().items())
