"""Task files and run directories: whole or refused, and never code."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.storage import load_tensors, save_tensors


def task() -> il.Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 6, 3, generator=generator)
    y = torch.tensor([[0, 1, 0, 1, 1, 0]])
    return il.Task(il.Examples(x[0], y), il.Examples(x[1], y))


def fitted(model: nn.Module | None = None, **options) -> il.Fitted:
    torch.manual_seed(0)
    learner = il.maml(model or il.models.mlp(3, 2, hidden=(4,), batch_norm=True), inner_steps=2, **options)
    return learner.adapt(task().support.x[0], ["no", "yes", "no", "yes", "yes", "no"])


def test_a_file_is_self_contained_and_no_pickle(tmp_path):
    one = fitted()
    file = one.save(tmp_path / "task.safetensors")
    tensors, header = load_tensors(file, "innerloop-task", 1)
    assert header["classes"] == ["no", "yes"] and header["algorithm"]["name"] == "maml" and "support/x" in tensors
    again = il.load(file)
    x = task().query.x[0]
    assert torch.equal(again.outputs(x), one.outputs(x)) and torch.equal(again.predict_proba(x), one.predict_proba(x))
    assert again.score(x, list(one.predict(x))) == 1.0
    assert again.owner.mixes_examples and [p.name for p in tmp_path.iterdir()] == ["task.safetensors"]


def test_the_support_set_is_left_out_where_predictions_do_not_need_it(tmp_path):
    """Somebody's data need not travel with the file."""
    one = fitted(il.models.mlp(3, 2, hidden=(4,)))
    file = one.save(tmp_path / "task")
    tensors, _ = load_tensors(file, "innerloop-task", 1)
    assert not [name for name in tensors if name.startswith("support")]
    assert torch.equal(il.load(file).outputs(task().query.x[0]), one.outputs(task().query.x[0]))


def test_what_comes_back_can_adapt_again(tmp_path):
    again = il.load(fitted().save(tmp_path / "task"))
    s, q = task().support, task().query
    assert torch.equal(again.owner.adapt(s.x[0], s.y[0]).outputs(q.x[0]), fitted().outputs(q.x[0]))


class Own(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


def test_models_of_ones_own_are_asked_for(tmp_path):
    torch.manual_seed(0)
    file = fitted(Own()).save(tmp_path / "task")
    with pytest.raises(il.CheckpointError, match=r"made with your own model .*Own; give it: il.load\(path, model="):
        il.load(file)
    torch.manual_seed(0)
    expected = fitted(Own()).outputs(task().query.x[0])
    assert torch.equal(il.load(file, model=Own()).outputs(task().query.x[0]), expected)
    with pytest.raises(il.CheckpointError, match=r"another model|damaged"):
        il.load(file, model=Own(5))


def own_loss(prediction, y):
    return nn.functional.cross_entropy(prediction, y)


def test_losses_of_ones_own_are_asked_for_when_adapting_again(tmp_path):
    s, q = task().support, task().query
    file = fitted(loss=own_loss).save(tmp_path / "task")
    again = il.load(file)
    assert torch.equal(again.outputs(q.x[0]), fitted().outputs(q.x[0]))
    with pytest.raises(il.ConfigError, match=r"loss function 'own_loss'; give it again"):
        again.owner.adapt(s.x[0], s.y[0])
    given = il.load(file, loss=own_loss).owner.adapt(s.x[0], s.y[0])
    assert torch.equal(given.outputs(q.x[0]), fitted().outputs(q.x[0]))


def test_damaged_files(tmp_path):
    file = fitted().save(tmp_path / "task")
    content = file.read_bytes()
    tensors, header = load_tensors(file, "innerloop-task", 1)
    for cut in (0, 5, 100, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(il.CheckpointError, match=r"truncated or damaged|expected a file of kind"):
            il.load(file)
    save_tensors(file, "innerloop-task", 9, tensors, header)
    with pytest.raises(il.CheckpointError, match="version 1 or older, got version 9; upgrade"):
        il.load(file)
    for missing in ("model", "classes", "dtype", "support", "algorithm"):
        save_tensors(file, "innerloop-task", 1, tensors, {k: v for k, v in header.items() if k != missing})
        with pytest.raises(il.CheckpointError, match="damaged"):
            il.load(file)
    for missing in ("fast/0000", "meta/params/head.weight"):
        save_tensors(file, "innerloop-task", 1, {k: v for k, v in tensors.items() if k != missing}, header)
        with pytest.raises(il.CheckpointError):
            il.load(file)
    with pytest.raises(il.CheckpointError, match="found nothing there"):
        il.load(tmp_path / "nothing")
    with pytest.raises(il.CheckpointError, match=r"without config\.json"):
        il.load(tmp_path)


@pytest.mark.parametrize("inside", ["header", "weights"])
def test_a_bit_that_changed_since_is_seen(tmp_path, inside):
    file = fitted().save(tmp_path / "task")
    content = bytearray(file.read_bytes())
    content[content.index(b"algorithm") if inside == "header" else len(content) - 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(il.CheckpointError, match="it is not what its hash was taken of"):
        il.load(file)


def test_precision_survives_a_run_directory(tmp_path):
    """A run in float64 comes back in float64: its numbers are those that were validated."""
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)))
    tasks = il.tasks.sinusoid(shots=3, queries=3)
    il.fit(learner, tasks, out=tmp_path, steps=2, num_tasks=2, valid_tasks=2, quiet=True, precision="float64")
    again = il.load(tmp_path)
    assert again.dtype == torch.float64
    assert (
        il.evaluate(again, tasks.test, num_tasks=3).per_task == il.evaluate(learner, tasks.test, num_tasks=3).per_task
    )


def test_the_configuration_of_a_run(tmp_path):
    torch.manual_seed(0)
    learner = il.reptile(il.models.mlp(1, 1, hidden=(4,)), inner_steps=3)
    tasks = il.tasks.sinusoid(shots=3, queries=3)
    il.fit(learner, tasks, out=tmp_path, steps=1, num_tasks=2, valid_tasks=2, quiet=True, command="as typed")
    found = json.loads((tmp_path / "config.json").read_text())
    assert found["algorithm"] == {"name": "reptile", "options": learner.options} and found["command"] == "as typed"
    assert found["tasks"] == {"name": "sinusoid", "options": json.loads(json.dumps(dict(tasks.options)))}
    assert found["training"]["steps"] == 1 and found["model"] == learner.model_spec
    assert {"version", "format", "commit", "environment", "objective"} <= found.keys()
    assert dataclasses.is_dataclass(learner.outer)


def test_a_head_without_bias_can_be_pretrained():
    """Labels are global class numbers while pretraining, so the model's own narrow head cannot stand in."""
    torch.manual_seed(0)
    learner = il.pretrained(il.models.mlp(3, 2, hidden=(4,), bias=False))
    batch = dataclasses.replace(task(), class_ids=torch.tensor([[7, 3]]), num_classes=9)
    try:
        metrics = learner.backward(batch)
    except il.InnerloopError:
        return  # a refusal that says why is as good
    assert metrics["loss"].isfinite()


def whole_file(tmp_path, learner=None):
    """(tensors, header) of a task file that holds its support set."""
    torch.manual_seed(0)
    learner = learner or il.maml(il.models.mlp(3, 2, hidden=(4,)), inner_steps=2)
    one = learner.adapt(task().support.x[0], ["no", "yes", "no", "yes", "yes", "no"])
    return load_tensors(one.save(tmp_path / "task", support=True), "innerloop-task", 1)


@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 1, 1, -1]), torch.zeros(5).long(), torch.zeros(6)]
)
def test_a_stored_support_set_has_to_fit_its_task(tmp_path, y):
    tensors, header = whole_file(tmp_path)
    assert tensors["support/y"].tolist() == [0, 1, 0, 1, 1, 0]
    save_tensors(tmp_path / "other", "innerloop-task", 1, {**tensors, "support/y": y}, header)
    with pytest.raises(il.CheckpointError, match="is damaged"):
        il.load(tmp_path / "other")


def test_a_file_asks_for_no_endless_inner_loop(tmp_path):
    tensors, header = whole_file(tmp_path)
    save_tensors(tmp_path / "other", "innerloop-task", 1, tensors, {**header, "step": 10**9})
    with pytest.raises(il.CheckpointError, match="is damaged"):
        il.load(tmp_path / "other")


def test_a_task_opened_without_its_support_set_cannot_save_it(tmp_path):
    again = il.load(fitted(il.models.mlp(3, 2, hidden=(4,))).save(tmp_path / "task"))
    assert not again.holds_support and again.num_examples == 6
    with pytest.raises(il.InputError, match="got one from a file without; adapt again"):
        again.save(tmp_path / "other", support=True)
    assert il.load(again.save(tmp_path / "other")).num_examples == 6


def test_a_cnp_file_without_counts_predicts_and_says_that_it_cannot_absorb(tmp_path):
    """As the versions before wrote them."""
    learner = il.cnp(il.models.mlp(3, None, hidden=()), outputs=2, width=8)
    tensors, header = whole_file(tmp_path, learner)
    x, y = task().query.x[0], ["no", "yes", "no", "yes", "yes", "no"]
    new = il.load(tmp_path / "task")
    kept = {name: value for name, value in tensors.items() if name != "fast/0001" and not name.startswith("support")}
    save_tensors(tmp_path / "old", "innerloop-task", 1, kept, header)
    old = il.load(tmp_path / "old")
    assert torch.equal(old.outputs(x), new.outputs(x)) and old.fast.counts is None
    assert torch.equal(il.load(old.save(tmp_path / "again")).outputs(x), new.outputs(x))
    with pytest.raises(il.ConfigError, match="does not say how many examples it is of; adapt again"):
        old.learn(x, y)
    less = {name: value for name, value in tensors.items() if name != "fast/0000"}
    save_tensors(tmp_path / "less", "innerloop-task", 1, less, header)
    with pytest.raises(il.CheckpointError):
        il.load(tmp_path / "less")


def test_no_other_method_is_opened_with_less_than_it_adapted(tmp_path):
    tensors, header = whole_file(tmp_path)
    last = max(name for name in tensors if name.startswith("fast/"))
    save_tensors(tmp_path / "other", "innerloop-task", 1, {n: v for n, v in tensors.items() if n != last}, header)
    with pytest.raises(il.CheckpointError, match="is damaged"):
        il.load(tmp_path / "other")
