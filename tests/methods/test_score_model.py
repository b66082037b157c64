"""Score models: three ways to adapt behind one contract; files, seeds and resuming; what cannot be is said in one line."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Task, TaskFamily
from innerloop.engine import take
from innerloop.methods.score_model import SetLearner
from innerloop.objectives.denoising import Denoising, named
from innerloop.storage import load_tensors
from innerloop.tasks.densities.mixtures import MixtureTasks

WAYS = ("set", "maml", "reptile")


@pytest.fixture(autouse=True)
def small_numbers(double):
    """float64, for comparisons to the last digits."""


def points(shots=6, queries=6) -> TaskFamily:
    return il.tasks.mixtures(shots=shots, queries=queries)


def learner_of(adapt="set", seed=0, **options):
    torch.manual_seed(seed)
    net = il.models.denoising_mlp(2, width=8, depth=1, heads=2)
    nn.init.normal_(net.head.weight, std=0.2)  # zero by default, and then nothing reaches the layers before
    return il.score_model(net, adapt=adapt, **options)


def pictures_learner(seed=0):
    torch.manual_seed(seed)
    net = il.models.denoising_unet((1, 8, 8), channels=(8,), width=16, heads=2)
    with torch.no_grad():  # layers that begin at zero hide those behind them
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return il.score_model(net)


@pytest.mark.parametrize("adapt", WAYS)
def test_fits_samples_and_comes_back_from_a_file(adapt, tmp_path):
    learner, family = learner_of(adapt), points()
    done = il.fit(learner, family, steps=4, num_tasks=2, valid_tasks=2, quiet=True)
    assert done.metric == "denoising" and np.isfinite(done.best_value)
    shown = family.test.at(0, 0, 1).support[0]
    fitted = learner.adapt(shown)
    made = fitted.sample(5, seed=3, steps=6)
    assert made.shape == (5, 2) and torch.equal(made, fitted.sample(5, seed=3, steps=6))
    assert torch.allclose(made[:2], fitted.sample(2, seed=3, steps=6)) and not torch.equal(
        made, fitted.sample(5, seed=4)
    )
    density = fitted.log_density(made)
    assert fitted.exact and density.shape == (5,) and isinstance(fitted.log_density(made.numpy()), np.ndarray)
    fitted.save(tmp_path / "task.il")
    again = il.load(tmp_path / "task.il")
    assert torch.equal(again.sample(5, seed=3, steps=6), made) and torch.equal(again.log_density(made), density)
    assert again.num_examples == 6 and again.levels == fitted.levels == family.train.objective
    assert not any(part in (tmp_path / "task.il").read_bytes()[:100_000] for part in (b"pickle", b"torch.storage"))
    guided = fitted.sample(5, seed=3, steps=6, guidance=2.0)
    assert not torch.allclose(guided, made)
    assert not torch.allclose(fitted.unconditional().sample(5, seed=3, steps=6), made)


@pytest.mark.parametrize("adapt", ["set", "maml"])
def test_the_meta_gradient_is_that_of_differences(adapt):
    learner = learner_of(adapt, drop=0.0, whole=1.0, inner_lr=0.05, inner_steps=2)
    batch = points(4, 4).train.at(0, 0, 2)
    ready = learner.ready(batch, 0)
    start = {name: value.clone() for name, value in learner.meta().params.items()}
    generator = torch.Generator().manual_seed(1)
    way = {name: torch.randn(value.shape, generator=generator) for name, value in start.items()}

    def loss(by: float) -> float:
        meta = learner.meta()._replace(params={name: value + by * way[name] for name, value in start.items()})
        with torch.enable_grad():
            found = [learner.learner.meta_loss(meta, take(ready, i), 0)[0].detach() for i in range(2)]
        return float(sum(found) / 2)

    learner.backward(batch)
    slope = sum(float((p.grad * way[name]).sum()) for name, p in learner.model.named_parameters())
    assert slope == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-5) and abs(slope) > 1e-3


@pytest.mark.parametrize("make", [lambda: learner_of("maml", inner_lr=0.05), learner_of, pictures_learner])
def test_batched_and_looped_tasks_have_one_gradient(make):
    found = []
    for strategy in ("vmapped", "looped"):
        learner = make()
        learner.strategy = strategy
        generator = torch.Generator().manual_seed(0)
        size = (3, 4, 1, 8, 8) if hasattr(learner.model, "patch") else (3, 4, 2)
        sides = (torch.rand(size, generator=generator) for _ in range(2))
        learner.backward(Task(*sides, learner.task_objective, noise=torch.tensor([1, 2, 3])))
        found.append({name: p.grad for name, p in learner.model.named_parameters()})
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=1e-9, atol=1e-12), name
    assert any(bool(grad.abs().max() > 0) for grad in found[0].values())


@pytest.mark.parametrize("make", [learner_of, pictures_learner])
def test_the_order_of_the_support_does_not_matter_and_the_support_does(make):
    learner = make()
    size = (5, 1, 8, 8) if hasattr(learner.model, "patch") else (5, 2)
    shown = torch.rand(size, generator=torch.Generator().manual_seed(0))
    made = learner.adapt(shown).sample(3, steps=5)
    assert torch.allclose(learner.adapt(shown.flip(0)).sample(3, steps=5), made, atol=1e-9)
    assert not torch.allclose(learner.adapt(1 - shown).sample(3, steps=5), made, atol=1e-4)


def test_training_hides_some_of_the_support():
    pure = learner_of().pure
    keys, ones = torch.arange(4000) * 7919, torch.ones(5)
    learner = SetLearner(pure, drop=0.2, whole=0.5)
    counts = torch.vmap(lambda key: learner.drawn(key, ones))(keys)
    numbers = counts.sum(1)
    assert bool((counts.diff(dim=1) <= 0).all())  # the first few
    share = torch.bincount(numbers.long(), minlength=6) / len(keys)
    expected = torch.tensor([0.2, 0.06, 0.06, 0.06, 0.06, 0.56])  # the others: 1 to 5, each as often
    assert torch.allclose(share, expected, atol=0.03)
    assert bool((SetLearner(pure, drop=1.0, whole=0.0).drawn(keys[0], ones) == 0).all())


def test_what_is_hidden_is_not_read():
    net = pictures_learner().model
    x, sigma = torch.rand(2, 1, 8, 8), torch.ones(2)
    support, other = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    other[0] = support[0]
    counts = torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(net(x, sigma, support, counts), net(x, sigma, other, counts), atol=1e-12)
    assert torch.allclose(net(x, sigma, support, 0 * counts), net(x, sigma), atol=1e-12)
    assert torch.allclose(net(x, sigma, support, counts), net(x, sigma, support[:1]), atol=1e-12)


def test_it_learns_to_use_the_support():
    """Clouds that are small and far apart: who has seen a few points knows where the others are."""
    family = points(shots=8, queries=16)

    class Clouds(MixtureTasks):
        def from_keys(self, keys):
            task = super().from_keys(keys)
            centre = 3 * il.tasks.mixtures(parts=1).train.mixtures(keys).centres
            return dataclasses.replace(task, support=centre + 0.1 * task.support, query=centre + 0.1 * task.query)

    made = {}
    for split in ("train", "valid", "test"):
        own = getattr(family, split)
        made[split] = Clouds(split=split, dim=2, parts=4, shots=own.shots, queries=own.queries, dtype=None)
    clouds = TaskFamily("clouds", made["train"], made["valid"], made["test"], {})
    torch.manual_seed(0)
    learner = il.score_model(il.models.denoising_mlp(2, width=16, depth=1))
    il.fit(learner, clouds, steps=150, num_tasks=8, validate_every=0, outer_lr=5e-3, quiet=True)
    report = il.evaluate(learner, clouds.test, num_tasks=40, curve_steps=1)
    assert report.curve[1] < 0.8 * report.curve[0]


class Crash(Exception):
    pass


@pytest.mark.parametrize("adapt", WAYS)
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(adapt, tmp_path):
    settings = {"steps": 4, "num_tasks": 2, "valid_tasks": 2, "validate_every": 2, "checkpoint_every": 2, "quiet": True}
    whole = learner_of(adapt)
    il.fit(whole, points(), out=tmp_path / "whole", **settings)
    first = learner_of(adapt)
    backward, done = first.backward, []

    def crashing(*args, **kwargs):
        if len(done) == 3:
            raise Crash
        done.append(1)
        return backward(*args, **kwargs)

    first.backward = crashing
    with pytest.raises(Crash):
        il.fit(first, points(), out=tmp_path / "parts", **settings)
    second = learner_of(adapt, seed=9)
    il.fit(second, points(), out=tmp_path / "parts", resume=True, **settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    files = [
        load_tensors(tmp_path / part / "checkpoint.safetensors", "innerloop-checkpoint", 1)[0]
        for part in ("whole", "parts")
    ]
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())
    made = il.load(tmp_path / "whole").adapt(points().test.at(0, 0, 1).support[0]).sample(2, steps=4)
    assert torch.equal(made, il.load(tmp_path / "parts").adapt(points().test.at(0, 0, 1).support[0]).sample(2, steps=4))


def test_more_examples_are_as_if_all_had_been_shown(tmp_path):
    learner = learner_of()
    x = points().test.at(0, 0, 1).support[0]
    fitted = learner.adapt(x[:2]).learn(x[2:])
    assert torch.allclose(fitted.sample(2, steps=4), learner.adapt(x).sample(2, steps=4))
    fitted.save(tmp_path / "task.il", support=True)
    assert il.load(tmp_path / "task.il").num_examples == 6


def test_any_method_that_adapts_by_gradients_takes_the_problem():
    learner = il.maml(il.models.denoising_mlp(2, width=8, depth=1), inner_lr=0.01)
    il.fit(learner, points(), steps=1, num_tasks=2, validate_every=0, quiet=True)
    assert learner.adapt(points().test.at(0, 0, 1).support[0]).sample(2, steps=3).shape == (2, 2)


def test_a_denoiser_of_ones_own():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2)

        def forward(self, x, sigma):
            return self.net(torch.cat([x, sigma[:, None]], -1))

    learner = il.score_model(Mine(), adapt="maml")
    il.fit(learner, points(), steps=1, num_tasks=2, validate_every=0, quiet=True)
    with pytest.raises(il.ConfigError, match=r"forward\(x, sigma, support, counts\).*x, sigma"):
        il.score_model(Mine())


def test_the_objectives_name_makes_it_again():
    for made in (Denoising(), Denoising.of_spread(0.23), Denoising(p_mean=0.5)):
        assert named(json.loads(json.dumps(made.name))) == made
    assert named("mse") is None
    assert Denoising.of_spread(1.0).sigma_max == 160.0
    with pytest.raises(il.ConfigError, match="settings of denoising"):
        named('denoising {"sigma": 1}')


def test_a_denoiser_that_knows_the_spread_alone_has_a_loss_of_one():
    objective, key = Denoising(sigma_data=2.0), torch.tensor(3)
    x = 2 * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))

    def apply(x, sigma):
        return x * 4 / (4 + sigma[:, None] ** 2)

    # E|x - D|^2 = s^2 sigma^2 / (s^2 + sigma^2) for the best denoiser of N(0, s^2), whose weight is its inverse.
    assert float(objective.loss(apply, x, key)) == pytest.approx(1.0, abs=0.04)
    sigma = objective.levels(x, key).log()
    assert float(sigma.mean()) == pytest.approx(-1.2, abs=0.01) and float(sigma.std()) == pytest.approx(1.2, abs=0.01)


# ---- what cannot be --------------------------------------------------------------------------------------------------
def picture(value=None, side=8):
    made = torch.rand(1, side, side, generator=torch.Generator().manual_seed(side))
    return made if value is None else torch.full_like(made, value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (torch.zeros(0, 1, 8, 8), "at least one example, got none"),
        ([picture(), picture(side=12)], "one size, got .1, 8, 8. and .1, 12, 12.; resize"),
        (torch.stack([picture(0.0), picture(1.0)]), "pictures that show something, got only pictures of one value"),
        (torch.stack([picture(), picture(torch.nan)]), "finite numbers, got 64 NaN"),
        (torch.ones(2, 1, 8, 8, dtype=torch.int64), "floating-point examples"),
        (torch.rand(2, 3, 8, 8), "inputs of shape"),
        ("nothing-here", "shape of this learner's inputs is not known|nothing there"),
    ],
)
def test_what_is_no_support_is_said_in_one_line(given, says):
    with pytest.raises(il.InnerloopError, match=says) as caught:
        pictures_learner().adapt(given)
    assert "\n" not in str(caught.value)


def test_one_picture_is_enough_and_labels_are_refused():
    learner = pictures_learner()
    fitted = learner.adapt(picture()[None])
    assert fitted.sample(2, steps=2).shape == (2, 1, 8, 8) and not fitted.exact
    bound = fitted.log_density(torch.stack([picture(), picture()]), steps=4)
    assert bound.shape == (2,) and bool(bound[0] == bound[1])
    with pytest.raises(il.InputError, match="got y too; leave it out"):
        learner.adapt(picture()[None], ["a"])
    for wrong, says in (({"n": 0}, "n"), ({"steps": 0}, "steps"), ({"guidance": -1.0}, "guidance")):
        with pytest.raises(il.ConfigError, match=says):
            fitted.sample(**wrong)
    with pytest.raises(il.ShapeError, match="examples of shape"):
        fitted.log_density(torch.rand(2, 1, 12, 12))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"adapt": "sets"}, "adapt expected one of set, maml, reptile, got 'sets'"),
        ({"drop": 1.5}, "drop expected a share"),
        ({"drop": 0.6, "whole": 0.6}, "sum to at most 1"),
        ({"inner_lr": -1.0, "adapt": "maml"}, "inner_lr"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(il.ConfigError, match=says):
        il.score_model(il.models.denoising_mlp(2, width=8), **options)


def test_methods_that_read_labels_say_that_they_do_not_take_it():
    with pytest.raises(il.ConfigError, match="expected tasks of labelled examples"):
        il.fit(il.protonet(il.models.mlp(2, 4)), points(), steps=1, quiet=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: il.models.denoising_unet((1, 10, 10)), "multiples of 4, got 10 x 10"),
        (lambda: il.models.denoising_unet((1, 16, 16), channels=(12,)), "multiple of 8"),
        (lambda: il.models.denoising_unet((1, 16, 16), width=20), "multiple of 16"),
        (lambda: il.models.denoising_mlp(2, width=10), "multiple of heads"),
        (lambda: il.models.denoising_mlp(2, sigma_data=0.0), "sigma_data expected"),
        (lambda: il.tasks.mixtures(dim=3), "1 or 2, got 3"),
    ],
)
def test_sizes_that_cannot_be(make, says):
    with pytest.raises(il.InnerloopError, match=says):
        make()
