"""Models whose parameters are not all of one type: the right numbers, in files too, or one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task


class Net(nn.Module):
    """A middle layer in a type of its own, whole numbers that nothing trains, a complex buffer."""

    def __init__(self, middle: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.body, self.middle, self.head = nn.Linear(3, 4), nn.Linear(4, 4).to(middle), nn.Linear(4, 2)
        self.signs = nn.Parameter(torch.tensor([1, -1, 2, 1]), requires_grad=False)
        self.register_buffer("turn", torch.full((4,), 0.6 + 0.8j, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x)) * self.signs
        h = torch.tanh(self.middle(h.to(self.middle.weight.dtype))).to(x.dtype)
        return self.head((h.to(self.turn.dtype) * self.turn).real)  # type: ignore[operator]


def tasks() -> Task:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 5, 6, 3, generator=generator), torch.randn(2, 5, 6, 2, generator=generator)
    return Task(Examples(x[0], y[0]), Examples(x[1], y[1]))


@pytest.mark.parametrize("middle", [torch.float64, torch.bfloat16], ids=str)
def test_several_types_in_one_model(middle: torch.dtype, tmp_path) -> None:
    torch.manual_seed(0)
    model, batch = Net(middle), tasks()
    params = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters() if n != "signs"}

    def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x, p["body.weight"], p["body.bias"])) * model.signs
        h = torch.tanh(F.linear(h.to(middle), p["middle.weight"], p["middle.bias"])).float()
        return F.linear(0.6 * h, p["head.weight"], p["head.bias"])

    total = torch.zeros(())
    for i in range(5):
        loss = F.mse_loss(forward(params, batch.support.x[i]), batch.support.y[i])
        slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        fast = {n: p - 0.1 * g for (n, p), g in zip(params.items(), slopes, strict=True)}
        total = total + F.mse_loss(forward(fast, batch.query.x[i]), batch.query.y[i]) / 5
    expected = dict(zip(params, torch.autograd.grad(total, list(params.values())), strict=True))
    near = 1e-4 if middle == torch.float64 else 3e-2
    for strategy in ("looped", "vmapped"):
        learner = il.maml(model, inner_lr=0.1)
        learner.strategy = strategy
        learner.backward(batch)
        for name, value in expected.items():
            found = learner.model.get_parameter(name).grad
            assert found is not None and found.dtype == value.dtype
            assert (found - value).abs().max() <= near * value.abs().max(), name
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    again = il.load(fitted.save(tmp_path / "task.il"), model=Net(middle))
    assert torch.equal(again.predict(batch.query.x[0]), fitted.predict(batch.query.x[0]))


@pytest.mark.parametrize("estimator", ["es", "pes", "first_order"])
def test_other_estimators_of_several_types(estimator: str) -> None:
    options = {"truncation": 1} if estimator == "pes" else {}
    learner = il.with_meta_gradient(il.maml(Net()), estimator, **options)
    learner.backward(tasks())
    for p in learner.parameters():
        assert p.grad is not None and p.grad.dtype == p.dtype


def test_a_rule_that_reads_all_parameters_in_one_row() -> None:
    with pytest.raises(il.ConfigError, match=r"expected one dtype, got torch.float32, torch.float64"):
        il.lstm_metalearner(Net())


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("method", [il.maml, il.imaml, il.protonet, il.scratch], ids=lambda m: m.__name__)
def test_complex_parameters_are_refused(method: Any, only: bool) -> None:
    model = nn.Module() if only else nn.Linear(3, 2)
    model.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))  # type: ignore[assignment]
    with pytest.raises(il.ConfigError, match=r"complex parameters \(phase\).*view_as_complex"):
        method(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_ridge_regression_in_half_precision(dtype: torch.dtype) -> None:
    learner, y = il.r2d2(nn.Linear(3, 4).to(dtype)), (torch.arange(6) % 2).expand(5, -1)
    learner.backward(Task(Examples(tasks().support.x, y), Examples(tasks().query.x, y)))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learner.model.parameters())
