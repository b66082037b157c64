"""ALPaCA against what it should compute: batch posteriors, a Gaussian process over time, all ways to cut a stream into runs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.functional.bayesian_linear import Weights, posterior, symmetric


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner(outputs: int = 2, **options):
    """One whose learned numbers are no longer those that it begins with."""
    torch.manual_seed(0)
    made = il.alpaca(il.models.mlp(3, 4, hidden=(5,), activation="tanh"), outputs=outputs, **options).double()
    with torch.no_grad():
        for i, (name, p) in enumerate(made.rule_by_name().items()):
            p.add_(0.3 * drawn(*p.shape, seed=i))
            if name == "hazard":
                p.fill_(math.log(0.2 / 0.8))
    return made


def pieces(made, x):
    """Features, prior mean, prior covariance and noise, by plain formulas."""
    rule = {name: p.detach() for name, p in made.rule_by_name().items()}
    z = torch.cat([made.model(x).detach(), torch.ones(len(x), 1, dtype=x.dtype)], 1)
    lower = rule["factor"].tril(-1) + rule["factor"].diagonal().exp().diag()
    return z, rule["prior"].T, lower @ lower.T, (rule["log_noise"] + rule["noise_offsets"]).exp() + 1e-6


def normal_log_density(y, mean, variance):
    return (-0.5 * ((y - mean) ** 2 / variance + torch.log(2 * math.pi * variance))).sum(-1)


@pytest.mark.parametrize("shots", [1, 3, 4, 5, 40])
def test_one_by_one_is_all_at_once_is_the_normal_equations(shots):
    made = learner()
    x, y, asked = drawn(shots + 1, 3), drawn(shots + 1, 2, seed=1), drawn(7, 3, seed=2)
    whole = made.adapt(x, y)
    on = made.adapt(x[:1], y[:1])
    for i in range(1, len(x)):
        on = on.learn(x[i : i + 1], y[i : i + 1])
    z, mean, covariance, noise = pieces(made, x)
    q = pieces(made, asked)[0]
    precision = covariance.inverse() + z.T @ z
    weights = precision.inverse() @ (covariance.inverse() @ mean + z.T @ y)
    spread = ((1 + (q @ precision.inverse() * q).sum(1))[:, None] * noise).sqrt()
    for fitted in (whole, on):
        torch.testing.assert_close(fitted.predict(asked), q @ weights, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(fitted.predict_std(asked), spread, rtol=1e-9, atol=1e-9)
    assert on.num_examples == shots + 1


def test_padding_changes_nothing():
    for options in ({}, {"forget": 0.9}, {"changepoints": True, "runs": 3}):
        made = learner(**options)
        x, y, asked = drawn(1, 9, 3), drawn(1, 9, 2, seed=1), Examples(drawn(1, 4, 3, seed=2), drawn(1, 4, 2, seed=3))
        mask = torch.tensor([[True, False, True, True, False, False, True, True, False]])
        spoiled = Task(Examples(torch.where(mask[..., None], x, 50.0), y, mask), asked)
        kept = Task(Examples(x[mask][None], y[mask][None]), asked)
        torch.testing.assert_close(made.predict_queries(spoiled), made.predict_queries(kept), rtol=1e-10, atol=1e-10)
        losses = [float(made.backward(task)["loss"]) for task in (spoiled, kept)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_the_outer_loss_is_the_log_density_of_the_queries():
    made = learner()
    x, y = drawn(1, 6, 3), drawn(1, 6, 2, seed=1)
    asked = Examples(drawn(1, 4, 3, seed=2), drawn(1, 4, 2, seed=3))
    fitted = made.adapt(x[0], y[0])
    mean, sd = fitted.predict(asked.x[0]), fitted.predict_std(asked.x[0])
    expected = -normal_log_density(asked.y[0], mean, sd**2).mean()
    assert float(made.backward(Task(Examples(x, y), asked))["loss"]) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("keep", [0.5, 0.9, 1.0])
def test_forgetting_is_a_gaussian_process_over_time(keep):
    """Weights that drift and are pulled to the prior: covariances fall by sqrt(keep) from one example to the next."""
    made = learner(forget=keep)
    x, y = drawn(12, 3), drawn(12, 2, seed=1)
    z, mean, covariance, noise = pieces(made, x)
    steps = torch.arange(12.0, dtype=torch.float64)
    joint = (z @ covariance @ z.T) * math.sqrt(keep) ** (steps[:, None] - steps).abs()
    seen = joint[:11, :11] + torch.eye(11, dtype=torch.float64)
    solved = torch.linalg.solve(seen, torch.cat([joint[:11, 11:], y[:11] - z[:11] @ mean], 1))
    variance = 1 + joint[11, 11] - joint[11, :11] @ solved[:, 0]
    expected = z[11] @ mean + joint[11, :11] @ solved[:, 1:]
    fitted = made.adapt(x[:4], y[:4]).learn(x[4:11], y[4:11])
    torch.testing.assert_close(fitted.predict(x[11:])[0], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fitted.predict_std(x[11:])[0], (variance * noise).sqrt(), rtol=1e-9, atol=1e-9)


def test_the_covariance_never_exceeds_the_priors():
    """One input again and again, with a forgetting under which dividing by it blows up."""
    torch.manual_seed(0)
    made = il.alpaca(il.models.mlp(3, 32), forget=0.93)
    fitted = made.adapt(torch.ones(1, 3), torch.ones(1, 1))
    prior = fitted.learner.prior(fitted.meta, 1, False)
    now, plain = Weights(prior.mean, prior.covariance), prior.covariance
    z = torch.cat([made.model(torch.ones(1, 3)), torch.ones(1, 1)], 1)[0].detach()
    for _ in range(3_000):
        now = now.after(now.seen_at(z), torch.ones(1)).towards(prior, 0.93)
        along = plain @ z
        plain = (plain - along[:, None] * along / (0.93 + along @ z)) / 0.93
    apart = torch.linalg.eigvalsh((prior.covariance - now.covariance).detach().double())
    assert apart.min() > -1e-5 * float(prior.covariance.diagonal().max())
    assert torch.linalg.eigvalsh(now.covariance.detach().double()).min() > 0
    assert not plain.abs().max() < 1e15, "the textbook's update, which this guards against"
    assert float(z @ now.mean.detach()) < 1.0 and float(z @ now.mean.detach()) > 0.7


def test_single_precision_stays_near_the_batch_posterior():
    made = il.alpaca(il.models.mlp(3, 16))
    x = drawn(20_000, 3).float()
    y = torch.sin(x[:, :1]) + 0.1 * drawn(20_000, 1, seed=1).float()
    asked = drawn(50, 3, seed=2).float()
    on, whole = made.adapt(x[:10], y[:10]).learn(x[10:], y[10:]), made.adapt(x, y)
    off = (on.predict(asked) - whole.predict(asked)).abs() / whole.predict_std(asked)
    assert off.max() < 0.02, "of the spread"


def brute_force(made, x, y, hazard):
    """For each way to cut the stream into runs: (log probability with all targets, length of the last run)."""
    z, mean, covariance, noise = pieces(made, x)
    found = []
    for cuts in itertools.product(
        [False, True], repeat=len(x)
    ):  # a run may begin before each example, the first one too
        total, begin = 0.0, 0
        for t, cut in enumerate(cuts):
            if cut:
                begin = t
            total += math.log(hazard if cut else 1 - hazard)
            before = (
                posterior(Weights(mean, covariance), z[begin:t], y[begin:t]) if t > begin else Weights(mean, covariance)
            )
            at, variance = before.at(z[t : t + 1])
            total += float(normal_log_density(y[t], at[0], variance[0] * noise))
        found.append((total, len(x) - begin, not any(cuts)))
    return found


def test_the_mixture_is_that_over_all_ways_to_cut_the_stream():
    made = learner(changepoints=True, runs=8, recent=2)
    x, y = drawn(6, 3), drawn(6, 2, seed=1)
    found = brute_force(made, x, y, 0.2)
    logs = torch.tensor([one[0] for one in found], dtype=torch.float64)
    whole = float(torch.logsumexp(logs, 0))
    fitted = made.adapt(x[:2], y[:2]).learn(x[2:], y[2:])
    recent = torch.tensor([one[1] <= 2 for one in found])
    expected = float(torch.logsumexp(logs[recent], 0)) - whole
    assert fitted.change_probability == pytest.approx(math.exp(expected), rel=1e-8)
    task = Task(Examples(x[None, :4], y[None, :4]), Examples(x[None, 4:], y[None, 4:]))
    assert float(made.backward(task)["loss"]) == pytest.approx(-whole / 6, rel=1e-9), "the density of the whole stream"
    assert float(fitted.fast.chances.exp().sum()) == pytest.approx(1.0)


def test_few_runs_are_kept_and_stay_a_distribution():
    made = learner(changepoints=True, runs=2)
    fitted = made.adapt(drawn(1, 3), drawn(1, 2))
    for i in range(60):
        fitted = fitted.learn(drawn(1, 3, seed=i), drawn(1, 2, seed=i + 100))
        assert float(fitted.fast.chances.exp().sum()) == pytest.approx(1.0)
        assert 0 <= fitted.change_probability <= 1 and fitted.predict_std(drawn(1, 3)).isfinite().all()
    assert fitted.fast.covariance.shape == (2, 5, 5), "the state does not grow"


def test_a_change_is_noticed_and_the_start_is_none():
    """Lines whose slope jumps: the features are the inputs, so nothing has to be trained."""
    made = il.alpaca(il.models.mlp(1, 1, hidden=()), outputs=1, changepoints=True, noise=0.01).double()
    with torch.no_grad():
        made.model.head.weight.fill_(1.0)
        made.model.head.bias.zero_()
    x = drawn(60, 1)
    y = torch.where(torch.arange(60)[:, None] < 30, 2 * x, -2 * x) + 0.05 * drawn(60, 1, seed=1)
    fitted = made.adapt(x[:1], y[:1])
    seen = []
    for i in range(1, 60):
        fitted = fitted.learn(x[i : i + 1], y[i : i + 1])
        seen.append(fitted.change_probability)
    assert max(seen[:28]) < 0.2, "nothing happened yet"
    assert max(seen[29:34]) > 0.95 and max(seen[40:]) < 0.2
    assert float(fitted.predict(torch.ones(1, 1).double())) == pytest.approx(-2, abs=0.1)
    stays = il.alpaca(il.models.mlp(1, 1, hidden=()), outputs=1, noise=0.01).double()
    stays.model.load_state_dict(made.model.state_dict())
    assert abs(float(stays.adapt(x, y).predict(torch.ones(1, 1).double()))) < 1


def test_spread_is_right_where_the_prior_is():
    """Tasks drawn from the prior itself: as many targets in the 90 % interval as there should be."""
    made = learner(outputs=1)
    inside = []
    for i in range(300):
        x = drawn(12, 3, seed=3 * i)
        z, mean, covariance, noise = pieces(made, x)
        weights = mean + torch.linalg.cholesky(covariance) @ drawn(5, 1, seed=3 * i + 1) * noise.sqrt()
        y = z @ weights + noise.sqrt() * drawn(12, 1, seed=3 * i + 2)
        fitted = made.adapt(x[:4], y[:4])
        inside.append(((y[4:] - fitted.predict(x[4:])).abs() < 1.6449 * fitted.predict_std(x[4:])).double().mean())
    assert float(torch.stack(inside).mean()) == pytest.approx(0.9, abs=0.02)


def test_forgetting_is_learned():
    tasks = il.tasks.drifting_sines(shots=20, queries=5, drift=0.1)
    made = il.alpaca(il.models.mlp(1, 16), forget="learned")
    before = float(made.rule_by_name()["kept"].detach())
    il.fit(made, tasks, steps=20, num_tasks=8, outer_lr=0.02, validate_every=0, quiet=True)
    assert float(made.rule_by_name()["kept"].detach()) != before
    assert 0 < torch.sigmoid(made.rule_by_name()["kept"]) < 1


def test_targets_say_how_many_outputs_there_are(tmp_path):
    x, y = drawn(5, 6).float(), drawn(5, 2, seed=1).float()
    made = il.alpaca(il.models.mlp(6, 8))
    assert made.adapt(x, y).predict(x).shape == (5, 2), "before any training, too"
    il.fit(made, il.tasks.road(shots=5, queries=3), steps=2, out=tmp_path / "run", validate_every=0, quiet=True)
    assert made.rule_by_name()["prior"].shape == (3, 9)
    again = il.load(tmp_path / "run")
    wide = drawn(5, 3).float()
    assert torch.equal(again.adapt(x, wide).predict(x), made.adapt(x, wide).predict(x))
    with pytest.raises(il.ShapeError, match="targets expected 3 numbers an example, as in training, got 2"):
        made.adapt(x, y)
    plain, changing = (il.alpaca(il.models.mlp(6, 8), outputs=3, changepoints=c) for c in (False, True))
    assert changing.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["rule.hazard"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 0.0}, "noise expected a finite variance above 0.000001, got 0.0"),
        ({"forget": 0.0}, "forget expected a share above 0"),
        ({"forget": "learnt"}, "forget expected a share above 0 and at most 1, 'learned' or None, got 'learnt'"),
        ({"changepoints": 1}, "changepoints expected True or False, got 1"),
        ({"hazard": 1.0}, "hazard expected a chance between 0 and 1, got 1.0"),
        ({"runs": 1}, "runs expected an integer of at least 2, got 1"),
        ({"recent": 0}, "recent expected an integer of at least 1, got 0"),
        ({"outputs": 0}, "outputs expected at least 1, got 0"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(il.ConfigError, match=message):
        il.alpaca(il.models.mlp(6, 32), **options)


def test_changes_are_not_looked_for_unasked():
    fitted = il.alpaca(il.models.mlp(3, 4)).adapt(drawn(3, 3).float(), drawn(3, 1).float())
    with pytest.raises(
        il.ConfigError, match="change_probability expected a learner that looks for changes, got alpaca"
    ):
        _ = fitted.change_probability
    with pytest.raises(il.ConfigError, match="got maml without"):
        _ = il.maml(il.models.mlp(3, 1)).adapt(drawn(3, 3).float(), drawn(3, 1).float()).change_probability


def test_the_factor_is_symmetric_to_the_last_bit():
    made = symmetric(drawn(9, 9))
    assert torch.equal(made, made.T) and torch.linalg.eigvalsh(made).min() > 0
