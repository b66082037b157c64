"""Fast weights against plain loops: made from gradients, mixed by attention, beside slow ones in two streams."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.functional.two_streams import augmentable, fast_weights, prepare
from innerloop.methods.metanet import AugmentedNet, SequenceGenerator, log_and_sign, mixed, soft_attention

pytestmark = pytest.mark.usefixtures("double")


def drawn(support: int = 5, queries: int = 4, num_tasks: int = 2, seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)

    def side(count: int) -> Examples:
        x = torch.randn(num_tasks, count, 4, generator=generator)
        return Examples(x, torch.randint(3, (num_tasks, count), generator=generator))

    return Task(side(support), side(queries))


def small(seed: int = 0, activation: str = "relu", **options) -> il.MetaLearner:
    torch.manual_seed(seed)
    given = {"outputs": 3, "base_hidden": 4, "generator_hidden": 3, "groups": 2, **options}
    learner = il.metanet(il.models.mlp(4, 5, hidden=(6,), activation=activation), **given)
    with torch.no_grad():  # fast weights begin small; here they have to matter
        for name, p in learner.named_parameters():
            if ".of_" in name and ".head." in name:
                p.normal_(std=0.7)
    return learner


# ---- networks ----------------------------------------------------------------------------------------------------------


def test_gradients_go_in_by_logarithm_and_sign():
    large, tiny = log_and_sign(torch.tensor([0.5, -math.exp(-10)]))
    assert torch.allclose(large, torch.tensor([math.log(0.5) / 7, 1.0]))
    assert torch.allclose(tiny, torch.tensor([-1.0, -math.exp(-3)]))


def test_the_generator_of_sequences_is_torchs_lstm():
    torch.manual_seed(0)
    net, reference = SequenceGenerator(3), nn.LSTM(2, 3)
    with torch.no_grad():
        reference.bias_hh_l0.zero_()
        order = [0, 1, 3, 2]  # ours: input, forget, output, cell; torch's: input, forget, cell, output
        for ours, theirs in (
            (net.from_input.weight, reference.weight_ih_l0),
            (net.from_state.weight, reference.weight_hh_l0),
            (net.from_input.bias, reference.bias_ih_l0),
        ):
            theirs.copy_(torch.cat([ours.chunk(4)[i] for i in order]))
    gradients = torch.randn(4, 7)
    states, _ = reference(log_and_sign(gradients))
    assert torch.allclose(net(gradients), net.head(states[-1])[:, 0])
    counts = torch.tensor([True, False, True, False])
    assert torch.allclose(net(gradients, counts), net(gradients[[0, 2]])) and net(gradients).std() > 1e-4


def test_each_query_reads_its_own_mixture_of_fast_weights():
    torch.manual_seed(0)
    net = AugmentedNet(5, 4, 3)
    r, keys, first, second = torch.randn(6, 5), torch.randn(7, 5), torch.randn(7, 4, 5), torch.randn(7, 3, 4)
    counts = torch.tensor([True] * 6 + [False])
    found = net(r, soft_attention(r, keys, counts), first, second)
    for i in range(6):
        scores = [float(r[i] @ keys[j] / r[i].norm() / keys[j].norm()) for j in range(6)]
        total = sum(math.exp(s) for s in scores)
        w1 = sum(math.exp(scores[j]) / total * first[j] for j in range(6))
        w2 = sum(math.exp(scores[j]) / total * second[j] for j in range(6))
        h = torch.relu(net.first.weight @ r[i]) + torch.relu(w1 @ r[i])
        assert torch.allclose(found[i], net.second.weight @ h + w2 @ h, atol=1e-7)
    assert torch.allclose(mixed(r, torch.eye(6), first[:6]), torch.stack([first[i] @ r[i] for i in range(6)]))
    assert torch.equal(net(r), net.second(torch.relu(net.first(r))))


# ---- slow and fast weights in any model ----------------------------------------------------------------------------------


def fast_for(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.randn_like(model.get_parameter(name)) for name in augmentable(model)}


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_each_layer_of_a_net_adds_what_slow_and_fast_weights_give(activation):
    torch.manual_seed(0)
    act = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    model = il.models.mlp(4, 3, hidden=(6, 5), activation=activation)
    fast, x = fast_for(model), torch.randn(7, 4)
    plain = model(x)
    prepare(model, list(fast))
    with fast_weights(fast, 7, "streams") as joined:
        found = joined(model(x))
    slow = [(m.weight, m.bias) for m in model.modules() if isinstance(m, nn.Linear)]
    z = x
    for (w, b), extra in zip(slow[:2], list(fast.values())[:2], strict=True):
        z = act(z @ w.T + b) + act(z @ extra.T)
    expected = z @ slow[2][0].T + slow[2][1] + z @ list(fast.values())[2].T
    assert torch.allclose(found, expected) and not torch.allclose(found, plain)
    assert torch.equal(model(x), plain), "outside of it nothing has changed"


def test_pooling_comes_before_the_sum():
    torch.manual_seed(0)
    model = il.models.conv4((1, 16, 16), None, filters=3, norm="none", downsample="max_pool")
    fast, x = fast_for(model), torch.randn(2, 1, 16, 16)
    prepare(model, list(fast))
    with fast_weights(fast, 2, "streams") as joined:
        found = joined(model(x))
    z = x
    for layer, extra in zip([m for m in model.modules() if isinstance(m, nn.Conv2d)], fast.values(), strict=True):
        parts = F.conv2d(z, layer.weight, layer.bias, padding=1), F.conv2d(z, extra, padding=1)
        z = sum(F.max_pool2d(torch.relu(part), 2) for part in parts)
    assert torch.allclose(found, z.flatten(1), atol=1e-10)


class Gated(nn.Module):
    """Adds a layer's input to its output: the layer gives slow and fast rows, the input has none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.layer(x))


def test_models_that_are_no_chain_of_layers_add_before_the_nonlinearity():
    learner = il.metanet(Gated(), outputs=3, base_hidden=4, generator_hidden=3)
    assert learner.learner.meeting == "sum" and any("before the nonlinearity" in note for note in learner.notes)
    assert small().learner.meeting == "streams" and not small().notes
    reader, meta, x = learner.learner, learner.meta(), torch.randn(5, 4)
    fast = {"model.layer.weight": torch.randn(4, 4)}
    found, _ = reader.embed_fast(meta, fast, x)
    slow = meta.params
    both = slow["model.layer.weight"] + fast["model.layer.weight"]
    assert torch.allclose(found, x + torch.tanh(x @ both.T + slow["model.layer.bias"]))
    assert "loss" in learner.backward(drawn())


# ---- the learner ---------------------------------------------------------------------------------------------------------


def by_hand(learner: il.MetaLearner, task: Task) -> torch.Tensor:
    """Query predictions of one task, example by example, by torch.autograd."""
    p = {name: value.detach().clone() for name, value in learner.model.named_parameters()}
    parts = {name: learner.model.get_submodule(name) for name in ("label_head", "of_linear", "of_base", "base")}
    names = ["model.body.0.weight", "model.head.weight"]
    b0, b1 = p["model.body.0.bias"], p["model.head.bias"]

    def embed(w: list[torch.Tensor], fast: list[torch.Tensor] | None, x: torch.Tensor) -> torch.Tensor:
        if fast is None:
            return w[1] @ torch.relu(w[0] @ x + b0) + b1
        h = torch.relu(w[0] @ x + b0) + torch.relu(fast[0] @ x)
        return w[1] @ h + b1 + fast[1] @ h

    slow = [p[name] for name in names]
    x, y = task.support.x, task.support.y
    per_group: list[list[torch.Tensor]] = [[], []]
    for g in range(2):
        w = [v.clone().requires_grad_() for v in slow]
        rows = range(g, len(y), 2)
        logits = torch.stack([parts["label_head"](torch.relu(embed(w, None, x[i]))) for i in rows])
        for k, gradient in enumerate(torch.autograd.grad(F.cross_entropy(logits, y[list(rows)]), w)):
            per_group[k].append(gradient)
    fast = [parts["of_linear"](torch.stack(g).flatten(1)).reshape(g[0].shape) for g in per_group]
    keys = torch.stack([embed(slow, fast, one) for one in x])
    memory = []
    for i in range(len(y)):
        base = [p[f"base.{n}.weight"].clone().requires_grad_() for n in ("first", "second")]
        logits = base[1] @ torch.relu(base[0] @ keys[i].detach())
        gradients = torch.autograd.grad(F.cross_entropy(logits[None], y[i : i + 1]), base)
        memory.append([parts["of_base"](g) for g in gradients])
    found = []
    for one in task.query.x:
        r = embed(slow, fast, one)
        a = torch.softmax(torch.stack([r @ k / r.norm() / k.norm() for k in keys]), 0)
        w1, w2 = (sum(a[i] * memory[i][k] for i in range(len(y))) for k in range(2))
        h = torch.relu(p["base.first.weight"] @ r) + torch.relu(w1 @ r)
        found.append(p["base.second.weight"] @ h + w2 @ h)
    return torch.stack(found).detach()


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_predictions_are_those_of_a_plain_loop(strategy):
    learner, tasks = small(), drawn()
    learner.strategy = strategy
    found = learner.predict_queries(tasks)
    for i in range(2):
        sides = (Examples(s.x[i], s.y[i]) for s in (tasks.support, tasks.query))
        assert torch.allclose(found[i], by_hand(learner, Task(*sides)), atol=1e-7)
    with torch.no_grad():
        changed = drawn()
        changed.support.y[0] = (changed.support.y[0] + 1) % 3
    assert (learner.predict_queries(changed)[0] - found[0]).abs().max() > 1e-3


def test_every_network_gets_a_gradient():
    learner = small()
    learner.backward(drawn())
    silent = {name for name, p in learner.named_parameters() if not bool(p.grad.any())}
    # The loss of the representation is only differentiated once, so its head does not learn: as in the authors' code.
    assert silent == {"model.label_head.weight", "model.label_head.bias"}


def padded(task: Task, extra: int = 3) -> Task:
    def side(s: Examples) -> Examples:
        tasks, count = s.y.shape
        x = torch.cat([s.x, torch.full((tasks, extra, *s.x.shape[2:]), 30.0)], 1)
        y = torch.cat([s.y, torch.ones(tasks, extra, dtype=torch.int64)], 1)
        return Examples(x, y, torch.arange(count + extra).expand(tasks, -1) < count)

    return dataclasses.replace(task, support=side(task.support), query=side(task.query))


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_padding_does_not_count(strategy, batch_norm):
    found = []
    for task in (drawn(), padded(drawn())):
        torch.manual_seed(0)
        body = il.models.mlp(4, 5, hidden=(6,), batch_norm=batch_norm)
        learner = il.metanet(
            body, outputs=3, base_hidden=4, generator_hidden=3, groups=7
        )  # more than there are examples
        learner.strategy = strategy
        metrics = learner.backward(task)
        buffers = [b.clone() for b in learner.buffers()]
        found.append(
            [*metrics.values(), *(p.grad for p in learner.parameters()), *buffers, learner.predict_queries(task)[:, :4]]
        )
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_what_has_fast_weights_may_be_chosen():
    assert small(adapt=["head.*"]).learner.adapted == ("model.head.weight",)
    assert small(freeze=["head.*"]).learner.adapted == ("model.body.0.weight",)
    raw = il.metanet(il.models.mlp(4, None, hidden=()), outputs=3, base_hidden=4)
    assert raw.learner.adapted == () and raw.predict_queries(drawn()).shape == (2, 4, 3)
    assert "loss" in raw.backward(drawn())


def test_what_does_not_fit():
    flat = Task(
        Examples(torch.randn(1, 4, 4), torch.randn(1, 4, 2)), Examples(torch.randn(1, 4, 4), torch.randn(1, 4, 2))
    )
    with pytest.raises(il.ShapeError, match=r"targets expected 3 numbers an example.*give outputs=2"):
        small().backward(flat)
    for options, message in (
        ({"base_hidden": 0}, "base_hidden expected an integer of at least 1, got 0"),
        ({"groups": 1.5}, "groups expected an integer of at least 1"),
        ({"adapt": ["*.bias"]}, "matches no parameter of the model"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            small(**options)
