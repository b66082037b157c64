"""One module or one parameter under several names: as the user's own module in plain autograd, where it is one."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.functional import convert
from innerloop.functional.pure import PureModel

pytestmark = pytest.mark.usefixtures("double")


class Aliased(nn.Module):
    """A layer that has two names and is used under both."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = self.a
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


class InBlocks(nn.Module):
    """A layer and a norm that two blocks, a list and the net share."""

    def __init__(self) -> None:
        super().__init__()
        layer, norm = nn.Linear(3, 3), nn.LayerNorm(3)
        self.first = nn.Sequential(layer, norm, nn.Tanh())
        self.second = nn.ModuleList([layer, nn.Sequential(norm, nn.Tanh())])
        self.again = norm
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        x = self.first(x)
        for part in self.second:
            x = part(x)
        return self.out(self.again(x))


class TiedLayers(nn.Module):
    """Two layers with one weight, each with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(3, 3)
        self.dec = nn.Linear(3, 3)
        self.dec.weight = self.enc.weight

    def forward(self, x):
        return self.dec(torch.tanh(self.enc(x)))


class TiedEmbedding(nn.Module):
    """A language model's: the embedding is the output's weight, which is all that the output has."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(4, 3)
        self.mid = nn.Linear(3, 3)
        self.out = nn.Linear(3, 4, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, x):
        return self.out(torch.tanh(self.mid(self.emb((x[:, 0] > 0).long()))))


class Twice(nn.Module):
    """One parameter under two names of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3) / 2)
        self.v = self.w
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(torch.tanh(x @ self.w) @ self.v)


class SharedNorm(nn.Module):
    """One batch norm under two names, and a layer norm whose scale is another's."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.n1 = nn.BatchNorm1d(3)
        self.n2 = self.n1
        self.l1, self.l2 = nn.LayerNorm(3), nn.LayerNorm(3)
        self.l2.weight = self.l1.weight
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.l2(torch.tanh(self.n2(self.lin(self.l1(self.n1(x)))))))


NETS = [Aliased, InBlocks, TiedLayers, TiedEmbedding, Twice, SharedNorm]
LR, STEPS = 0.3, 2


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind()


def tasks(num_tasks: int = 2) -> Task:
    g = torch.Generator().manual_seed(0)
    side = lambda n: Examples(  # noqa: E731
        torch.randn(num_tasks, n, 3, generator=g), torch.randint(0, 2, (num_tasks, n), generator=g)
    )
    return Task(side(5), side(4))


def put(net: nn.Module, own: list[torch.Tensor], weights: list[torch.Tensor]) -> None:
    for layer in net.modules():
        for key, p in layer._parameters.items():
            found = [w for o, w in zip(own, weights, strict=True) if o is p]
            if found:
                layer._parameters[key] = found[0]


def plain(net: nn.Module, batch: Task, adapted: list[bool] | None = None, create: bool = True):
    """(query losses' mean, its gradient by the parameters, predictions): the loop as one writes it by hand."""
    net = copy.deepcopy(net)
    own = [p for p in net.parameters() if p.requires_grad]
    chosen = [True] * len(own) if adapted is None else adapted
    losses, predictions = [], []
    for i in range(len(batch.support.y)):
        weights, current = list(own), list(own)
        for _ in range(STEPS):
            loss = F.cross_entropy(net(batch.support.x[i]), batch.support.y[i])
            grads = torch.autograd.grad(loss, weights, create_graph=create, allow_unused=True)
            stepped = [w - LR * g if g is not None and c else w for w, g, c in zip(weights, grads, chosen, strict=True)]
            put(net, current, stepped)
            weights = current = stepped
        predictions.append(net(batch.query.x[i]))
        losses.append(F.cross_entropy(predictions[-1], batch.query.y[i]))
        put(net, current, own)
    loss = torch.stack(losses).mean()
    return loss, torch.autograd.grad(loss, own, allow_unused=True), torch.stack(predictions).detach()


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("kind", NETS, ids=lambda k: k.__name__)
def test_it_is_one_parameter(kind, strategy):
    net, batch = made(kind), tasks()
    loss, grads, predictions = plain(net, batch)
    learner = il.maml(net, inner_lr=LR, inner_steps=STEPS)
    learner.strategy = strategy
    before = copy.deepcopy(learner.state_dict())
    assert torch.allclose(learner.backward(batch)["loss"], loss, rtol=1e-10)
    own = list(learner.model.parameters())
    assert [p.shape for p in own] == [p.shape for p in net.parameters()]
    for p, g in zip(own, grads, strict=True):
        assert torch.allclose(p.grad, torch.zeros_like(p) if g is None else g, rtol=1e-9, atol=1e-12)
    assert torch.allclose(learner.predict_queries(batch), predictions, rtol=1e-9, atol=1e-12)
    learner.adapt(batch.support.x[0], batch.support.y[0]).predict(batch.query.x[0])
    assert all(torch.equal(v, before[n]) for n, v in learner.state_dict().items())


class Once(nn.Module):
    """`Aliased` with one name for its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    forward = Aliased.forward

    @property
    def b(self) -> nn.Module:
        return self.a


METHODS: dict[str, dict] = {
    "maml": {"adapt": ["b.*"]},
    "fomaml": {"freeze": ["b.bias"]},
    "meta_sgd": {},
    "mamlpp": {},
    "imaml": {},
    "reptile": {},
    "anil": {},
    "boil": {},
    "pretrained": {},
    "multitask_average": {},
    "scratch": {},
    "protonet": {},
    "proto_maml": {},
    "r2d2": {},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_it_as_the_net_that_has_it_once(name):
    batch, found = tasks(4), []
    for kind in (Once, Aliased):
        options = {k: [n.replace("b.", "a.") for n in v] if kind is Once else v for k, v in METHODS[name].items()}
        few = {k: 2 for k in ("inner_steps", "eval_steps") if k in inspect.signature(getattr(il, name)).parameters}
        learner = getattr(il, name)(made(kind), **few, **options)
        losses = [learner.backward(batch)["loss"] for _ in range(2)]
        own = copy.deepcopy(learner.state_dict())
        predictions = learner.predict_queries(batch)
        assert all(torch.equal(v, own[n]) for n, v in learner.state_dict().items())
        found.append([*losses, predictions, *(p.grad for p in learner.parameters())])
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_tied_head_is_adapted_and_frozen_whole():
    adapted = {"enc.weight", "dec.bias"}
    assert set(il.anil(made(TiedLayers)).learner.adapted) == adapted
    assert set(il.boil(made(TiedLayers)).learner.adapted) == {"enc.bias"}
    assert set(il.maml(made(TiedLayers), adapt=["dec.*"]).learner.adapted) == adapted
    assert set(il.anil(made(TiedEmbedding)).learner.adapted) == {"emb.weight"}
    assert set(il.mamlpp(made(SharedNorm)).learner.per_step) == {"n1.weight", "n1.bias"}
    il.pretrained(made(TiedLayers)).backward(tasks())


@pytest.mark.parametrize("kind", NETS, ids=lambda k: k.__name__)
def test_files_and_runs_hold_it(kind, tmp_path):
    batch = tasks()
    learner = il.maml(made(kind), inner_lr=LR, inner_steps=STEPS)
    fitted = learner.adapt(batch.support.x[0], batch.support.y[0])
    fitted.save(tmp_path / "task.il")
    again = il.load(tmp_path / "task.il", model=kind())
    assert torch.equal(again.predict_proba(batch.query.x[0]), fitted.predict_proba(batch.query.x[0]))


def test_weights_that_only_share_memory_are_refused():
    net = made(TiedEmbedding)
    net.out.weight = nn.Parameter(net.emb.weight.data)
    with pytest.raises(il.ConfigError, match=r"emb.weight and out.weight expected memory of their own.*not .data"):
        il.maml(net)


def test_a_layer_that_is_rewritten_stays_where_it_is_referred_to():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop, self.lin = nn.LayerNorm(3), nn.Dropout(0.5), nn.Linear(3, 2)
            self.order = [self.norm, self.drop]  # no ModuleList
            self.last = self.lin.forward
            self.seen = []
            self.norm.register_forward_hook(lambda *_: SEEN.append(1))

        def forward(self, x):
            for part in self.order:
                x = part(x)
            return self.last(x)

    net, batch = made(Listed), tasks()
    SEEN.clear()
    copy_of, _ = convert(net)
    assert copy_of.order[0] is copy_of.norm and copy_of.order[1] is copy_of.drop
    values = {name: p.detach() + 0.5 for name, p in copy_of.named_parameters()}
    found = PureModel(copy_of, "batch").apply(values, {}, batch.support.x[0])[0]
    with torch.no_grad():
        for p in net.parameters():
            p += 0.5
    assert torch.allclose(found, net.eval()(batch.support.x[0])) and len(SEEN) == 2


SEEN: list[int] = []


def test_a_run_goes_on_with_it(tmp_path):
    def learner() -> il.MetaLearner:
        torch.manual_seed(1)
        layer = nn.Linear(4, 4)
        return il.maml(nn.Sequential(nn.Linear(1, 4), layer, nn.Tanh(), layer, nn.Linear(4, 1)), inner_lr=0.01)

    quick = {"num_tasks": 2, "valid_tasks": 3, "quiet": True, "checkpoint_every": 2}
    family = il.tasks.sinusoid(shots=3, queries=3)
    il.fit(learner(), family, steps=2, out=tmp_path / "run", **quick)
    trained = learner()
    il.fit(trained, family, steps=4, out=tmp_path / "run", resume=True, **quick)
    opened = il.load(tmp_path / "run", model=learner().model)
    assert isinstance(opened, il.MetaLearner)
    for p, q, first in zip(trained.parameters(), opened.parameters(), learner().parameters(), strict=True):
        assert torch.equal(p, q) and not torch.equal(p, first)
