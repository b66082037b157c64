"""What a module keeps and reaches beside its parameters: as its own copies in plain autograd, task by task, or refused."""

from __future__ import annotations

import copy
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = pytest.mark.usefixtures("double")
LR, STEPS = 0.3, 2


class Net(nn.Module):
    """Two layers, and between them whatever a test puts there."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 4)
        self.out = nn.Linear(4, 2)
        self.set_up()

    def set_up(self) -> None: ...

    def between(self, h):
        return torch.tanh(h)

    def forward(self, x):
        return self.out(self.between(self.lin(x)))


class OwnStatistics(Net):
    """Batch norm by hand; the statistics are assigned."""

    def set_up(self) -> None:
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.tensor(0))

    def between(self, h):
        if self.training:
            mean = h.mean(0)
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.count = self.count + 1
        else:
            mean = self.mean
        return torch.tanh(h - mean)


class InPlace(OwnStatistics):
    """The same, written in place, and read in training too."""

    def between(self, h):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * h.mean(0).detach())
            self.count += 1
        return torch.tanh(h - self.mean)


class OwnBatchNorm(Net):
    """A subclass with a forward of its own."""

    class Norm(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(2 * x)

    def set_up(self) -> None:
        self.norm = self.Norm(4)

    def between(self, h):
        return torch.tanh(self.norm(h))


class Hidden(Net):
    """A state that every pass goes on from, with its graph."""

    def set_up(self) -> None:
        self.register_buffer("h", torch.zeros(4))

    def between(self, h):
        self.h = torch.tanh(h.mean(0) + 0.5 * self.h)
        return torch.tanh(h + self.h)


class OtherInTraining(Net):
    """Scaled and shifted in training alone."""

    def between(self, h):
        return torch.tanh(h) * (0.5 if self.training else 1.0)


class Attention(Net):
    """Whose layers have a fused path in evaluation."""

    def set_up(self) -> None:
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), 1)
        self.att = nn.MultiheadAttention(4, 2, batch_first=True)

    def between(self, h):
        h = self.enc(torch.stack([h, h * h], 1))
        return self.att(h, h, h, need_weights=False)[0].mean(1)


class Keeps(Net):
    """What a pass leaves on the module and nobody reads."""

    def set_up(self) -> None:
        self.last, self.calls, self.log, self.seen = None, 0, [], {"shapes": []}

    def between(self, h):
        self.last = h
        self.calls += 1
        self.log.append(h)
        self.seen["shapes"].append(h.shape)
        return torch.tanh(h)


class SetsUp(Net):
    """Data-dependent initialisation, once, in whole numbers and truth values too."""

    def set_up(self) -> None:
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("shift", torch.zeros(4))

    def between(self, h):
        if self.training and not self.ready:
            self.shift.copy_(h.mean(0).detach())
            self.ready.fill_(True)
        return torch.tanh(h - self.shift)


class Tracked(Net):
    """An instance norm with running statistics."""

    def set_up(self) -> None:
        self.norm = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)

    def between(self, h):
        return self.norm(torch.stack([h, h * h, h + 1], 2)).mean(2)


class Grows(Net):
    """A table in a buffer that is made longer where it is too short."""

    def set_up(self) -> None:
        self.register_buffer("table", torch.ones(1), persistent=False)

    def between(self, h):
        if len(self.table) < len(h):
            self.table = 1 + torch.arange(len(h), dtype=h.dtype)
        return torch.tanh(h * self.table[: len(h), None])


STATEFUL = [OwnStatistics, InPlace, OwnBatchNorm, Hidden, OtherInTraining, Attention, Keeps, SetsUp, Tracked]


def made(kind) -> nn.Module:
    torch.manual_seed(1)
    return kind()


def tasks(num_tasks: int = 4) -> Task:
    g = torch.Generator().manual_seed(0)

    def side(n: int) -> Examples:
        return Examples(torch.randn(num_tasks, n, 3, generator=g), torch.randint(0, 2, (num_tasks, n), generator=g))

    return Task(side(5), side(4))


def put(net: nn.Module, names: list[str], values: list[torch.Tensor]) -> None:
    for name, value in zip(names, values, strict=True):
        layer, _, key = name.rpartition(".")
        net.get_submodule(layer)._parameters[key] = value


@sdpa_kernel(SDPBackend.MATH)  # the fused one has no second derivative
def plain(net: nn.Module, batch: Task, training: bool, steps: int = STEPS):
    """(query loss, gradient of their mean, predictions, buffers after each task), each task on a copy of its own."""
    names = [n for n, _ in net.named_parameters()]
    own = list(net.parameters())
    losses, predictions, buffers = [], [], []
    for i in range(len(batch.support.y)):
        here = copy.deepcopy(net).train(training)
        values = own
        put(here, names, values)
        for _ in range(steps):
            loss = F.cross_entropy(here(batch.support.x[i]), batch.support.y[i])
            grads = torch.autograd.grad(loss, values, create_graph=True)
            values = [v - LR * g for v, g in zip(values, grads, strict=True)]
            put(here, names, values)
        predictions.append(here(batch.query.x[i]))
        losses.append(F.cross_entropy(predictions[-1], batch.query.y[i]))
        buffers.append({n: b.detach().double() for n, b in here.named_buffers()})
    loss = torch.stack(losses).mean()
    mean = {n: torch.stack([b[n] for b in buffers]).mean(0) for n in buffers[0]}
    return loss.detach(), torch.autograd.grad(loss, own), torch.stack(predictions).detach(), mean


@pytest.mark.parametrize("strategy", ["looped", "auto"])
@pytest.mark.parametrize("kind", STATEFUL, ids=lambda k: k.__name__)
def test_training_and_evaluation_are_the_modules_own(kind, strategy):
    net, batch = made(kind), tasks()
    learner = il.maml(net, inner_lr=LR, inner_steps=STEPS)
    learner.strategy = strategy
    before = copy.deepcopy(learner.state_dict())
    assert torch.allclose(learner.predict_queries(batch), plain(net, batch, False)[2], rtol=1e-9, atol=1e-12)
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    first = fitted.predict_proba(batch.query.x[0])
    learner.adapt(batch.support.x[1], batch.support.y[1]).predict(batch.query.x[1])
    assert torch.equal(fitted.predict_proba(batch.query.x[0]), first)
    assert all(torch.equal(v, before[n]) for n, v in learner.state_dict().items())
    loss, grads, _, buffers = plain(net, batch, True)
    assert torch.allclose(learner.backward(batch)["loss"], loss, rtol=1e-9)
    for p, g in zip(learner.model.parameters(), grads, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-8, atol=1e-11)
    for name, value in buffers.items():
        assert torch.allclose(learner.model.get_buffer(name).double(), value, rtol=1e-9), name
        net.get_buffer(name).copy_(value)
    assert torch.allclose(learner.predict_queries(batch), plain(net, batch, False)[2], rtol=1e-9, atol=1e-12)
    assert torch.equal(fitted.predict_proba(batch.query.x[0]), first), "a snapshot"
    assert all(not torch.is_tensor(v) for m in learner.model.modules() for v in vars(m).values())


# ---- parameters that are reached by other ways -------------------------------------------------------------------------


class Listed(Net):
    def set_up(self) -> None:
        self.ws = [self.lin.weight]

    def forward(self, x):
        return self.out(torch.tanh(x @ self.ws[0].T))


class Mapped(Listed):
    def set_up(self) -> None:
        self.ws = {0: self.lin.weight}


class Unregistered(Net):
    def set_up(self) -> None:
        self.more = [nn.Linear(4, 4)]

    def between(self, h):
        return torch.tanh(self.more[0](h))


class Closed(Net):
    def set_up(self) -> None:
        self.run = lambda h: self.out(torch.tanh(h))

    def forward(self, x):
        return self.run(self.lin(x))


class Partial(Net):
    def set_up(self) -> None:
        self.run = partial(F.linear, weight=nn.Parameter(torch.eye(4)))

    def between(self, h):
        return torch.tanh(self.run(h))


class Hooked(Net):
    def set_up(self) -> None:
        w = nn.Parameter(torch.ones(4))
        self.lin.register_forward_hook(lambda _, inputs, output: output * w)


class Computed(Net):
    def set_up(self) -> None:
        self.turned = self.lin.weight.t()

    def forward(self, x):
        return self.out(torch.tanh(x @ self.turned))


class Lazily(Net):
    def between(self, h):
        if not hasattr(self, "late"):
            self.late = nn.Linear(4, 4)
        return torch.tanh(self.late(h))


class Again(Net):
    reentrant = False

    def between(self, h):
        return checkpoint(lambda v: torch.tanh(self.out.weight.sum() * v), h, use_reentrant=self.reentrant)


class AgainReentrant(Again):
    reentrant = True


class AgainInTraining(Again):
    def between(self, h):
        return super().between(h) if self.training else torch.tanh(self.out.weight.sum() * h)


class GoesOn(Net):
    """A state in no buffer."""

    def set_up(self) -> None:
        self.state = {"h": None}

    def between(self, h):
        old = self.state["h"]
        self.state["h"] = h.mean(0) if old is None else 0.5 * old + h.mean(0)
        return torch.tanh(h + self.state["h"])


class MeanOfCalls(GoesOn):
    """Which is the same again for the same inputs."""

    def between(self, h):
        self.state.setdefault("all", []).append(h.mean(0).detach())
        return torch.tanh(h - sum(self.state["all"]) / len(self.state["all"]))


class InAnObject(GoesOn):
    def set_up(self) -> None:
        self.cache = SimpleNamespace(h=None)

    def between(self, h):
        old, self.cache.h = self.cache.h, h.mean(0)
        return torch.tanh(h if old is None else h + old)


class WithoutFirstValue(Net):
    def set_up(self) -> None:
        self.register_buffer("h", None)

    def between(self, h):
        old, self.h = self.h, h.mean(0)
        return torch.tanh(h if old is None else h + old)


class PlainStatistics(Net):
    """Running averages in a tensor that is no buffer."""

    def set_up(self) -> None:
        self.mean = torch.zeros(4)

    def between(self, h):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.mean(0).detach()
        return torch.tanh(h - self.mean)


class Clamps(Net):
    def between(self, h):
        self.out.weight.data.clamp_(-0.1, 0.1)
        return torch.tanh(h)


class Normalises(Net):
    def between(self, h):
        with torch.no_grad():
            self.out.weight.div_(self.out.weight.norm())
        return torch.tanh(h)


class MeanInAParameter(Net):
    def set_up(self) -> None:
        self.mean = nn.Parameter(torch.zeros(4), requires_grad=False)

    def between(self, h):
        if self.training:
            self.mean.data = 0.9 * self.mean + 0.1 * h.mean(0).detach()
        return torch.tanh(h - self.mean)


class MaxNorm(Net):
    def between(self, h):
        return torch.tanh(h + F.embedding((h[:, 0] > 0).long(), self.out.weight, max_norm=0.1))


class Sparse(Net):
    def set_up(self) -> None:
        self.table = nn.Parameter(torch.ones(2, 4))

    def between(self, h):
        return torch.tanh(h + F.embedding((h[:, 0] > 0).long(), self.table, sparse=True))


REFUSED = {
    Clamps: "writes its parameter out.weight, which tasks share; compute another tensor",
    Normalises: "writes its parameter out.weight",
    MeanInAParameter: "writes its parameter mean.*register_buffer",
    MaxNorm: "writes its parameter out.weight.*torch.renorm",
    Sparse: "gives table a sparse gradient.*leave sparse=True out",
    Listed: "lin.weight by another way.*ParameterList",
    Mapped: "lin.weight by another way",
    Unregistered: r"more\[0\].weight.*no registered parameter.*ModuleList",
    Closed: "the values of out.weight.*no registered parameter",
    Partial: "run.*no registered parameter",
    Hooked: r"shape \(4,\), which is trainable and no registered parameter",
    Computed: "turned.*no registered parameter",
    Lazily: "no registered parameter",
    Again: "gradient by .*out.weight.*torch.utils.checkpoint",
    AgainReentrant: "gradient by .*out.weight.*torch.utils.checkpoint",
    AgainInTraining: "gradient by .*out.weight.*torch.utils.checkpoint",
    GoesOn: "state, which would leak.*register_buffer",
    MeanOfCalls: "state, which would leak",
    InAnObject: "cache, which would leak",
    WithoutFirstValue: "h, which would leak.*with a first value",
    PlainStatistics: "mean, which would leak.*register_buffer",
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("make", [il.maml, il.protonet], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", REFUSED, ids=lambda k: k.__name__)
def test_what_cannot_be_right_is_refused(kind, make):
    batch = tasks()
    with pytest.raises(il.ConfigError, match=REFUSED[kind]) as caught:
        make(made(kind)).backward(batch)
    assert "\n" not in str(caught.value)
    with pytest.raises(il.ConfigError):
        make(made(kind)).adapt(batch.support.x[0], batch.support.y[0])


class Bound(Net):
    """Ways round about that lead to the same modules."""

    def set_up(self) -> None:
        self.run, self.layers, self.half = self.out.forward, [self.lin], partial(self.lin.__call__)

    def forward(self, x):
        return self.run(torch.tanh(self.layers[0](x)) + torch.tanh(self.half(x)))


class Frozen(Net):
    """A network that is hidden so that it is not trained."""

    def set_up(self) -> None:
        self.teacher = [nn.Linear(4, 4).requires_grad_(False)]

    def between(self, h):
        return torch.tanh(self.teacher[0](h))


class Cached(Net):
    """A weight that is computed in forward once a call and kept."""

    def between(self, h):
        self.cache = self.out.weight.T @ self.out.weight
        return torch.tanh(h @ self.cache)


class WantsAll(Net):
    """Takes no smaller part of a task."""

    def between(self, h):
        assert len(h) in (4, 5)
        return torch.tanh(h - h.mean(0))


@pytest.mark.parametrize("kind", [Bound, Frozen, Cached, Grows, WantsAll], ids=lambda k: k.__name__)
def test_what_is_right_is_taken(kind):
    net, batch = made(kind), tasks()
    learner = il.maml(net, inner_lr=LR, inner_steps=STEPS)
    loss, grads, predictions, _ = plain(net, batch, False)
    assert torch.allclose(learner.backward(batch)["loss"], loss, rtol=1e-9)
    for p, g in zip(learner.model.parameters(), grads, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-8, atol=1e-11)
    assert torch.allclose(learner.predict_queries(batch), predictions, rtol=1e-9)


@pytest.mark.parametrize("policy", ["per_step", "frozen", "none"])
def test_a_policy_that_cannot_hold_is_refused(policy):
    learner = il.maml(made(OwnStatistics), batch_norm=policy)
    with pytest.raises(il.ConfigError, match=f"batch_norm='{policy}' expected.*mean by itself.*'running'"):
        learner.backward(tasks())


def test_one_that_is_left_to_the_module_is_told():
    learner = il.maml(made(OwnStatistics))
    learner.backward(tasks())
    assert any("writes count, mean" in note and "batch_norm='batch'" in note for note in learner.notes)


@pytest.mark.parametrize("kind", [OwnStatistics, Hidden, Keeps], ids=lambda k: k.__name__)
def test_a_task_file_holds_its_state(kind, tmp_path):
    batch, learner = tasks(), il.maml(made(kind), inner_lr=LR, inner_steps=STEPS)
    learner.backward(batch)
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    fitted.save(tmp_path / "task.il")
    again = il.load(tmp_path / "task.il", model=kind())
    expected = fitted.predict_proba(batch.query.x[0])
    assert torch.equal(again.predict_proba(batch.query.x[0]), expected)
    assert torch.equal(again.predict_proba(batch.query.x[0]), expected)


@pytest.mark.parametrize("how", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_weights_that_are_computed_before_forward(how):
    net = made(Net)
    net.lin = how(net.lin)
    net(torch.randn(2, 3))
    batch, learner = tasks(), il.maml(net, inner_lr=LR, inner_steps=STEPS)
    before = copy.deepcopy(learner.state_dict())
    predictions = learner.predict_queries(batch)
    assert all(torch.equal(v, before[n]) for n, v in learner.state_dict().items())
    learner.backward(batch)
    assert all(p.grad.abs().sum() > 0 for p in learner.model.parameters())
    assert predictions.isfinite().all()


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.jit.trace(m, torch.zeros(2, 3))])
def test_modules_that_torch_runs_by_itself_are_refused(wrap):
    with pytest.raises(il.ConfigError, match=r"expected plain modules.*give the module that it was made of"):
        il.maml(wrap(made(Net)))


def test_what_cannot_be_copied_is_refused():
    net = made(Net)
    net.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(il.ConfigError, match=r"copy.deepcopy can copy, got: cannot pickle"):
        il.maml(net)


class HandMade(Net):
    """Statistics that are written in another order than they are registered in."""

    def set_up(self) -> None:
        self.register_buffer("var", torch.ones(4))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(4), persistent=False)

    def between(self, h):
        if not self.training:
            return torch.tanh((h - self.mean) / self.var.sqrt())
        self.count += 1
        self.mean.lerp_(h.mean(0).detach(), 0.1)
        self.var.copy_(0.9 * self.var + 0.1 * h.var(0).detach())
        return torch.tanh((h - h.mean(0)) / h.std(0))


@pytest.mark.parametrize("make", [il.maml, il.protonet], ids=lambda f: f.__name__)
def test_a_first_task_is_a_snapshot_too_and_its_file_opens(make, tmp_path):
    batch = tasks()
    learner = make(made(HandMade))
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    first = fitted.predict_proba(batch.query.x[0])
    again = il.load(fitted.save(tmp_path / "task.il"), model=made(HandMade))
    learner.backward(batch)
    assert torch.equal(fitted.predict_proba(batch.query.x[0]), first)
    assert torch.equal(again.predict_proba(batch.query.x[0]), first)


class WritesInputs(nn.Module):
    def __init__(self, how) -> None:
        super().__init__()
        self.net, self.how = nn.Linear(3, 2), how

    def forward(self, x):
        return self.net(self.how(x))


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_inputs_that_a_pass_writes_are_copies(strategy):
    batch, found = tasks(), []
    for how in (lambda x: 2 * x + 1, lambda x: x.mul_(2).add_(1)):
        learner = il.maml(made(lambda h=how: WritesInputs(h)), inner_lr=LR, inner_steps=STEPS)
        learner.strategy = strategy
        given = copy.deepcopy(batch)
        loss = learner.backward(given)["loss"]
        shown = learner.adapt(given.support.x[0], given.support.y[0]).predict_proba(given.query.x[0])
        assert torch.equal(given.support.x, batch.support.x) and torch.equal(given.query.x, batch.query.x)
        found.append([loss, shown, *(p.grad for p in learner.model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_first_layer_of_torchs_that_works_in_place():
    batch = tasks()
    il.maml(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))).backward(given := copy.deepcopy(batch))
    assert torch.equal(given.support.x, batch.support.x) and torch.equal(given.query.x, batch.query.x)


def test_a_dictionary_that_a_pass_takes_from_and_sizes_that_it_does_not_take():
    class Takes(Net):
        def forward(self, x):
            return super().forward(x.pop("a") + x["b"]) if isinstance(x, dict) else super().forward(x)

        def between(self, h):
            return torch.tanh(h.reshape(5, 4))

    x = torch.randn(5, 3)
    expected = il.maml(made(Takes)).adapt(2 * x, torch.arange(5) % 2).predict_proba(2 * x, transductive=True)
    fitted = il.maml(made(Takes)).adapt({"a": x, "b": x}, torch.arange(5) % 2)
    for _ in range(2):
        assert torch.equal(fitted.predict_proba({"a": x, "b": x}, transductive=True), expected)
    with pytest.raises(il.ShapeError, match=r"cannot take inputs of shape \(4, 3\), \(4, 3\)"):
        fitted.predict({"a": x[:4], "b": x[:4]}, transductive=True)
