"""DKT: the marginal likelihood and the posterior on an embedding against torch and numpy, padding, classes, own loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.data.counts import as_counts, dense
from innerloop.tasks.curves.gaussian_process import exact_on_split

pytestmark = pytest.mark.usefixtures("double")
NORMAL = torch.distributions.MultivariateNormal


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))


def values(shots: int = 6, queries: int = 4, outputs: int = 2, num_tasks: int = 3) -> Task:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(num_tasks, shots + queries, n, generator=generator) for n in (4, outputs))
    return Task(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]))


def classes(ways: int = 3, shots: int = 2, queries: int = 2, num_tasks: int = 3) -> Task:
    generator = torch.Generator().manual_seed(2)

    def side(each: int) -> Examples:
        y = torch.arange(ways).repeat(each).expand(num_tasks, -1).contiguous()
        return Examples(torch.randn(num_tasks, ways * each, 4, generator=generator) + y[..., None], y)

    return Task(side(shots), side(queries))


def numbers(learner: il.MetaLearner) -> dict[str, torch.Tensor]:
    """The process's, as they are used: parameters that require slopes."""
    found = dict(learner.named_parameters())
    return {name.removeprefix("model.process."): p for name, p in found.items() if "process" in name}


def covariance(kernel: str, own: dict[str, torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """By hand, from the learned logarithms."""
    scale = own[f"log_{kernel}_scale"].exp() + 1e-4
    if kernel == "cosine":
        return scale**2 * nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    if kernel == "linear":
        return scale**2 * (a[:, None] * b).sum(-1) / a.shape[1]
    length = (own[f"log_{kernel}_length"].exp() + 1e-4) * math.sqrt(a.shape[1])
    square = ((a[:, None] - b) / length).square().sum(-1)
    if kernel == "rbf":
        return scale**2 * torch.exp(-square / 2)
    r = (5 * square + 1e-30).sqrt()
    return scale**2 * (1 + r + r**2 / 3) * torch.exp(-r)


def moved(learner: il.MetaLearner) -> il.MetaLearner:
    """All of the process's numbers away from where they begin."""
    with torch.no_grad():
        for i, p in enumerate(numbers(learner).values()):
            p += 0.1 * (i + 1)
    return learner


def side_of(task: Task, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([task.support.x[i], task.query.x[i]]), torch.cat([task.support.y[i], task.query.y[i]])


@pytest.mark.parametrize("kernel", ["rbf", "matern52", "linear", "cosine"])
@pytest.mark.parametrize("kind", ["values", "classes"])
@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_the_loss_is_torchs_density_and_the_gradient_follows(kernel, kind, strategy):
    task, model = (values() if kind == "values" else classes()), net()
    learner = moved(il.dkt(model, kernel=kernel, noise=0.3))
    learner.strategy = strategy
    own = {name: p.detach().clone().requires_grad_() for name, p in numbers(learner).items()}
    found = []
    for i in range(3):
        x, y = side_of(task, i)
        if kind == "classes":
            y = 2 * nn.functional.one_hot(y, 3).double() - 1
        mean = own["mean"] if kind == "values" else 0 * own["mean"] + 2 / 3 - 1  # of classes: equal shares, not learned
        noise = own["log_noise"].exp() + 1e-6
        z = model(x)
        given = covariance(kernel, own, z, z) + noise * torch.eye(len(x))
        found.append(-NORMAL(mean.expand(len(x)), given).log_prob(y.T).mean() / len(x))
    loss = torch.stack(found).mean()
    expected = torch.autograd.grad(loss, [*model.parameters(), *own.values()])
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(loss.detach()), rel=1e-10)
    slopes = [p.grad for p in learner.parameters()]
    assert len(slopes) == len(expected)
    for mine, theirs in zip(slopes, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-7, atol=1e-10)
    learned = dict(zip(own, slopes[-len(own) :], strict=True))
    assert kind == "values" or float(learned.pop("mean")) == 0
    assert all(float(slope.abs().max()) > 1e-5 for slope in learned.values())


@pytest.mark.parametrize("kernel", ["rbf", "matern52", "linear", "cosine"])
def test_predictions_are_the_naive_posterior(kernel):
    task, model = values(), net()
    learner = moved(il.dkt(model, kernel=kernel))
    own = {name: p.detach() for name, p in numbers(learner).items()}
    z, q = model(task.support.x[0]).detach(), model(task.query.x[0]).detach()
    noise = own["log_noise"].exp() + 1e-6
    inverse = torch.linalg.inv(covariance(kernel, own, z, z) + noise * torch.eye(6))
    across = covariance(kernel, own, q, z)
    mean = own["mean"] + across @ inverse @ (task.support.y[0] - own["mean"])
    variance = covariance(kernel, own, q, q).diagonal() + noise - (across @ inverse * across).sum(-1)
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    assert torch.allclose(fitted.predict(task.query.x[0]), mean, atol=1e-10)
    assert torch.allclose(fitted.predict_std(task.query.x[0]) ** 2, variance[:, None].expand(-1, 2), atol=1e-10)
    density = fitted.learner.log_density(fitted.meta, fitted.fast, Examples(task.query.x[0], task.query.y[0]))
    expected = torch.distributions.Normal(mean, variance.sqrt()[:, None]).log_prob(task.query.y[0]).sum(-1)
    assert torch.allclose(density, expected, atol=1e-9)


def test_probabilities_are_bayes_rule():
    """Of -1 and +1 around the posterior means: how likely each class's signs are, of all classes' signs."""
    task, model = classes(), net()
    learner = moved(il.dkt(model))
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    found = fitted.learner.distribution(fitted.meta, fitted.fast, model(task.query.x[0]).detach())
    signs = 2 * torch.eye(3) - 1
    likely = torch.distributions.Normal(found.mean[:, None], found.sd[:, None, None]).log_prob(signs).sum(-1)
    assert torch.allclose(fitted.predict_proba(task.query.x[0]), torch.softmax(likely, -1), atol=1e-12)
    assert torch.equal(fitted.predict(task.query.x[0]), found.mean.argmax(-1))


@pytest.mark.parametrize(
    "options", [{}, {"kernel": "cosine", "norm_embedding": True}, {"ard": True}, {"kernel": "rbf+linear"}]
)
@pytest.mark.parametrize("kind", ["values", "classes"])
def test_padding_has_exactly_no_influence(kind, options):
    task = values(num_tasks=2) if kind == "values" else classes(num_tasks=2)

    def padded(x_fill: float, y_fill: int) -> Task:
        sides = []
        for side in (task.support, task.query):
            x = torch.cat([side.x, torch.full_like(side.x[:, :4], x_fill)], 1)
            y = torch.cat([side.y, torch.full_like(side.y[:, :4], y_fill)], 1)
            sides.append(Examples(x, y, torch.arange(x.shape[1]).expand(2, -1) < side.x.shape[1]))
        return Task(*sides, class_ids=None if kind == "values" else torch.arange(3).expand(2, -1))

    found = []
    for tasks in (padded(0.0, 0), padded(900.0, 2)):
        learner = moved(il.dkt(net(), **options))
        metrics = learner.backward(tasks)
        predictions = learner.predict_queries(tasks)[:, : task.query.x.shape[1]]
        found.append([*metrics.values(), predictions, *(p.grad for p in learner.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    plain = moved(il.dkt(net(), **options))
    metrics = plain.backward(task)
    expected = [*metrics.values(), plain.predict_queries(task), *(p.grad for p in plain.parameters())]
    for a, b in zip(expected, found[0], strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_class_without_support_is_never_the_answer():
    task = classes(num_tasks=1)
    wide = Task(task.support, task.query, class_ids=torch.arange(4).expand(1, -1))
    logits = il.dkt(net()).predict_queries(wide)
    assert bool((logits[..., 3] == -torch.inf).all()) and logits[..., :3].isfinite().all()


def test_learn_is_adapting_to_all():
    task = values(num_tasks=1)
    x, y, q = task.support.x[0], task.support.y[0], task.query.x[0]
    fitted = il.dkt(net()).adapt(x[:4], y[:4])
    before = fitted.predict_std(q)
    fitted = fitted.learn(x[4:], y[4:])
    whole = il.dkt(net()).adapt(x, y)
    assert torch.allclose(fitted.predict(q), whole.predict(q), atol=1e-12)
    assert torch.allclose(fitted.predict_std(q), whole.predict_std(q), atol=1e-12)
    assert bool((fitted.predict_std(q) < before).all())


def test_equal_inputs_are_no_trouble():
    """The same support example 30 times, with no noise to speak of."""
    x, y = torch.ones(30, 4), torch.ones(30, 1)
    fitted = il.dkt(net(), noise=1.1e-6).adapt(x, y)
    assert torch.allclose(fitted.predict(x[:1]), y[:1], atol=1e-3) and fitted.predict_std(x[:1]).isfinite().all()


def test_its_own_kernel_is_found():
    """On curves of one process, without an embedding: the numbers come out, and the gap to the exact posterior closes."""
    tasks = il.tasks.gaussian_process(length=(0.4, 0.4), scale=(0.7, 0.7), noise=0.1, shots=10, queries=10)
    learner = il.dkt(il.models.mlp(1, None, hidden=()))
    il.fit(learner, tasks, steps=100, outer_lr=0.08, schedule="cosine", num_tasks=8, validate_every=0, quiet=True)
    own = numbers(learner)
    assert float(own["log_rbf_length"].detach().exp()) == pytest.approx(0.4, rel=0.1)
    assert float(own["log_noise"].detach().exp()) == pytest.approx(0.01, rel=0.1)
    reached = il.evaluate(learner, tasks.test, num_tasks=100, metric="log_likelihood", baselines=False).per_task
    gap = float(exact_on_split(tasks.test, 100).mean()) - np.mean(reached)
    assert -0.01 < gap < 0.05


def test_a_loss_of_ones_own_trains_the_posterior():
    task, model = values(num_tasks=1), net()
    learner = il.dkt(model, loss="mse")
    own = {name: p.detach() for name, p in numbers(learner).items()}
    z, q = model(task.support.x[0]), model(task.query.x[0])
    given = covariance("rbf", own, z, z) + (own["log_noise"].exp() + 1e-6) * torch.eye(6)
    error = (
        (covariance("rbf", own, q, z) @ torch.linalg.inv(given) @ task.support.y[0] - task.query.y[0]).square().mean()
    )
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(error.detach()))
    for p, expected in zip(learner.parameters(), torch.autograd.grad(error, list(model.parameters())), strict=False):
        assert torch.allclose(p.grad, expected, rtol=1e-7, atol=1e-10)
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    with pytest.raises(il.ConfigError, match="its spread was not"):
        fitted.predict_std(task.query.x[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "rbff"}, "did you mean 'rbf'"),
        ({"kernel": "hamming"}, "kernel expected one of rbf, "),
        ({"noise": 0.0}, "noise expected a finite variance above 0.000001, got 0.0"),
        ({"noise": math.nan}, "noise expected a finite variance"),
        ({"noise": "small"}, "noise expected a finite variance"),
        ({"kernel": None}, "kernel expected one of rbf, .*got 'None'"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(il.ConfigError, match=message):
        il.dkt(net(), **options)


def test_an_input_shape_is_asked_for_where_it_is_needed():
    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    with pytest.raises(il.ConfigError, match="input shape of Sequential is not known"):
        il.dkt(model, ard=True)
    learner = il.dkt(model, ard=True, input_shape=(2, 2))
    assert numbers(learner)["log_rbf_length"].shape == (4,)


def test_more_points_than_are_feasible_are_one_line():
    x = np.zeros((4_001, 4))
    with pytest.raises(il.InputError, match=r"at most 4,000 examples.* got 4,001"):
        il.dkt(net()).adapt(x, x[:, :1])


def packed_task(num_tasks: int = 2) -> Task:
    generator = torch.Generator().manual_seed(5)

    def side(examples: int) -> Examples:
        full = (torch.rand(num_tasks * examples, 12, generator=generator) < 0.5) * torch.randint(
            1, 5, (num_tasks * examples, 12), generator=generator
        )
        rows = as_counts(full.double()).packed(width=12, dtype=torch.float64)
        y = (torch.arange(examples) % 2).expand(num_tasks, -1)
        return Examples(rows.reshape(num_tasks, examples, 2, 12), y.contiguous())

    return Task(side(6), side(5))


def alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tanimoto's coefficient of counts, by hand."""
    a, b = (dense(rows, 12) for rows in (a, b))
    least, most = torch.minimum(a[:, None], b), torch.maximum(a[:, None], b)
    return least.sum(-1) / most.sum(-1)


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_tanimoto_compares_the_inputs_beside_the_embedding(strategy):
    task, model = packed_task(), il.models.counts_mlp(12, None, hidden=(5, 3))
    learner = moved(il.dkt(model, kernel="tanimoto+rbf", noise=0.3))
    learner.strategy = strategy
    own = {name: p.detach().clone() for name, p in numbers(learner).items()}
    found = []
    for i in range(2):
        x, y = side_of(task, i)
        signs = 2 * nn.functional.one_hot(y, 2).double() - 1
        z = model(x)
        scale = own["log_tanimoto_scale"].exp() + 1e-4
        given = scale**2 * alike(x, x) + covariance("rbf", own, z, z)
        given = given + (own["log_noise"].exp() + 1e-6) * torch.eye(len(x))
        found.append(-NORMAL(torch.zeros(len(x)), given).log_prob(signs.T).mean() / len(x))
    loss = torch.stack(found).mean()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert float(learner.backward(task)["loss"]) == pytest.approx(float(loss.detach()), rel=1e-6)
    for mine, theirs in zip(learner.parameters(), expected, strict=False):
        assert torch.allclose(mine.grad, theirs, rtol=1e-5, atol=1e-8)


def test_tanimoto_needs_a_model_of_sparse_rows():
    with pytest.raises(il.ConfigError, match="counts_mlp, got Sequential"):
        il.dkt(net(), kernel="tanimoto")


def test_a_tasks_own_scales_are_the_most_probable_ones():
    task = packed_task(1)
    learner = il.dkt(
        il.models.counts_mlp(12, None, hidden=(5, 3)), kernel="tanimoto+rbf", scale_steps=30, scale_spread=0.7
    )
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    own = fitted.fast.own.clone().requires_grad_()
    of = {name: p.detach() for name, p in numbers(learner).items()}
    z = learner.model.model(task.support.x[0]).detach()
    y = 2 * task.support.y[0].double() - 1
    scales = [of[f"log_{name}_scale"].exp() + 1e-4 for name in ("tanimoto", "rbf")]
    plain = [alike(task.support.x[0], task.support.x[0]), covariance("rbf", of, z, z) / scales[1] ** 2]
    given = sum(s**2 * f.exp() * k for s, f, k in zip(scales, own, plain, strict=False))
    given = given + (of["log_noise"].exp() + 1e-6) * own[2].exp() * torch.eye(6)
    likely = NORMAL(torch.zeros(6), given).log_prob(y) - (own / 0.7).square().sum() / 2
    slope = torch.autograd.grad(likely, own)[0]
    assert float(slope.abs().max()) < 1e-4 and float(own.abs().max()) > 1e-2
    # In meta-training all tasks have the same ones.
    same = il.dkt(il.models.counts_mlp(12, None, hidden=(5, 3)), kernel="tanimoto+rbf")
    same.load_state_dict(learner.state_dict())
    assert float(learner.backward(task)["loss"]) == float(same.backward(task)["loss"])
