"""Models with a method's networks beside them, and the sizes these are built for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.functional import Parts, PureModel, convert, features_of


class Scale(nn.Module):
    """A module that says nothing about its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_the_users_parameters_come_first_and_each_part_can_be_called():
    model, head = nn.Linear(3, 2), nn.Bilinear(2, 2, 1)
    converted, _ = convert(Parts(model, compare=head))
    names = [name for name, _ in converted.named_parameters()]
    assert names == ["model.weight", "model.bias", "compare.weight", "compare.bias"]
    pure = PureModel(converted, "running")
    params = dict(converted.named_parameters())
    x = torch.randn(5, 3)
    z, _ = pure.apply(params, {}, x)
    assert torch.equal(z, model(x))
    assert torch.equal(pure.apply(params, {}, z, z, part="compare")[0], head(z, z))


def test_statistics_of_a_part_are_recorded_under_its_own_name():
    converted, _ = convert(Parts(nn.Linear(3, 2), compare=nn.BatchNorm1d(2)), "running")
    pure = PureModel(converted, "running")
    z = torch.randn(8, 2) + 3
    _, buffers = pure.apply(
        dict(converted.named_parameters()), pure.running_buffers(), z, training=True, part="compare"
    )
    assert set(buffers) == {"compare.running_mean", "compare.running_var"}
    assert torch.allclose(buffers["compare.running_mean"], 0.1 * z.mean(0))


@pytest.mark.parametrize(
    ("model", "shape", "found"),
    [
        (il.models.mlp(3, None, hidden=(7,)), None, (7,)),
        (il.models.mlp((1, 4, 4), None, hidden=()), None, (16,)),
        (il.models.conv4((1, 28, 28), None, filters=4, downsample="max_pool"), None, (4,)),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), None, (4,)),
        (Scale(), (2, 5), (2, 5)),
    ],
)
def test_features(model, shape, found):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert features_of(model, shape) == found
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_unknown_inputs_are_asked_for():
    with pytest.raises(il.ConfigError, match=r"input shape of Scale is not known.*input_shape="):
        features_of(Scale())
    with pytest.raises(il.ConfigError, match="cannot take inputs of shape"):
        features_of(nn.Linear(3, 2), (4,))
