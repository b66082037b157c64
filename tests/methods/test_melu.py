"""MeLU: the inner loop leaves the embedding as it is, and the outer loss reaches it all the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop as il
from innerloop.errors import ConfigError


def net():
    torch.manual_seed(0)
    return il.models.items_mlp(3, 1, items=(6,), width=2, hidden=(5,)).double()


def tasks():
    generator = torch.Generator().manual_seed(0)
    sides = []
    for rows in (4, 3):
        items = torch.randint(0, 6, (2, rows, 1), generator=generator).double()
        x = torch.cat([items, torch.randn(2, rows, 2, generator=generator, dtype=torch.float64)], -1)
        sides.append(il.Examples(x, torch.randn(2, rows, 1, generator=generator, dtype=torch.float64)))
    return il.Task(*sides)


def test_the_step_and_the_meta_gradient_by_hand():
    """Two steps on the decision layers of a copy, the query loss through them, with torch's own autograd."""
    model, batch, rate = net(), tasks(), 0.1
    learner = il.melu(model, inner_lr=rate, inner_steps=2)
    learner.backward(batch)
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}

    def loss(values, side, i):
        return F.mse_loss(torch.func.functional_call(model, values, (side.x[i],)), side.y[i])

    total = torch.zeros((), dtype=torch.float64)
    for i in range(2):
        values = dict(params)
        for _ in range(2):
            decide = [name for name in values if name != "vectors"]
            grads = torch.autograd.grad(loss(values, batch.support, i), [values[n] for n in decide], create_graph=True)
            values |= {n: values[n] - rate * g for n, g in zip(decide, grads, strict=True)}
        total = total + loss(values, batch.query, i) / 2
    total.backward()
    for name, p in learner.model.named_parameters():
        torch.testing.assert_close(p.grad, params[name].grad, rtol=1e-9, atol=1e-12)
    assert params["vectors"].grad.abs().sum() > 0


def test_adapting_leaves_the_vectors_of_items():
    learner = il.melu(net(), inner_lr=0.5, inner_steps=3)
    assert set(learner.learner.adapted) == {"body.0.weight", "body.0.bias", "head.weight", "head.bias"}
    batch = tasks()
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    same = il.maml(net(), inner_lr=0.5, inner_steps=3, freeze=["vectors"]).adapt(batch.support.x[0], batch.support.y[0])
    torch.testing.assert_close(fitted.predict(batch.query.x[0]), same.predict(batch.query.x[0]))
    whole = il.maml(net(), inner_lr=0.5, inner_steps=3).adapt(batch.support.x[0], batch.support.y[0])
    assert not torch.allclose(fitted.predict(batch.query.x[0]), whole.predict(batch.query.x[0]))


def test_the_embedding_of_another_net_is_its_first_layer_or_what_is_named():
    plain = il.models.mlp(2, 1, hidden=(4, 3))
    names = [name for name, _ in plain.named_parameters()]
    assert il.melu(plain).learner.adapted == tuple(names[2:])
    assert il.melu(plain, embedding=["body.*"]).learner.adapted == tuple(n for n in names if not n.startswith("body."))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    tied[2].weight = tied[0].weight
    assert il.melu(tied).learner.adapted == ("2.bias",)  # a tensor that the embedding has is the embedding's


def test_what_cannot_be_is_one_line():
    with pytest.raises(ConfigError, match="the model is one layer"):
        il.melu(nn.Linear(2, 1))
    with pytest.raises(ConfigError, match="matches no parameter"):
        il.melu(net(), embedding=["vector"])
    with pytest.raises(ConfigError, match="inner_lr expected"):
        il.melu(net(), inner_lr=-1.0)


def test_defaults_are_the_papers_and_the_command_lines_are_for_scaled_values():
    learner = il.melu(net())
    assert learner.options["inner_lr"] == 5e-6 and learner.inner_steps == 1
    assert il.methods.settings("melu", "regression")["algorithm"]["inner_lr"] > 0.01
