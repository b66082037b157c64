"""Layers that no inner step changes run once for a task, and the outer gradient is the one of running them at each step."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import innerloop as il
from innerloop.engine import Plan, phases
from innerloop.functional import PureModel
from innerloop.functional.embedded_once import unchanged
from innerloop.learners import GradientLearner


class InPlace(nn.Module):
    """Goes on in place with what its body gives."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = self.body(x)
        h += 1
        return self.head(h.relu_())


class Skips(nn.Module):
    """Sees what is in the middle of a row of layers, which it runs part by part."""

    def __init__(self):
        super().__init__()
        self.row = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))

    def forward(self, x):
        middle = self.row[:2](x)
        return self.row[4](middle + self.row[2:4](middle))


class HeadFirst(nn.Module):
    """Its body comes after its head's weights are used, and after its head."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        self.head = nn.Linear(64, 6)
        self.body = nn.Sequential(nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return self.body(self.head(self.flat(x) * self.head.weight.mean().detach()))


class Twice(nn.Module):
    """Calls one layer of its body twice."""

    def __init__(self):
        super().__init__()
        self.body, self.again = nn.Linear(64, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.again(self.again(self.body(x.flatten(1))).tanh()))


def convolutions(*, activation=None, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), activation or nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(144, 8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


MODELS = {
    "conv4": lambda: il.models.conv4((1, 8, 8), 3, filters=4),
    "mlp": lambda: il.models.mlp((1, 8, 8), 3, hidden=(8, 8), batch_norm=True),
    "row": convolutions,
    "dropout": lambda: convolutions(dropout=0.5),
    "in place": InPlace,
    "skips": Skips,
    "head first": HeadFirst,
    "twice": Twice,
}
HEADS = {"row": ["5.*", "7.*"], "dropout": ["5.*", "7.*"], "skips": ["row.4.*"]}


def tasks(padded=False, number=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, 2, 6, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.arange(6).remainder(3).expand(number, 6)
    mask = torch.ones(number, 6, dtype=torch.bool)
    if padded:
        mask[0, 4:] = False
    sides = [il.Examples(x[:, i], y, mask if padded else None) for i in range(2)]
    return il.Task(*sides, objective="cross_entropy", noise=torch.arange(number))


def learner_of(name, method=il.maml, **options):
    torch.manual_seed(0)
    made = method(MODELS[name](), inner_steps=4, adapt=HEADS.get(name, ["head.*"]), **options)
    return made.to(torch.float64)


@pytest.fixture
def seen(monkeypatch):
    """What each look at a support set has found, by layer; with ``seen.off`` nothing is looked for."""

    class Found(list):
        off = False

    found, see = Found(), PureModel.see

    def watched(self, *args, **kwargs):
        if found.off:
            return None
        result = see(self, *args, **kwargs)
        found.append(() if result is None else tuple(result.outputs))
        return result

    monkeypatch.setattr(PureModel, "see", watched)
    return found


def gradient(learner, batch):
    learner.zero_grad(set_to_none=True)
    learner.backward(batch)
    return torch.cat([p.grad.flatten() for p in learner.parameters()])


def both(learner, batch, seen):
    """Outer gradients with layers run once, and at every step."""
    seen.off = False
    once = gradient(learner, batch)
    seen.off = True
    return once, gradient(learner, batch)


def off_by(once, each):
    return float((once - each).norm() / each.norm())


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("method", [il.maml, il.fomaml, il.mamlpp], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_the_outer_gradient_is_the_same(name, method, strategy, seen):
    learner = learner_of(name, method)
    learner.strategy = strategy
    assert off_by(*both(learner, tasks(), seen)) < 1e-12


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("conv4", ("body",)),
        ("mlp", ("body",)),
        ("row", ("4",)),  # the last of those at the beginning
        ("dropout", ("2",)),  # the last before the dropout, which is another at each step
        ("in place", ("body",)),
        ("skips", ()),
        ("head first", ("flat",)),
        ("twice", ("body",)),
    ],
)
def test_which_layers_run_once(name, layers, seen):
    gradient(learner_of(name), tasks())
    assert set(seen) == {layers}


def test_what_comes_after_the_head_or_is_used_by_two_is_run_each_time(seen):
    assert [row.last for row in unchanged(HeadFirst(), ["head.weight"], True)] == ["flat", "body"]  # until it is run
    shared = nn.Tanh()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), shared, nn.Linear(6, 6), shared, nn.Linear(6, 3))
    learner = il.maml(net, inner_steps=3, adapt=["5.*"]).to(torch.float64)
    once, each = both(learner, tasks(), seen)
    assert set(seen) == {("1",)} and off_by(once, each) < 1e-12


@pytest.mark.parametrize(
    ("policy", "training", "layers"),
    [
        ("batch", True, ("4",)),
        ("none", True, ("4",)),
        ("frozen", True, ("4",)),
        ("running", True, ("0",)),
        ("running", False, ("4",)),
        ("per_step", True, ("0",)),
        ("per_step", False, ("0",)),
    ],
)
def test_norms_that_record_or_differ_by_step_are_run_each_time(policy, training, layers, seen):
    learner = learner_of("row", batch_norm=policy)
    once, each = both(learner, tasks(), seen)
    assert off_by(once, each) < 1e-12
    seen.off = False
    seen.clear()
    if training:
        gradient(learner, tasks())
    else:
        learner.adapt(tasks().support.x[0], tasks().support.y[0])
    assert set(seen) == {layers}


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("how", ["recompute", "truncated", "padded", "momentum", "float32"])
def test_whatever_the_loop_is_like(how, strategy, seen):
    options = {"inner_optimizer": "momentum"} if how == "momentum" else {}
    learner = learner_of("conv4", **options)
    batch = tasks(padded=how == "padded")
    learner.strategy, learner.recompute = strategy, 2 if how == "recompute" else False
    if how == "truncated":
        learner = il.MetaLearner.of(
            MODELS["conv4"](),
            rule=il.rules.SGD(0.1),
            learner=lambda pure, rule: GradientLearner(pure, rule, ("head.weight", "head.bias"), inner_steps=4),
            meta_gradient=lambda learner, engine: il.meta_gradients.Truncated(learner, engine, steps=2),
        ).to(torch.float64)
        learner.strategy = strategy
    if how == "float32":
        learner, batch = learner.to(torch.float32), tasks()
        batch = dataclasses.replace(
            batch,
            support=il.Examples(batch.support.x.float(), batch.support.y),
            query=il.Examples(batch.query.x.float(), batch.query.y),
        )
    once, each = both(learner, batch, seen)
    assert set(seen) == {("body",)}
    assert off_by(once, each) < (1e-6 if how == "float32" else 1e-12)


@pytest.mark.parametrize("method", [il.maml, il.fomaml], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", ["conv4", "dropout"])
def test_the_same_in_phases(name, method, seen):
    learner = learner_of(name, method)
    batch = learner.ready(tasks(), 0)
    each_step = learner.meta_gradient._cheap if method is il.fomaml else learner.learner
    found = phases.cut(each_step, learner.meta(), batch, 0)(learner.meta(), batch)[0]
    assert seen and all(seen)
    seen.off = True
    with learner.engine.forced(Plan("looped")):
        expected = learner.engine.mean_gradient(each_step, learner.meta(), batch, 0)[0]
    found, expected = (torch.cat([grads[key].flatten() for key in expected]) for grads in (found, expected))
    assert off_by(found, expected) < 1e-12


def test_more_inner_steps_cost_no_more_of_the_body():
    def flops(steps):
        learner = il.anil(MODELS["conv4"](), inner_steps=steps).to(torch.float64)
        learner.strategy = "looped"
        with FlopCounterMode(display=False) as counter:
            learner.backward(tasks())
        return counter.get_total_flops(), counter.get_flop_counts()["Global"][torch.ops.aten.convolution]

    (few, once), (many, again) = flops(2), flops(6)
    assert again == once and many < 1.05 * few


def test_mini_batches_and_somebodys_own_steps_are_left_alone(seen):
    class Own(GradientLearner):
        def step(self, meta, fast, batch, i):
            return super().step(meta, fast, il.Examples(batch.x * (i + 1), batch.y), i)

    def made(kind, **options):
        head = ("head.weight", "head.bias")
        return il.MetaLearner.of(
            MODELS["conv4"](),
            rule=il.rules.SGD(0.1),
            learner=lambda pure, rule: kind(pure, rule, head, inner_steps=3, **options),
            meta_gradient=il.meta_gradients.Backprop,
        ).to(torch.float64)

    gradient(made(Own), tasks())
    gradient(made(GradientLearner, inner_batch=2), tasks())
    assert seen == []
    gradient(made(GradientLearner), tasks())
    assert seen


def test_a_model_that_keeps_something_is_left_alone(seen):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))
            self.body, self.head = nn.Linear(64, 6), nn.Linear(6, 3)

        def forward(self, x):
            self.passes += 1
            return self.head(self.body(x.flatten(1)))

    learner = il.anil(Counts(), inner_steps=3).to(torch.float64)
    gradient(learner, tasks())
    assert set(seen) == {()}
