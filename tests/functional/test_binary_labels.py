"""Binary classification with one logit: labels are class names, whatever shape the model gives its logit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import innerloop as il


class Flat(nn.Module):
    """One logit an example, shape (examples,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x)[:, 0]


@pytest.mark.parametrize("model", [Flat(), il.models.mlp(2, 1, hidden=())], ids=["flat", "column"])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", F.binary_cross_entropy_with_logits])
def test_one_logit_learns_two_named_classes(model, loss):
    torch.manual_seed(0)
    x = torch.randn(40, 2)
    names = ["yes" if value else "no" for value in x[:, 0] > 0]
    learner = il.maml(model, inner_lr=1.0, loss=loss)
    fitted = learner.adapt(x, names, steps=50)
    assert fitted.classes_ == ["no", "yes"]
    assert fitted.score(x, names) > 0.95
    assert fitted.predict_proba(x).shape == (40, 2)
    torch.testing.assert_close(fitted.predict_proba(x).sum(1), torch.ones(40))


def test_backward_takes_binary_targets_in_the_logits_shape():
    x = torch.randn(3, 8, 2)
    y = (x[..., :1] > 0).float()
    task = il.Task(support=il.Examples(x, y), query=il.Examples(x, y))
    found = il.maml(il.models.mlp(2, 1), loss="binary_cross_entropy").backward(task)
    assert torch.isfinite(found["loss"]) and 0 <= found["accuracy"] <= 1
