"""Neural processes against direct computations: the mean code, attention, the bound, and the likelihood that is reported."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import innerloop as il
from innerloop import keys
from innerloop.core import Examples, Task
from innerloop.engine import take
from innerloop.evaluation.evaluate import log_likelihoods
from innerloop.methods.anp import Latent, divergence
from innerloop.models.cross_attention import CrossAttention, ResidualAttention

pytestmark = pytest.mark.usefixtures("double")
METHODS = {
    "cnp": lambda **o: il.cnp(raw(), outputs=1, width=8, **o),
    "anp": lambda **o: il.anp(raw(), outputs=1, width=8, heads=2, **o),
    "attentive cnp": lambda **o: il.anp(raw(), outputs=1, width=8, heads=2, latent=False, **o),
    "pfn": lambda **o: il.pfn(raw(), outputs=1, width=8, heads=2, depth=2, **o),
    "cnp of two encoders": lambda **o: il.cnp(raw(), outputs=1, width=8, encoders=2, pooled_layers=2, **o),
    "anp as benchmarked": lambda **o: il.anp(
        raw(), outputs=1, width=8, heads=2, self_attention=0, residual=True, train_samples=3, **o
    ),
}


def raw() -> torch.nn.Module:
    return il.models.mlp(1, None, hidden=())


def batch(shots: int = 5, queries: int = 4, tasks: int = 3) -> Task:
    generator = torch.Generator().manual_seed(2)
    sides = [Examples(*(torch.randn(tasks, n, 1, generator=generator) for _ in range(2))) for n in (shots, queries)]
    return Task(*sides, noise=keys.task_keys(0, "test", 0, 0, tasks))


def padded(task: Task, extra: int = 3) -> Task:
    """The same tasks with examples at the end that do not count."""

    def side(s: Examples) -> Examples:
        tasks, count = s.y.shape[:2]
        x, y = (torch.cat([v, torch.full((tasks, extra, 1), 7.0)], 1) for v in (s.x, s.y))
        return Examples(x, y, torch.arange(count + extra).expand(tasks, -1) < count)

    return dataclasses.replace(task, support=side(task.support), query=side(task.query))


def net(learner: il.MetaLearner, part: str, x: Tensor) -> Tensor:
    """A plain stack of layers of the method, run by hand."""
    weights = dict(learner.named_parameters())
    numbers = sorted({int(name.split(".")[2]) for name in weights if name.startswith(f"model.{part}.")})
    for i in numbers:
        x = x @ weights[f"model.{part}.{i}.weight"].T + weights[f"model.{part}.{i}.bias"]
        x = x.relu() if i != numbers[-1] else x
    return x.detach()


def test_cnp_is_the_decoded_mean_of_codes():
    learner, task = METHODS["cnp"](min_sd=0.2), batch()
    mask = torch.tensor([[True] * 5, [True, False, True, True, False], [False] * 4 + [True]])
    task = dataclasses.replace(task, support=dataclasses.replace(task.support, mask=mask))
    found = learner.predict_queries(task)
    total = 0.0
    for i in range(3):
        x, y = task.support.x[i][mask[i]], task.support.y[i][mask[i]]
        r = net(learner, "encoder", torch.cat([x, y], 1)).mean(0)

        def decoded(x: Tensor, r: Tensor = r) -> tuple[Tensor, Tensor]:
            out = net(learner, "decoder", torch.cat([x, r.expand(len(x), -1)], 1))
            return out[:, :1], 0.2 + 0.8 * F.softplus(out[:, 1:])

        mean, sd = decoded(task.query.x[i])
        assert torch.allclose(found[i], mean, atol=1e-12)
        fitted = learner.adapt(x, y)
        assert torch.allclose(fitted.predict_std(task.query.x[i]), sd) and float(sd.min()) > 0.2
        allx, ally = torch.cat([x, task.query.x[i]]), torch.cat([y, task.query.y[i]])
        total -= float(torch.distributions.Normal(*decoded(allx)).log_prob(ally).mean()) / 3
    assert float(learner.backward(task)["loss"]) == pytest.approx(total, rel=1e-10)


def test_scoring_the_queries_alone():
    learner, task = METHODS["cnp"](score_support=False), batch()
    metrics = learner.backward(task)
    assert float(metrics["loss"]) == pytest.approx(-float(metrics["log_likelihood"]))
    both = METHODS["cnp"]()
    both.load_state_dict(learner.state_dict())
    assert float(both.backward(task)["loss"]) != pytest.approx(float(metrics["loss"]))


def test_attention_is_the_direct_formula():
    torch.manual_seed(0)
    layer = CrossAttention(6, 2)
    q, k, v = torch.randn(3, 6), torch.randn(5, 6), torch.randn(5, 6)
    counts = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    found = layer(q, k, v, counts).detach().numpy()
    parts = [(layer.query, q), (layer.key, k), (layer.value, v)]
    q, k, v = ((x @ w.weight.T + (0 if w.bias is None else w.bias)).detach().numpy() for w, x in parts)
    mixed = np.zeros((3, 6))
    for head in (slice(0, 3), slice(3, 6)):
        for i in range(3):
            weights = np.array([np.exp(q[i, head] @ k[j, head] / math.sqrt(3)) * float(counts[j]) for j in range(5)])
            mixed[i, head] = (weights / weights.sum()) @ v[:, head]
    assert np.allclose(found, mixed @ layer.out.weight.detach().numpy().T + layer.out.bias.detach().numpy())
    none = layer(torch.randn(3, 6), torch.randn(5, 6), torch.randn(5, 6), torch.zeros(5))
    assert torch.allclose(none, layer.out.bias.expand(3, -1)), "an empty support set says nothing"


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("method", METHODS)
def test_padding_does_not_count(method, strategy):
    torch.manual_seed(1)
    learner, found = METHODS[method](), []
    for task in (batch(), padded(batch())):
        learner.strategy = strategy
        learner.zero_grad()
        metrics = learner.backward(task)
        likely = log_likelihoods(learner, task, 1)
        found.append(
            [
                *metrics.values(),
                *(p.grad.clone() for p in learner.parameters()),
                learner.predict_queries(task)[:, :4],
                likely,
            ]
        )
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_divergence_is_torchs():
    q, p = (Latent(torch.randn(4), torch.rand(4) + 0.1) for _ in range(2))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(*q), torch.distributions.Normal(*p)).sum()
    assert float(divergence(q, p)) == pytest.approx(float(expected))


def test_the_latent_variable_follows_the_tasks_key_alone():
    """Equal keys give equal losses; the bound's divergence belongs to support and query against support."""
    learner, task = METHODS["anp"](), batch()
    first, again = (learner.backward(task) for _ in range(2))
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in again.items()} and float(first["kl"]) > 0
    other = dataclasses.replace(task, noise=task.noise + 1)
    moved = learner.backward(other)
    assert float(moved["loss"]) != float(first["loss"]) and float(moved["kl"]) == pytest.approx(float(first["kl"]))
    assert "kl" not in METHODS["attentive cnp"]().backward(task)


def test_samples_make_a_mixture():
    """Mean, spread and log-likelihood of a prediction with samples are those of the even mixture, one sample at a time."""
    learner, task = METHODS["anp"](samples=5), batch()
    inner, meta = learner.learner.in_evaluation(), learner.meta()
    one = take(task, 0)
    fast = inner.adapt(meta, one, 1)
    assert fast.latent.shape == (5, 8)
    means, sds = [], []
    for i in range(5):
        single = dataclasses.replace(fast, latent=fast.latent[i : i + 1])
        means.append(inner.predict(meta, single, one.query.x))
        sds.append(inner.predict_std(meta, single, one.query.x))
    mean, sd = torch.stack(means), torch.stack(sds)
    assert torch.allclose(inner.predict(meta, fast, one.query.x), mean.mean(0))
    spread = inner.predict_std(meta, fast, one.query.x)
    assert torch.allclose(spread.square(), sd.square().mean(0) + mean.var(0, unbiased=False))
    density = torch.distributions.Normal(mean, sd).log_prob(one.query.y).exp().mean(0).log().squeeze(-1)
    assert torch.allclose(inner.log_density(meta, fast, one.query), density)


@pytest.mark.parametrize("method", METHODS)
def test_log_likelihood_is_a_metric(method):
    learner, tasks = METHODS[method](), il.tasks.gaussian_process(dtype="float64")
    report = il.evaluate(learner, tasks.test, num_tasks=4, metric="log_likelihood", curve_steps=1)
    assert report.metric == "log_likelihood" and len(report.curve) == 2 and report.curve[1] == report.mean
    batch = tasks.test.at(0, 0, 4)
    for i, value in enumerate(report.per_task):
        n, m = int(batch.support.mask[i].sum()), int(batch.query.mask[i].sum())
        fitted = learner.adapt(batch.support.x[i, :n], batch.support.y[i, :n])
        query = Examples(batch.query.x[i, :m], batch.query.y[i, :m])
        expected = fitted.learner.log_density(fitted.meta, fitted.fast, query).mean()
        assert value == pytest.approx(float(expected), abs=1e-9)
    done = il.fit(learner, tasks, steps=2, valid_metric="log_likelihood", valid_tasks=3, num_tasks=2, quiet=True)
    assert done.best_value is not None


def test_methods_without_a_distribution_say_so(tmp_path):
    learner, tasks = il.maml(il.models.mlp(1, 1)), il.tasks.sinusoid()
    with pytest.raises(il.ConfigError, match="maml predicts no distribution"):
        il.evaluate(learner, tasks.test, num_tasks=2, metric="log_likelihood")
    with pytest.raises(il.ConfigError, match=r"unknown metric 'log_likelihod'.*log_likelihood"):
        il.evaluate(learner, tasks.test, num_tasks=2, metric="log_likelihod")
    with pytest.raises(il.ConfigError, match="valid_metric expected one that maml has an answer to"):
        il.fit(learner, tasks, steps=1, valid_metric="log_likelihood", quiet=True)
    task = batch()
    with pytest.raises(il.ConfigError, match="expected a method that predicts a distribution"):
        learner.adapt(task.support.x[0], task.support.y[0]).predict_std(task.query.x[0])
    fitted = METHODS["cnp"](loss="mse").adapt(task.support.x[0], task.support.y[0])
    with pytest.raises(il.ConfigError, match="a loss of its own"):
        fitted.predict_std(task.query.x[0])
    named = il.cnp(il.models.mlp(4, None, hidden=()), outputs=2).adapt(torch.randn(4, 4), list("abab"))
    with pytest.raises(il.ConfigError, match="use predict_proba"):
        named.predict_std(torch.randn(2, 4))
    assert METHODS["cnp"]().adapt(task.support.x[0], task.support.y[0]).predict_std(np.ones((2, 1))).shape == (2, 1)


def test_classes_are_averaged_one_by_one():
    learner = il.cnp(il.models.mlp(2, None, hidden=()), outputs=3, width=8)
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 0, 2])
    codes = net(learner, "encoder", torch.cat([x, torch.zeros(6, 3)], 1))
    query = torch.randn(4, 2)
    logits = [
        net(learner, "decoder", torch.cat([query, codes[y == k].mean(0).expand(4, -1)], 1))[:, 0] for k in range(3)
    ]
    assert torch.allclose(learner.adapt(x, y).outputs(query), torch.stack(logits, 1))


def test_two_encoders_and_layers_behind_their_means():
    learner, task = METHODS["cnp of two encoders"](), batch()
    x, y, asked = task.support.x[0], task.support.y[0], task.query.x[0]
    means = [net_of(learner, part, torch.cat([x, y], 1)).mean(0) for part in ("encoder", "more_encoders.0")]
    r = torch.cat([net_of(learner, f"pooled.{i}", mean[None])[0] for i, mean in enumerate(means)])
    expected = net(learner, "decoder", torch.cat([asked, r.expand(4, -1)], 1))[:, :1]
    fitted = learner.adapt(x, y)
    assert torch.allclose(fitted.predict(asked), expected, atol=1e-12)
    little = learner.adapt(x[:2], y[:2])
    assert torch.allclose(little.learn(x[2:], y[2:]).predict(asked), expected, atol=1e-12)
    assert "encoders" not in METHODS["cnp"]().options and learner.options["encoders"] == 2


def net_of(learner: il.MetaLearner, part: str, x: Tensor) -> Tensor:
    """One of the method's networks, as a module."""
    return learner.model.get_submodule(part)(x).detach()


def test_the_importance_weighted_bound_by_hand():
    """Three values of the latent variable, drawn from what all targets say of it."""
    learner, task = METHODS["anp as benchmarked"](), batch(tasks=2)
    single = METHODS["anp"](self_attention=0, residual=True)
    single.load_state_dict(learner.state_dict())
    total = 0.0
    for i in range(2):
        x, y = (torch.cat([getattr(side, v)[i] for side in (task.support, task.query)]) for v in "xy")

        def belief(count: int, x: Tensor = x, y: Tensor = y) -> torch.distributions.Normal:
            code = net(learner, "latent_encoder", torch.cat([x, y], 1)[:count]).mean(0)
            mean, raw = net(learner, "latent_head", code[None])[0].split(8)
            return torch.distributions.Normal(mean, 0.1 + 0.9 * torch.sigmoid(raw))

        p, q = belief(5), belief(9)
        draws = keys.normal(task.noise[i], (3, 8), 42, torch.float64)
        weights = []
        for u in q.mean + q.stddev * draws:
            where = net_of(learner, "keys", x)
            codes = net(learner, "encoder", torch.cat([x, y], 1)[:5])
            attention = learner.model.get_submodule("attention")
            r = attention(where, where[:5], codes, torch.ones(5)).detach()
            out = net(learner, "decoder", torch.cat([x, r, u.expand(9, -1)], 1))
            likely = torch.distributions.Normal(out[:, :1], 0.1 + 0.9 * F.softplus(out[:, 1:])).log_prob(y).sum()
            weights.append(float(likely + p.log_prob(u).sum() - q.log_prob(u).sum()))
        total -= float(torch.logsumexp(torch.tensor(weights), 0) - math.log(3)) / 9 / 2
    assert float(learner.backward(task)["loss"]) == pytest.approx(total, rel=1e-10)
    assert float(single.backward(task)["loss"]) != pytest.approx(total, rel=1e-3)


def test_residual_attention_by_hand():
    torch.manual_seed(3)
    layer = ResidualAttention(6, 2)
    q, k, v, counts = torch.randn(3, 6), torch.randn(5, 6), torch.randn(5, 6), torch.ones(2, 5)
    read = F.layer_norm(q + layer.attention(q, k, v, counts), (6,))
    out = F.layer_norm(read + F.relu(read @ layer.out.weight.T + layer.out.bias), (6,))
    assert torch.allclose(layer(q, k, v, counts), out) and out.shape == (2, 3, 6)


def test_what_cannot_be_built():
    for make, message in (
        (lambda: METHODS["cnp"](min_sd=-0.1), "min_sd expected a number from 0 to below 1"),
        (lambda: METHODS["cnp"](encoder_layers=0), "layers expected at least 1, got 0"),
        (lambda: il.anp(raw(), outputs=1, width=10, heads=4), "width expected a multiple of heads"),
        (lambda: METHODS["anp"](samples=-1), "samples expected an integer of at least 0"),
        (lambda: METHODS["anp"](train_samples=0), "train_samples expected an integer of at least 1"),
        (
            lambda: METHODS["anp"](train_samples=2, loss=F.l1_loss),
            "expected a bound on the likelihood, got a loss of its own",
        ),
        (
            lambda: METHODS["attentive cnp"](train_samples=2),
            "expected a bound on the likelihood, got no latent variable",
        ),
        (lambda: METHODS["cnp"](encoders=0), "encoders expected an integer of at least 1"),
        (lambda: METHODS["anp"](init="zeros"), "init expected 'torch' or 'glorot', got 'zeros'"),
        (lambda: il.cnp(raw(), outputs=0), "outputs expected at least 1"),
        (lambda: il.cnp(torch.nn.Flatten()), "input shape of Flatten is not known"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            make()
    with pytest.raises(il.ShapeError, match="targets"):
        METHODS["cnp"]().backward(
            Task(
                Examples(torch.randn(2, 3, 1), torch.randn(2, 3, 2)),
                Examples(torch.randn(2, 3, 1), torch.randn(2, 3, 2)),
            )
        )


def test_glorot_weights_hand_on_what_they_are_given():
    torch.manual_seed(0)
    networks = il.anp(raw(), outputs=1, width=64, heads=4, init="glorot").model
    value = networks.get_submodule("attention.value")
    x = torch.randn(500, 64)
    assert abs(value(x).std().item() - 1) < 0.1 and not value.bias.any()
    # Attention still begins with what is alike.
    assert torch.equal(networks.get_submodule("attention.query").weight, networks.get_submodule("attention.key").weight)
