"""The external memory against a step-by-step numpy version; labels one step late; padding; accuracy by instance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.evaluation.instances import by_instance, instance_numbers
from innerloop.methods.mann import ExternalMemory, MemoryLearner, least_used_rows

pytestmark = pytest.mark.usefixtures("double")

SIZES = {"features": 5, "outputs": 3, "units": 4, "rows": 6, "columns": 3, "heads": 2, "usage_decay": 0.9}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / (np.sqrt(a @ a + 1e-8) * np.sqrt(b @ b + 1e-8))


def by_hand(net: ExternalMemory, xs: np.ndarray, usage: np.ndarray) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Outputs and the last state, row by row and head by head."""
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    memory = np.zeros((net.rows, net.columns))
    weights = [np.zeros(net.rows) for _ in range(net.heads)]
    h, c, r = np.zeros(net.units), np.zeros(net.units), np.zeros(net.heads * net.columns)
    outputs = []
    for x in xs:
        gates = p["from_input.weight"] @ x + p["from_input.bias"] + p["from_state.weight"] @ np.concatenate([h, r])
        write, keep, show, value = np.split(gates, 4)
        c = sigmoid(keep) * c + sigmoid(write) * np.tanh(value)
        h = sigmoid(show) * np.tanh(c)
        controls = p["to_heads.weight"] @ h + p["to_heads.bias"]
        keys = [np.tanh(controls[i * net.columns : (i + 1) * net.columns]) for i in range(net.heads)]
        rest = controls[net.heads * net.columns :]
        order = np.argsort(usage, kind="stable")
        written = []
        for i in range(net.heads):
            gate = sigmoid(rest[i])
            w = gate * weights[i]
            w[order[i]] += 1 - gate
            written.append(w)
        memory = memory.copy()
        memory[order[0]] = 0
        for i in range(net.heads):
            for row in range(net.rows):
                memory[row] += written[i][row] * keys[i]
        weights = []
        for i in range(net.heads):
            sharpness = 1 + np.log1p(np.exp(rest[net.heads + i])) if net.sharpen else 1.0
            scores = np.array([sharpness * cosine(keys[i], memory[row]) for row in range(net.rows)])
            weights.append(np.exp(scores) / np.exp(scores).sum())
        usage = net.usage_decay * usage + sum(weights) + sum(written)
        r = np.concatenate([w @ memory for w in weights])
        outputs.append(p["head.weight"] @ np.concatenate([h, r]) + p["head.bias"])
    state = {
        "memory": memory, "read_weights": np.stack(weights), "usage": usage, "reads": r, "hidden": h, "cell": c,
    }  # fmt: skip
    return outputs, state


@pytest.mark.parametrize("sharpen", [False, True])
def test_every_step_is_that_of_numpy(sharpen):
    torch.manual_seed(0)
    net = ExternalMemory(**SIZES, sharpen=sharpen)
    for p in net.parameters():  # larger than fresh weights, so that keys differ and rows are told apart
        torch.nn.init.normal_(p, std=1.5)
    xs, usage = (
        torch.randn(9, 5),
        torch.rand(6),
    )  # unequal usage from the start: which of equal rows is taken is nobody's business
    for steps in range(1, 10):
        found, state = net(xs[:steps], dataclasses.replace(net.empty(xs), usage=usage))
        expected, last = by_hand(net, xs[:steps].numpy(), usage.numpy())
        assert np.allclose(found.detach().numpy(), np.stack(expected), atol=1e-9)
        for name, value in last.items():
            assert np.allclose(getattr(state, name).detach().numpy(), value, atol=1e-9), name
    assert float(state.memory.detach().abs().sum()) > 1 and not torch.allclose(found[0], found[8])


def test_the_least_used_rows_come_first():
    usage = torch.tensor([0.5, 0.1, 0.9, 0.0])
    assert least_used_rows(usage, 2).tolist() == [[False, False, False, True], [False, True, False, False]]
    batched = least_used_rows(torch.stack([usage, -usage]), 1)
    assert batched.shape == (2, 1, 4) and batched[1, 0].tolist() == [False, False, True, False]


def drawn(support: int = 5, queries: int = 4, num_tasks: int = 2, seed: int = 0, noise: bool = False) -> Task:
    generator = torch.Generator().manual_seed(seed)

    def side(count: int) -> Examples:
        x = torch.randn(num_tasks, count, 4, generator=generator)
        return Examples(x, torch.randint(3, (num_tasks, count), generator=generator))

    return Task(side(support), side(queries), noise=torch.arange(num_tasks) + 7 if noise else None)


def small(seed: int = 0, **options) -> il.MetaLearner:
    torch.manual_seed(seed)
    given = {"outputs": 3, "units": 5, "memory_rows": 8, "memory_columns": 4, "heads": 2, "sharpen": True, **options}
    return il.mann(il.models.mlp(4, None, hidden=(6,), activation="tanh"), **given)


def test_a_label_is_seen_one_step_late():
    learner, y = small(), torch.tensor([0, 1, 2, 1, 0])
    reader, meta = learner.learner, learner.meta()
    z = torch.randn(5, 6)

    def along(y: torch.Tensor, z: torch.Tensor = z) -> torch.Tensor:
        return reader.read(meta, z, reader.labels(y, z), reader.network.empty(z))[0]

    plain, other = along(y), y.clone()
    other[2] = 0
    changed = along(other)
    assert torch.equal(plain[:3], changed[:3]), "before its own prediction a label must not be known"
    assert not torch.allclose(plain[3], changed[3])
    later = z.clone()
    later[3] += 1
    assert torch.equal(plain[:3], along(y, later)[:3]) and not torch.allclose(plain[3], along(y, later)[3])


def test_a_query_is_the_next_example_of_the_sequence():
    learner, task = small(), drawn()
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    reader, meta = learner.learner.in_evaluation(), fitted.meta
    one = Task(
        *(Examples(s.x[0], s.y[0]) for s in (task.support, task.query)), noise=il.keys.task_keys(0, "adapt", 0, 0, 1)[0]
    )
    support = reader.batch(one, 0)
    assert sorted(support.x[:, 0].tolist()) == sorted(one.support.x[:, 0].tolist())
    for i in range(4):
        x = torch.cat([support.x, one.query.x[i : i + 1]])
        z, _ = reader.embed(meta, x)
        labels = reader.labels(torch.cat([support.y, torch.zeros(1, dtype=torch.int64)]), z)
        expected = reader.read(meta, z, labels, reader.network.empty(z))[0][-1]
        assert torch.allclose(fitted.outputs(one.query.x)[i], expected, atol=1e-12)
    last = support.y.clone()
    last[-1] = (last[-1] + 1) % 3
    fast = reader.step(meta, reader.init(meta, one), Examples(support.x, last), 0)
    assert not torch.allclose(reader.predict(meta, fast, one.query.x), fitted.outputs(one.query.x)), (
        "it has to be known"
    )


@pytest.mark.parametrize("whole", [True, False])
def test_the_loss_is_that_of_the_sequence_or_of_the_queries(whole):
    learner, task = small(whole_sequence=whole), drawn(num_tasks=1, noise=True)
    loss = learner.backward(task)["loss"]
    reader, meta = learner.learner, learner.meta()
    one = Task(
        Examples(task.support.x[0], task.support.y[0]), Examples(task.query.x[0], task.query.y[0]), noise=task.noise[0]
    )
    if whole:
        prediction, sequence = reader.along(meta, one)
        assert sequence.y.shape == (9,) and not torch.equal(sequence.x[:5], one.support.x), "shuffled together"
        order = [torch.cat([one.support.x, one.query.x]).tolist().index(row) for row in sequence.x.tolist()]
        assert sorted(order) == list(range(9)) and sequence.y.tolist() == [
            [*one.support.y, *one.query.y][i] for i in order
        ]
        y = sequence.y
    else:
        fast = reader.step(meta, reader.init(meta, one), reader.batch(one, 0), 0)
        prediction, y = reader.predict(meta, fast, one.query.x), one.query.y
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(prediction, y))


def padded(task: Task, extra: int = 2, value: float = 30.0) -> Task:
    def side(s: Examples) -> Examples:
        tasks, count = s.y.shape
        x = torch.cat([s.x, torch.full((tasks, extra, *s.x.shape[2:]), value)], 1)
        y = torch.cat([s.y, torch.ones(tasks, extra, dtype=torch.int64)], 1)
        return Examples(x, y, torch.arange(count + extra).expand(tasks, -1) < count)

    return dataclasses.replace(task, support=side(task.support), query=side(task.query))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_padding_does_not_count(strategy, whole):
    found = []
    for task in (drawn(noise=True), padded(drawn(noise=True))):
        learner = small(whole_sequence=whole, memory_rows=5)  # padding needs no rows of the memory
        learner.strategy = strategy
        metrics = learner.backward(task)
        found.append([*metrics.values(), *(p.grad for p in learner.parameters()), learner.predict_queries(task)[:, :4]])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_it_learns_to_bind_what_it_was_shown():
    """Two classes whose places change in every task: without the memory of the labels nobody is better than chance."""
    torch.manual_seed(0)  # the initial weights: unseeded, some beginnings were still at 0.65 after 100 steps
    learner = il.mann(
        il.models.mlp(4, None, hidden=()), outputs=2, units=24, memory_rows=8, memory_columns=8, heads=2, sharpen=True,
        whole_sequence=False,
    )  # fmt: skip
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    accuracy = []
    for _ in range(150):
        centres = torch.randn(16, 2, 4, generator=generator)
        x = centres + 0.1 * torch.randn(16, 2, 4, generator=generator)
        y = torch.arange(2).expand(16, -1)
        accuracy.append(float(learner.backward(Task(Examples(centres, y), Examples(x, y)))["accuracy"]))
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
    assert sum(accuracy[:10]) / 10 < 0.7 and sum(accuracy[-10:]) / 10 > 0.75


def test_what_does_not_fit():
    with pytest.raises(
        il.InputError, match=r"at most 8 examples, one for each row of the memory, got 9; give memory_rows=9"
    ):
        small().backward(drawn(support=9))
    flat = Task(
        Examples(torch.randn(1, 4, 4), torch.randn(1, 4, 2)), Examples(torch.randn(1, 4, 4), torch.randn(1, 4, 2))
    )
    with pytest.raises(il.ShapeError, match=r"targets expected 3 numbers an example.*give outputs=2"):
        small().backward(flat)
    for options, message in (
        ({"units": 0}, "units expected an integer of at least 1, got 0"),
        ({"heads": 9}, "memory_rows expected at least 9, one for each head, got 8"),
        ({"usage_decay": 1.5}, "usage_decay expected a number from 0 to 1"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            small(**options)


# ---- accuracy by instance ----------------------------------------------------------------------------------------------


def test_instance_numbers():
    assert instance_numbers(torch.tensor([2, 0, 2, 2, 0, 1]), 3).tolist() == [1, 1, 2, 3, 2, 1]


def test_accuracy_by_instance_of_a_reader_that_knows_from_the_third_on(monkeypatch):
    tasks = il.tasks.glyphs(ways=3, shots=3, queries=2).test

    def along(self, meta, task):
        y = torch.cat([task.support.y, task.query.y])
        known = instance_numbers(y, 3) > 2
        right = torch.nn.functional.one_hot(torch.where(known, y, (y + 1) % 3), 3).double()
        return right, Examples(torch.cat([task.support.x, task.query.x]), y)

    learner = il.mann(il.models.mlp((1, 28, 28), None, hidden=()), outputs=3, units=4, memory_rows=16, memory_columns=3)
    real = by_instance(learner, tasks, instances=(1, 5), num_tasks=4)
    assert len(real.per_task) == 2 and len(real.per_task[0]) == 4 and all(0 <= m <= 1 for m in real.mean)
    monkeypatch.setattr(MemoryLearner, "along", along)
    report = by_instance(learner, tasks, instances=(1, 2, 3, 5), num_tasks=4)
    assert report.mean == (0.0, 0.0, 1.0, 1.0) and report.ci95 == (0.0,) * 4
    with pytest.raises(il.InputError, match="shown 6 times; raise shots or queries"):
        by_instance(learner, tasks, instances=(1, 6), num_tasks=2)
    with pytest.raises(il.ConfigError, match="a method that reads a sequence, got protonet"):
        by_instance(il.protonet(il.models.mlp((1, 28, 28), None)), tasks)
    with pytest.raises(il.ConfigError, match="from 1 up"):
        by_instance(learner, tasks, instances=(0,))


def test_a_recipe_may_ask_for_accuracy_by_instance(tmp_path):
    from innerloop.recipes.recipe import Evaluation, Recipe
    from innerloop.recipes.run_recipe import numbers

    learner = il.mann(il.models.mlp((1, 28, 28), None, hidden=()), outputs=3, units=4, memory_rows=16, memory_columns=3)
    options = {"ways": 3, "shots": 2, "queries": 2}
    wanted = Evaluation(instances=(1, 4), num_tasks=3, published=("36.4", "90"))
    rows = numbers(learner, Recipe(name="r", summary="s", tasks="glyphs", task_options=options), wanted, tmp_path)
    assert [row["metric"] for row in rows] == ["accuracy % at instance 1", "accuracy % at instance 4"]
    assert [row["published"] for row in rows] == ["36.4", "90"] and all(0 <= row["value"] <= 100 for row in rows)
