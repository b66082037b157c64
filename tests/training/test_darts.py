"""Architecture search: its gradients against differences, what learns from what, what it chooses, and bad input."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Examples
from innerloop.errors import CheckpointError, ConfigError, InputError
from innerloop.models.cells import mixed_operations
from innerloop.training.darts import Pair, Search, _of_rows

LR, MOMENTUM, DECAY = 0.3, 0.9, 0.05


class Square(nn.Module):
    def forward(self, x):
        return x.square()


class Small(nn.Module):
    """Two choices, the second of which is made in two places."""

    def __init__(self, inputs: int = 3, outputs: int = 2) -> None:
        super().__init__()
        self.first = il.models.MixedOp({"linear": nn.Linear(inputs, inputs), "skip": nn.Identity(), "square": Square()})
        shared = {"tanh": nn.Tanh(), "square": Square()}
        self.second = il.models.MixedOp(shared)
        self.third = il.models.MixedOp({"tanh": nn.Tanh(), "square": Square()}, like=self.second)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.head(self.third(self.second(self.first(x))))


@pytest.fixture
def search(double):
    torch.manual_seed(0)
    net = Small()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    sides = [Examples(torch.randn(7, 3), torch.randint(2, (7,))) for _ in range(2)]
    return Search(net, Pair(*sides)), Pair(*sides)


def differences(function, at, size=1e-5):
    """Central differences of ``function(values)`` in every number of ``at``."""
    found = {}
    for name, value in at.items():
        slope = torch.zeros_like(value)
        for i in range(value.numel()):
            moved = torch.zeros(value.numel(), dtype=value.dtype)
            moved[i] = size
            up, down = (function({**at, name: value.detach() + sign * moved.view_as(value)}) for sign in (1, -1))
            slope.view(-1)[i] = (up - down) / (2 * size)
        found[name] = slope
    return found


def ahead(search, pair, choices, moved):
    """The validation loss after the step, written out."""
    here = {name: p.detach().requires_grad_() for name, p in search.weights.items()}
    train = search.loss(here, choices, pair.train)
    grads = torch.autograd.grad(train, list(here.values()))
    then = {
        name: p - LR * (g + DECAY * p + MOMENTUM * moved[name])
        for (name, p), g in zip(here.items(), grads, strict=True)
    }
    return float(search.loss(then, choices, pair.valid).detach())


def settings(search):
    torch.manual_seed(3)
    return {name: torch.randn_like(p) for name, p in search.weights.items()}


def test_the_second_order_gradient_is_that_of_the_loss_after_the_step(search):
    search, pair = search
    moved = settings(search)
    loss, found = search.slopes(pair, "exact", LR, momentum=MOMENTUM, weight_decay=DECAY, moved=moved)
    assert float(loss) == pytest.approx(ahead(search, pair, search.choices, moved), rel=1e-12)
    wanted = differences(lambda choices: ahead(search, pair, choices, moved), search.choices)
    assert set(found) == set(wanted) == {"first.alpha", "second.alpha"}
    for name, slope in wanted.items():
        assert slope.abs().max() > 1e-3
        torch.testing.assert_close(found[name], slope, rtol=1e-7, atol=1e-9)


def test_the_first_order_gradient_is_that_of_the_loss_where_the_weights_are(search):
    search, pair = search
    loss, found = search.slopes(pair, "first_order", LR)
    wanted = differences(
        lambda choices: float(search.loss(search.weights, choices, pair.valid).detach()), search.choices
    )
    for name, slope in wanted.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-7, atol=1e-9)
    assert float(loss) == float(search.loss(search.weights, search.choices, pair.valid).detach())


def test_the_authors_differences_come_near_and_first_order_does_not(search):
    search, pair = search
    given = {"momentum": MOMENTUM, "weight_decay": DECAY, "moved": settings(search)}
    exact, apart, first = (
        search.slopes(pair, gradient, LR, **given)[1] for gradient in ("exact", "differences", "first_order")
    )
    for name, slope in exact.items():
        size = slope.norm()
        assert (apart[name] - slope).norm() < 1e-3 * size, name
        assert (apart[name] - slope).norm() > 1e-9 * size, name  # it is another computation
        assert (first[name] - slope).norm() > 1e-2 * size, name


def test_without_a_rate_the_orders_agree(search):
    search, pair = search
    exact, first = (search.slopes(pair, gradient, 1e-12)[1] for gradient in ("exact", "first_order"))
    for name, slope in exact.items():
        torch.testing.assert_close(first[name], slope, rtol=1e-9, atol=1e-11)


def test_the_gradient_of_a_space_of_cells_agrees_with_differences(double):
    torch.manual_seed(0)
    net = il.models.cell_supernet(
        (1, 4, 4), 2, channels=2, nodes=2, operations=["zero", "skip", "avg_pool3x3", "conv3x3"]
    )
    for layer in list(net.modules()):  # kinks spoil differences
        for key, part in list(layer.named_children()):
            if isinstance(part, nn.ReLU):
                setattr(layer, key, nn.Tanh())
    pair = Pair(*(Examples(torch.randn(6, 1, 4, 4), torch.randint(2, (6,))) for _ in range(2)))
    search = Search(net, pair)
    assert len(search.choices) == 3  # an edge's choice is one for all cells
    moved = {name: torch.zeros_like(p) for name, p in search.weights.items()}
    _, found = search.slopes(pair, "exact", LR, momentum=MOMENTUM, weight_decay=DECAY, moved=moved)
    wanted = differences(lambda choices: ahead(search, pair, choices, moved), search.choices)
    for name, slope in wanted.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gradient", ["exact", "differences", "first_order"])
def test_it_finds_the_operation_that_the_data_need(gradient):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator)
    y = (x.square() @ torch.tensor([[1.0], [-2.0], [0.5]])) + 0.3
    torch.manual_seed(0)
    net = nn.Sequential(
        il.models.MixedOp({"skip": nn.Identity(), "square": Square(), "tanh": nn.Tanh()}), nn.Linear(3, 1)
    )
    given = {"steps": 200, "inner_lr": 0.05, "outer_lr": 0.03, "quiet": True, "batch": 32}
    before = {name: p.clone() for name, p in net.named_parameters()}
    arch = il.darts(net, (x, y), gradient=gradient, **given)
    assert arch.operations == {"0": "square"} and arch.shares["0"]["square"] > 0.5
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())
    model = arch.model()
    assert isinstance(model[0], Square) and not torch.equal(model[1].weight, net[1].weight)  # type: ignore[index, union-attr]
    again = il.darts(net, (x, y), gradient=gradient, **given)
    assert again.shares == arch.shares and again.loss == arch.loss
    assert il.darts(net, (x, y), gradient=gradient, **{**given, "seed": 1}).shares != arch.shares


def test_choices_and_weights_learn_from_rows_of_their_own():
    x = torch.arange(50.0)[:, None]
    pairs = _of_rows(Examples(x, x), 4, 0.3, seed=0)
    seen = [set[float](), set[float]()]
    for _ in range(40):
        pair = next(pairs)
        for own, side in zip(seen, pair, strict=True):
            assert len(side.y) == 4
            own.update(side.x.flatten().tolist())
    assert not seen[0] & seen[1] and seen[0] | seen[1] == set(range(50)) and len(seen[1]) == 15


def test_choices_stay_while_weights_warm_up():
    torch.manual_seed(0)
    net, data = Small(), (torch.randn(40, 3), torch.randint(2, (40,)))
    arch = il.darts(net, data, steps=20, warmup_steps=19, batch=4, outer_lr=0.1, quiet=True)
    moved = {name: max(own.values()) - 1 / len(own) for name, own in arch.shares.items()}
    # Adam's first step is its rate in each number, whatever the gradient.
    assert all(0 < own < 0.06 for own in moved.values())
    assert [("valid_loss" in row) for row in arch.history] == [False] * 19 + [True]
    more = il.darts(net, data, steps=20, batch=4, outer_lr=0.1, quiet=True)
    assert all(max(more.shares[name].values()) - 1 / len(more.shares[name]) > moved[name] for name in moved)


def test_a_familys_classes_are_those_that_all_tasks_share():
    family = il.tasks.glyphs(ways=3, shots=2, queries=2, size=12)
    classes = family.train.num_classes
    torch.manual_seed(0)
    net = il.models.cell_supernet((1, 12, 12), classes, channels=2, nodes=2, cells=2)
    arch = il.darts(net, family, steps=2, quiet=True)
    assert arch.model()(torch.zeros(2, 1, 12, 12)).shape == (2, classes)
    with pytest.raises(ConfigError, match="an output for each class"):
        il.darts(il.models.cell_supernet((1, 12, 12), 3, channels=2), family, steps=2, quiet=True)
    values = il.darts(
        nn.Sequential(il.models.MixedOp({"a": nn.Linear(1, 4), "b": nn.Linear(1, 4)}), nn.Linear(4, 1)),
        il.tasks.sinusoid(),
        steps=2,
        quiet=True,
    )
    assert set(values.operations.values()) <= {"a", "b"}
    with pytest.raises(ConfigError, match="classes that all tasks share, got synthetic_tables"):
        il.darts(il.models.cell_supernet((1, 12, 12), 3), il.tasks.synthetic_tables(), steps=1)
    with pytest.raises(ConfigError, match="tasks of labelled examples"):
        il.darts(net, il.tasks.quadratic_jobs(), steps=1)


def test_a_space_of_cells_keeps_two_edges_into_a_node():
    net = il.models.cell_supernet((1, 8, 8), 3, channels=2, nodes=4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        shares = {
            edge: dict(zip(ops[0].operations, torch.rand(7, generator=generator).tolist(), strict=True))
            for edge, ops in mixed_operations(net).items()
        }
        chosen = net.choose(shares)  # type: ignore[operator]
        for node in range(1, 5):
            edges = {f"{source}-{node}" for source in range(node)}
            kept = {edge for edge in edges if chosen[edge] != "zero"}
            assert len(kept) == min(node, 2)
            best = {edge: max(v for k, v in shares[edge].items() if k != "zero") for edge in edges}
            assert min(best[e] for e in kept) >= max([best[e] for e in edges - kept], default=0.0)
            assert all(shares[e][chosen[e]] == best[e] for e in kept)


def test_random_architectures_differ_run_and_count_their_skips():
    net = il.models.cell_supernet((1, 8, 8), 3, channels=2, nodes=3)
    drawn = [il.random_architecture(net, seed) for seed in range(30)]
    assert len({arch.cell for arch in drawn}) > 25
    assert il.random_architecture(net, 3) == drawn[3]
    for arch in drawn:
        assert arch.cell is not None and arch.skips == arch.cell.count("skip~") and arch.cell.count("~") == 5
        assert f"{arch.skips} of them skip" in str(arch) and arch.cell in str(arch)
    assert drawn[0].model()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    plain = il.random_architecture(Small(), 0)
    assert set(plain.operations) == {"first", "second"} and plain.cell is None
    assert plain.model()(torch.zeros(2, 3)).shape == (2, 2)


def test_one_operation_alone_is_what_it_is_by_itself():
    net = Small()
    x = torch.randn(4, 3)
    for layer in (net.first, net.second, net.third):
        layer.only = "square"
    torch.testing.assert_close(net(x), net.head(x.square().square().square()))


def test_it_travels_in_a_file(tmp_path):
    net = il.models.cell_supernet((1, 8, 8), 3, channels=2, nodes=2)
    data = (torch.randn(30, 1, 8, 8), torch.randint(3, (30,)))
    arch = il.darts(net, data, steps=2, batch=8, quiet=True)
    again = il.Architecture.load(arch.save(tmp_path / "arch.json"))
    assert again == arch and str(again) == str(arch) and again.settings["steps"] == 2 and len(again.history) == 2
    assert il.models.describe(again.model()) == il.models.describe(arch.model())
    learner = il.protonet(again.model())  # a model like any other
    fitted = learner.adapt(torch.randn(6, 1, 8, 8), torch.arange(3).repeat(2))
    opened = il.load(fitted.save(tmp_path / "task"))
    assert isinstance(opened, il.Fitted) and opened.predict(torch.randn(2, 1, 8, 8)).shape == (2,)
    own = il.random_architecture(Small(), 1)
    back = il.Architecture.load(own.save(tmp_path / "own.json"))
    with pytest.raises(ConfigError, match=r"expected the supernet that was searched.*arch.model\(MySupernet\(\)\)"):
        back.model()
    assert back.model(Small())(torch.zeros(1, 3)).shape == (1, 2)
    with pytest.raises(ConfigError, match="expected a supernet with the choices first, second, got one with 0-1"):
        back.model(net)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("innerloop architecture", "another"),
        lambda text: text.replace('"operations"', '"operation"'),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 9'),
    ],
)
def test_a_damaged_file_is_told_in_a_line(tmp_path, spoil):
    path = il.random_architecture(Small()).save(tmp_path / "arch.json")
    path.write_text(spoil(path.read_text()))
    with pytest.raises(CheckpointError) as told:
        il.Architecture.load(path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)
    with pytest.raises(CheckpointError, match="found none"):
        il.Architecture.load(tmp_path / "nothing.json")


def test_a_file_cannot_name_an_operation_that_is_not_there(tmp_path):
    path = il.random_architecture(il.models.cell_supernet((1, 8, 8), 3, nodes=2, channels=2)).save(tmp_path / "a.json")
    record = json.loads(path.read_text())
    record["operations"]["0-1"] = "conv9x9"
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="0-1 has no operation 'conv9x9'"):
        il.Architecture.load(path).model()


X, Y = torch.zeros(8, 3), torch.zeros(8, dtype=torch.long)


@pytest.mark.parametrize(
    ("supernet", "data", "options", "message"),
    [
        (nn.Linear(3, 2), (X, Y), {}, "at least one il.models.MixedOp, got a Linear without any"),
        ("net", (X, Y), {}, "expected a supernet.*got str"),
        (Small(), (X, Y), {"gradient": "second"}, "gradient expected one of exact, differences, first_order"),
        (Small(), (X, Y), {"steps": 0}, "steps expected"),
        (Small(), (X, Y), {"warmup_steps": 1}, "warmup_steps expected fewer than steps=1, got 1"),
        (Small(), (X, Y), {"inner_lr": -1}, "inner_lr expected a finite number of at least 0, got -1"),
        (Small(), (X, Y), {"outer_lr": 0}, "outer_lr expected a number above 0"),
        (Small(), (X, Y), {"inner_lr": float("nan")}, "inner_lr expected a finite"),
        (Small(), (X, Y), {"inner_min_lr": 1.0}, "at most inner_lr=0.025, got 1.0"),
        (Small(), (X, Y), {"valid_share": 1.0}, "valid_share expected a share above 0 and below 1"),
        (Small(), (X, Y - 1), {}, "labels from 0 on, got -1"),
        (Small(), (X, torch.arange(8)), {}, "expected labels 0 to 1, got 7"),
        (Small(), (X, Y + 5), {}, "expected labels 0 to 1, got 5; make it with an output for each class"),
        (Small(), (X[:, :2], Y), {}, r"the supernet cannot take the data, of shape \(2, 2\)"),
        (Small(), (X / 0, Y), {}, "finite inputs"),
        (Small(), (X, Y[:4]), {}, "equally many rows"),
        (Small(), 7, {}, "got int"),
        (Small(), lambda keys: None, {}, "got a function"),
    ],
)
def test_what_cannot_work_is_told_in_a_line(supernet, data, options, message):
    with pytest.raises(InputError, match=message) as told:
        il.darts(supernet, data, quiet=True, batch=2, **{"steps": 1, **options})
    assert "\n" not in str(told.value)


def test_a_supernet_of_which_nothing_can_be_learned():
    net = Small()
    net.second.only = "tanh"
    with pytest.raises(ConfigError, match=r"second expected all of its operations.*only='tanh'; set it to None"):
        il.darts(net, (X, Y), steps=1, batch=2)
    still = Small()
    for layer in (still.first, still.second):
        layer.alpha.requires_grad_(False)
    with pytest.raises(ConfigError, match="a supernet with choices to train, got none"):
        il.darts(still, (X, Y), steps=1, batch=2)
    still.first.alpha.requires_grad_(True)
    arch = il.darts(still, (X, Y), steps=1, batch=2, quiet=True)
    assert arch.shares["second"] == {"tanh": 0.5, "square": 0.5}
    with pytest.raises(ConfigError, match="weights besides its choices"):
        il.darts(il.models.MixedOp({"skip": nn.Identity(), "square": Square()}), (X, X), steps=1, batch=2)


def test_arrays_and_data_sets_in_any_precision():
    x, y = X.double().numpy(), Y.numpy()
    pairs = [(a, b) for a, b in zip(X, Y, strict=True)]
    found = [il.darts(Small(), data, steps=2, batch=2, quiet=True) for data in ((x, y), pairs)]
    assert all(set(arch.operations) == {"first", "second"} for arch in found)
    assert il.darts(Small().double(), (X, Y), steps=2, batch=2, quiet=True).loss is not None


def test_operations_that_cannot_be_mixed():
    with pytest.raises(ConfigError, match="at least two operations"):
        il.models.MixedOp({"skip": nn.Identity()})
    with pytest.raises(ConfigError, match="'skip', got str"):
        il.models.MixedOp({"skip": "identity", "b": nn.Identity()})  # type: ignore[dict-item]
    first = il.models.MixedOp({"a": nn.Identity(), "b": nn.Identity()}, name="one")
    with pytest.raises(ConfigError, match=r"the one that it is like \(a, b\), got b, a"):
        il.models.MixedOp({"b": nn.Identity(), "a": nn.Identity()}, like=first)
    twice = nn.Sequential(first, il.models.MixedOp({"a": nn.Identity(), "b": nn.Identity()}, name="one"))
    with pytest.raises(ConfigError, match="a name of its own"):
        mixed_operations(twice)


def test_a_search_that_diverges_says_so():
    net = nn.Sequential(il.models.MixedOp({"square": Square(), "skip": nn.Identity()}), nn.Linear(3, 1))
    x = 1e15 * torch.randn(20, 3)
    with pytest.raises(il.DivergedError, match=r"lower inner_lr|take fewer steps"):
        il.darts(net, (x, x[:, :1] * 1e15), steps=5, batch=4, inner_lr=1.0, quiet=True)
