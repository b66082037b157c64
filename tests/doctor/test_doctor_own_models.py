"""The doctor's verdict on models that torch differentiates wrongly, on such that draw, and on such that return no tensor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task


class Own(nn.Module):
    def __init__(self, layer: nn.Module, function: Any = torch.tanh) -> None:
        super().__init__()
        self.layer, self.head, self.function = layer, nn.Linear(4, 2), function

    def forward(self, x: Tensor) -> Any:
        return self.head(self.function(self.layer(x)))


def vectors() -> Task:
    x, y = torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 2)
    return Task(Examples(x[0], y[0]), Examples(x[1], y[1]))


def words() -> Task:
    x, y = torch.randint(0, 7, (2, 2, 5, 3)), torch.randn(2, 2, 5, 2)
    return Task(Examples(x[0], y[0]), Examples(x[1], y[1]))


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, torch.eye(4, dtype=x.dtype))


@pytest.mark.parametrize(
    ("layer", "function", "task"),
    [
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), torch.tanh, vectors),
        (lambda: nn.EmbeddingBag(7, 4), torch.tanh, words),
        (lambda: nn.Linear(3, 4), lambda x: x * torch.empty_like(x).bernoulli_(0.5), vectors),
        (lambda: nn.Linear(3, 4), lambda x: torch.tanh(x) if x.sum() > 0 else x, vectors),
    ],
    ids=["weight norm", "bags", "random", "branches"],
)
def test_it_is_right(layer: Any, function: Any, task: Any) -> None:
    torch.manual_seed(0)
    found = il.check_meta_gradient(il.maml(Own(layer(), function), inner_lr=0.1), task())
    assert found.ok and found.order == "second" and found.differences_error is not None, found.problems
    assert found.differences_error < 1e-5


def test_what_lacks_second_derivatives_is_refused_and_right_at_first_order() -> None:
    torch.manual_seed(0)
    model = Own(nn.Linear(3, 4), distances)
    with pytest.raises(il.ConfigError, match=r"cdist.*il\.fomaml"):
        il.check_meta_gradient(il.maml(model), vectors())
    found = il.check_meta_gradient(il.fomaml(model, inner_lr=0.1), vectors())
    assert found.ok and found.order == "first" and found.cosine_to_exact is None, found.problems
