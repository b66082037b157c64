"""`il.evaluate_online`: every example is predicted from those before it alone, then learned."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import innerloop as il
from innerloop import keys
from innerloop.cli.main import main
from innerloop.core import Examples, TaskFamily
from innerloop.evaluation.online import scores, sequences, within

TASKS = il.tasks.road(shots=8, queries=4)
SETTINGS = ("split", "shots", "queries", "change", "dtype", "grip", "mass", "latency", "slope", "noise")


def learner(**options):
    torch.manual_seed(0)
    return il.alpaca(il.models.mlp(6, 5, hidden=(7,)), outputs=3, **options)


def test_it_is_adapting_to_what_came_before():
    made = learner(changepoints=True, runs=4)
    found = il.evaluate_online(made, TASKS.valid, num_tasks=3)
    x, y = sequences(TASKS.valid.at(0, 0, 3))
    for task, step in ((0, 1), (1, 5), (2, 11)):
        fitted = made.adapt(x[task, :step], y[task, :step])
        expected = (fitted.predict(x[task, step : step + 1]) - y[task, step]).square().mean()
        assert float(found.errors[task, step]) == pytest.approx(float(expected), rel=1e-4)
        assert float(found.change_probability[task, step - 1]) == pytest.approx(fitted.change_probability, abs=1e-5)
    assert found.errors.shape == (3, 12) and found.log_likelihood["all"].mean < 0
    assert torch.equal(found.changes, TASKS.valid.changes(keys.task_keys(0, "valid", 0, 0, 3)))


@pytest.mark.parametrize("window", [0, 1, 3, 50])
def test_a_window_is_adapting_anew_to_the_last_examples(window):
    torch.manual_seed(0)
    made = il.maml(il.models.mlp(6, 3), inner_lr=0.1, inner_steps=2)
    found = il.evaluate_online(made, TASKS.valid, num_tasks=2, window=window)
    x, y = sequences(TASKS.valid.at(0, 0, 2))
    for step in (0, 1, 2, 7, 11):
        blind = window == 0 or step == 0
        shown = slice(0, 1) if blind else slice(max(0, step - window), step)
        fitted = made.adapt(x[1, shown], y[1, shown], steps=0 if blind else None)
        expected = (fitted.predict(x[1, step : step + 1]) - y[1, step]).square().mean()
        assert float(found.errors[1, step]) == pytest.approx(float(expected), rel=1e-4)
    assert found.log_likelihood == {} and found.change_probability is None


def test_an_example_is_not_seen_before_it_is_predicted():
    """Later targets changed: errors before them stay."""

    class Spoiled(type(TASKS.valid)):
        def from_keys(self, keys):
            task = super().from_keys(keys)
            return dataclasses.replace(task, query=Examples(task.query.x, task.query.y + 100))

    spoiled = Spoiled(**{k: getattr(TASKS.valid, k) for k in SETTINGS})
    for made, options in ((learner(), {}), (il.maml(il.models.mlp(6, 3), inner_steps=1), {"window": 3})):
        plain, other = (il.evaluate_online(made, t, num_tasks=2, **options).errors for t in (TASKS.valid, spoiled))
        assert torch.equal(plain[:, :8], other[:, :8]) and not torch.equal(plain[:, 8:], other[:, 8:])


def test_padding_is_neither_learned_nor_judged():
    made, whole = learner(), TASKS.valid.at(0, 0, 2)

    class Padded(type(TASKS.valid)):
        def from_keys(self, keys):
            task = super().from_keys(keys)
            mask = (torch.arange(8) < 5).expand(len(keys), -1)
            return dataclasses.replace(
                task, support=Examples(task.support.x, task.support.y + 9 * ~mask[..., None], mask)
            )

    padded = Padded(**{k: getattr(TASKS.valid, k) for k in SETTINGS})
    found = il.evaluate_online(made, padded, num_tasks=2)
    assert found.errors[:, 5:8].isnan().all() and found.errors[:, 8:].isfinite().all()
    fitted = made.adapt(whole.support.x[0, :5], whole.support.y[0, :5])
    expected = (fitted.predict(whole.query.x[0, :1]) - whole.query.y[0, :1]).square().mean()
    assert float(found.errors[0, 8]) == pytest.approx(float(expected), rel=1e-4)
    assert found.phases["all"].mean == pytest.approx(float(found.errors.nanmean(1).mean()), rel=1e-5)
    with pytest.raises(il.InputError, match="expected streams of one length for a window"):
        il.evaluate_online(il.maml(il.models.mlp(6, 3)), padded, num_tasks=2, window=2)


def test_phases_are_counted_from_the_change():
    changes = torch.tensor([30, 5])
    assert not any(within(p, torch.tensor([80]), 80).any() for p in ("before", "1-5", "6-20", "41+"))
    assert [within(p, changes, 80)[0].nonzero()[[0, -1], 0].tolist() for p in ("before", "1-5", "6-20", "41+")] == [
        [10, 29], [30, 34], [35, 49], [70, 79],
    ]  # fmt: skip
    values = torch.arange(80.0).expand(2, -1)
    found = scores(values, changes)
    assert found["1-5"].per_task == (32.0, 7.0) and found["before"].per_task == (19.5, 2.0)
    assert found["all"].mean == pytest.approx(39.5)
    assert "before" not in scores(values, torch.tensor([0, 0])), "no task has such a step"


def test_what_cannot_be_judged_so():
    with pytest.raises(il.ConfigError, match="expected a window for maml, which adapts anew to all examples"):
        il.evaluate_online(il.maml(il.models.mlp(6, 3)), TASKS.test)
    with pytest.raises(il.InputError, match="expected tasks of values, got glyphs"):
        il.evaluate_online(il.protonet(il.models.mlp(6, 3)), il.tasks.glyphs(size=12).test)
    with pytest.raises(il.ConfigError, match="num_tasks expected an integer of at least 2, got 1"):
        il.evaluate_online(learner(), TASKS.test, num_tasks=1)
    plain = il.tasks.sinusoid()
    assert isinstance(plain, TaskFamily)
    found = il.evaluate_online(il.alpaca(il.models.mlp(1, 4)), plain.test, num_tasks=2)
    assert list(found.phases) == ["all"], "nothing changes there"


def test_the_command(tmp_path, capsys):
    run = tmp_path / "run"
    line = "train alpaca road --changepoints --runs 3 --shots 8 --queries 4 --steps 2 --num-tasks 2 --valid-tasks 2 --quiet"
    assert main([*line.split(), "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["stream", str(run), "--streams", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_tasks"] == 3 and len(found["errors"]) == 3 and len(found["change_probability"][0]) == 12
    assert main(["stream", str(run), "--streams", "3"]) == 0
    assert "squared error by steps after the change: before" in capsys.readouterr().out
    assert main(["stream", str(run), "--rate", "0.1"]) == 2
    assert "--rate expected streams of classes, got tasks of values" in capsys.readouterr().err
