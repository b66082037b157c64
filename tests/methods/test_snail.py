"""The sequence network against a plain computation position by position; causality; padding; sizes it was not built for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.methods.snail import CausalSequence

pytestmark = pytest.mark.usefixtures("double")
SMALL = {"max_examples": 11, "filters": 3, "keys": (2, 3, 4), "values": (3, 2, 3)}


def network(time: int = 12, seed: int = 0) -> CausalSequence:
    torch.manual_seed(seed)
    return CausalSequence(5, 2, time, SMALL["filters"], SMALL["keys"], SMALL["values"])


def by_hand(net: CausalSequence, sequence: torch.Tensor) -> torch.Tensor:
    """Outputs at all positions: torch's own convolution, and attention one position at a time."""
    h = sequence
    for layer in net.layers:
        if hasattr(layer, "dilation"):
            kernel = torch.stack([layer.before.weight, layer.now.weight], -1)  # (2 filters, channels, taps)
            padded = F.pad(h.T[None], (layer.dilation, 0))
            value, gate = F.conv1d(padded, kernel, layer.now.bias, dilation=layer.dilation)[0].T.chunk(2, 1)
            new = value.tanh() * gate.sigmoid()
        else:
            rows = []
            for t in range(len(h)):
                keys, values = layer.key(h[: t + 1]), layer.value(h[: t + 1])
                scores = [float((layer.question(h[t]) @ k).detach()) / math.sqrt(len(k)) for k in keys]
                weights = [math.exp(s) / sum(math.exp(r) for r in scores) for s in scores]
                rows.append(sum(w * v for w, v in zip(weights, values, strict=True)))
            new = torch.stack(rows)
        h = torch.cat([h, new], 1)
    return net.head(h)


@pytest.mark.parametrize("length", [1, 2, 5, 11])
def test_queries_that_share_the_past_get_what_a_whole_sequence_gives(length):
    net = network()
    support, queries = torch.randn(length, 5), torch.randn(4, 5)
    past = net(support)
    together = net(queries, past, torch.tensor(length))
    alone = torch.stack([by_hand(net, torch.cat([support, q[None]]))[-1] for q in queries])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-13)
    first = net(queries, torch.zeros_like(past), torch.tensor(0))
    assert torch.allclose(first, torch.cat([by_hand(net, q[None]) for q in queries]), rtol=1e-12, atol=1e-13)


def test_a_later_example_changes_nothing_before_it_and_everything_reaches_the_end():
    net, sequence = network(), torch.randn(12, 5)
    before = net(sequence)
    for t in range(12):
        changed = sequence.clone()
        changed[t] += 1.0
        after = net(changed)
        assert torch.equal(after[:t], before[:t])
        assert not torch.allclose(after[-1], before[-1], atol=1e-9), f"position {t} is out of reach"


@pytest.mark.parametrize(("time", "layers"), [(2, 1), (6, 3), (8, 3), (9, 4), (26, 5), (101, 7)])
def test_dilations_reach_over_the_whole_sequence(time, layers):
    dilations = [layer.dilation for layer in network(time).layers if hasattr(layer, "dilation")]
    assert dilations == 2 * [2**i for i in range(layers)] and 1 + sum(dilations[:layers]) >= time


def learner(inputs: int = 4, outputs: int = 3, batch_norm: bool = False, **options) -> il.MetaLearner:
    torch.manual_seed(1)
    model = il.models.mlp(inputs, None, hidden=(5,), activation="tanh", batch_norm=batch_norm)
    return il.snail(model, outputs=outputs, **{**SMALL, **options})


def drawn(shots: int = 2, queries: int = 4, num_tasks: int = 2) -> Task:
    generator = torch.Generator().manual_seed(0)
    sides = [
        Examples(
            torch.randn(num_tasks, n, 4, generator=generator),
            torch.arange(n).remainder(3).expand(num_tasks, -1).contiguous(),
        )
        for n in (3 * shots, queries)
    ]
    return Task(*sides)


def test_a_prediction_is_the_network_on_embeddings_and_labels():
    made, task = learner(), drawn()
    model, net = made.model.model, made.model.sequence
    found = made.predict_queries(task)
    for i in range(2):
        s, q = task.support, task.query
        rows = torch.cat([model(s.x[i]), F.one_hot(s.y[i], 3).double(), torch.ones(6, 1)], 1)
        for x, prediction in zip(q.x[i], found[i], strict=True):
            last = torch.cat([model(x[None]), torch.zeros(1, 4)], 1)
            assert torch.allclose(by_hand(net, torch.cat([rows, last]))[-1], prediction, rtol=1e-11, atol=1e-12)


def test_values_stand_beside_inputs_in_regression():
    made = learner(1, 1, max_examples=4)
    task = il.tasks.sinusoid(shots=4, queries=2).train.at(0, 0, 1)
    model, net = made.model.model, made.model.sequence
    x, y = task.support.x[0].double(), task.support.y[0].double()
    rows = torch.cat([model(x), y, torch.ones(4, 1)], 1)
    last = torch.cat([model(task.query.x[0, :1].double()), torch.zeros(1, 2)], 1)
    expected = by_hand(net, torch.cat([rows, last]))[-1]
    assert torch.allclose(made.predict_queries(task)[0, 0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_padding_anywhere_changes_nothing(batch_norm):
    task = drawn()
    n = 6
    where = torch.tensor([0, 2, 3, 5, 6, 8])  # two rows of padding in between and one at the end
    x, y = torch.full((2, 10, 4), 9.0), torch.full((2, 10), 2)
    x[:, where], y[:, where] = task.support.x, task.support.y
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[:, where] = True
    query = Examples(
        torch.cat([task.query.x, torch.ones(2, 3, 4)], 1),
        torch.cat([task.query.y, torch.zeros(2, 3, dtype=torch.int64)], 1),
        torch.arange(7).expand(2, -1) < 4,
    )
    padded = Task(Examples(x, y, mask), query, noise=torch.tensor([3, 4]))
    plain = dataclasses.replace(task, noise=padded.noise)
    made = learner(batch_norm=batch_norm)
    assert torch.allclose(made.predict_queries(padded)[:, :4], made.predict_queries(plain), rtol=1e-12, atol=1e-13)
    assert int(mask.sum(1)[0]) == n
    # In meta-training the order is random, and another one with padding: what is drawn is held in place here.
    made.learner = dataclasses.replace(made.learner, training=False)
    found = [
        made.learner.meta_loss(made.meta(), torch.utils._pytree.tree_map(lambda v: v[0], t), 0) for t in (padded, plain)
    ]
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-12)


def test_training_sees_the_support_set_in_orders_of_the_tasks_keys():
    made, task = learner(), drawn(num_tasks=1)
    first, again, other = (
        float(made.backward(dataclasses.replace(task, noise=torch.tensor([key])))["loss"]) for key in (1, 1, 2)
    )
    assert first == again and first != other


def test_queries_do_not_see_each_other():
    made, task = learner(), drawn()
    whole = made.predict_queries(task)
    part = made.predict_queries(dataclasses.replace(task, query=Examples(task.query.x[:, 2:3], task.query.y[:, 2:3])))
    assert torch.allclose(whole[:, 2:3], part, rtol=1e-12) and not made.transductive


def test_more_examples_than_it_was_built_for():
    made, task = learner(), drawn(shots=4)
    with pytest.raises(il.InputError, match=r"at most 11 examples.*got 12; give max_examples=12"):
        made.backward(task)
    with pytest.raises(il.InputError, match="at most 11 examples"):
        made.adapt(task.support.x[0], task.support.y[0])
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, 4] = False
    made.backward(dataclasses.replace(task, support=Examples(task.support.x, task.support.y, mask)))  # padding is free


def test_sizes_that_cannot_be():
    model = il.models.mlp(4, None)
    for options, message in (
        ({"max_examples": 0}, "max_examples expected"),
        ({"filters": 1.5}, "filters expected"),
        ({"keys": (4, 0, 4)}, "keys expected"),
        ({"keys": (4, 4)}, "one size for each attention layer, got 2 and 3"),
        ({"outputs": -1}, "outputs expected"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            il.snail(model, **options)
    with pytest.raises(il.ShapeError, match=r"expected 3 numbers an example.*got 1"):
        learner(1).backward(il.tasks.sinusoid(shots=4, queries=2).train.at(0, 0, 1))
