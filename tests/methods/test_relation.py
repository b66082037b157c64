"""Relation networks: scores against a plain loop over (query, class) pairs, the squared error, what it can be built on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from metric_tasks import drawn, net
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.functional import features_of

pytestmark = pytest.mark.usefixtures("double")


def pictures(ways: int = 3, shots: int = 2, queries: int = 2, num_tasks: int = 2, size: int = 10) -> Task:
    generator = torch.Generator().manual_seed(1)

    def side(each: int) -> Examples:
        y = torch.arange(ways).repeat(each).expand(num_tasks, -1).contiguous()
        return Examples(torch.rand(num_tasks, ways * each, 1, size, size, generator=generator), y)

    return Task(side(shots), side(queries))


def conv(size: int = 10, **options) -> nn.Module:
    torch.manual_seed(0)
    options = {"filters": 3, "downsample": "max_pool", "halvings": 1, "spatial": "map", "norm": "none", **options}
    return il.models.conv4((1, size, size), None, **options)


def pair_logit(relation: nn.Module, class_features: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """One pair by the paper's text: both maps side by side in one convolution, written out (batch norm at its start)."""
    weight = torch.cat([relation.of_query.weight, relation.of_class.weight], 1)
    x = torch.cat([query, class_features])[None]
    *rest, last = list(relation.rest)
    bias = relation.of_class.bias
    x = F.linear(x, weight, bias) if x.ndim == 2 else F.conv2d(x, weight, bias, padding=1)
    for layer in rest:
        if hasattr(layer, "policy"):
            shape = (1, -1, 1, 1)
            x = x / (1 + layer.eps) ** 0.5 * layer.weight.reshape(shape) + layer.bias.reshape(shape)
        elif isinstance(layer, nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, padding=1)
        else:
            x = layer(x)
    return last(x)[0, 0]


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_scores_are_those_of_a_plain_loop_over_pairs(kind, combine):
    task, model = (pictures(), conv()) if kind == "maps" else (drawn(3, 3, 2), net())
    task = dataclasses.replace(task, support=Examples(task.support.x[:, 1:], task.support.y[:, 1:]))  # unequal shots
    learner = il.relation(model, combine=combine, filters=4)
    with torch.no_grad():
        for p in learner.model.comparison.parameters():
            p.mul_(2.0)  # so that scores differ
    logits = learner.predict_queries(task)
    for t in range(len(logits)):
        z, q = model(task.support.x[t]), model(task.query.x[t])
        for k in range(3):
            rows = [z[i] for i in range(len(z)) if int(task.support.y[t, i]) == k]
            features = sum(rows[1:], rows[0]) / (len(rows) if combine == "mean" else 1)
            for j in range(len(q)):
                expected = pair_logit(learner.model.comparison, features, q[j])
                assert torch.allclose(logits[t, j, k], expected, rtol=1e-9, atol=1e-11)
    assert float((logits[..., 0] - logits[..., 1]).abs().max()) > 1e-3


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_the_loss_is_the_squared_error_of_scores(strategy):
    task = drawn(3, 2, 2)
    learner = il.relation(net(), filters=4)
    learner.strategy = strategy
    scores = torch.sigmoid(learner.predict_queries(task))  # nothing here differs in evaluation: there is no batch norm
    total = 0.0
    for t in range(3):
        for j, label in enumerate(task.query.y[t].tolist()):
            total += sum((float(scores[t, j, k]) - (k == label)) ** 2 for k in range(3)) / (3 * 6 * 3)
    assert float(learner.backward(task)["loss"]) == pytest.approx(total, rel=1e-10)
    judged = il.relation(net(), filters=4, loss="cross_entropy")
    judged.load_state_dict(learner.state_dict())
    expected = F.cross_entropy(judged.predict_queries(task).reshape(-1, 3), task.query.y.reshape(-1))
    assert float(judged.backward(task)["loss"]) == pytest.approx(float(expected), rel=1e-10)


def test_batch_norm_of_the_comparison_takes_all_pairs_of_the_task():
    task, model = pictures(num_tasks=1), conv(norm="batch")
    learner = il.relation(model, filters=4)
    learner.backward(task)
    relation = learner.model.comparison
    z = model.train()(torch.cat([task.support.x[0], task.query.x[0]]))
    features = torch.stack([z[:6][task.support.y[0] == k].sum(0) for k in range(3)])
    maps = torch.stack([relation.of_query(q[None])[0] + relation.of_class(f[None])[0] for q in z[6:] for f in features])
    plain = nn.BatchNorm2d(4)
    plain(maps.detach())
    norm = next(layer for layer in relation.rest if hasattr(layer, "policy"))
    assert torch.allclose(norm.running_mean[0], plain.running_mean)
    assert torch.allclose(norm.running_var[0], plain.running_var)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (
            lambda: il.models.conv4((1, 28, 28), None, filters=2, downsample="max_pool", halvings=2, spatial="map"),
            (1, 28, 28),
        ),
        (lambda: il.models.conv4((1, 28, 28), None, filters=2, spatial="map"), (1, 28, 28)),
        (lambda: il.models.conv4((1, 28, 28), None, filters=2, downsample="max_pool", spatial="map"), (1, 28, 28)),
        (lambda: il.models.conv4((1, 28, 28), 5, filters=2), (1, 28, 28)),
        (lambda: il.models.mlp(784, 5, hidden=(4,)), (784,)),
        (lambda: il.models.mlp(1, 1), (1,)),
    ],
)
def test_any_usual_model_will_do(model, inputs):
    learner = il.relation(model())
    x = torch.rand(4, *inputs, generator=torch.Generator().manual_seed(0))
    assert learner.adapt(x, [*"abca"]).predict_proba(x).shape == (4, 3)
    assert features_of(model()) == learner.learner.features


class Steps(nn.Module):
    """Features of two axes; with ``pooled`` as many as the input is long."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.layer, self.pooled = nn.Linear(3, 2), pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.layer(x)
        return z.flatten(1) if self.pooled else z


def test_features_of_another_rank_or_size():
    with pytest.raises(il.ConfigError, match=r"a vector \(features,\) or a map.*got 2 axes \(5, 2\)"):
        il.relation(Steps(), input_shape=(5, 3))
    learner = il.relation(Steps(pooled=True), input_shape=(5, 3))
    with pytest.raises(il.ShapeError, match=r"features of shape \(10,\).*got \(8,\).*input_shape=\(4, 3\)"):
        learner.adapt(torch.randn(2, 4, 3), ["a", "b"])
