"""A task that is given more data is the task adapted to all of it at once, for every method."""

from __future__ import annotations

import pytest
import torch
from contract_table import NAMES, batch, model_for, small

import innerloop as il
from innerloop.core import Examples

CASES = ("regression", "classification")
# Sums in another order: a few units in the last place of float32, at the size of the outputs.
ABSORBED = {"rtol": 1e-4, "atol": 1e-5}


def sides(case: str):
    task = batch(case, 1)
    return task.support.x[0], task.support.y[0], task.query.x[0]


def close(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    if small(name).learner.absorbs:
        torch.testing.assert_close(found, expected, **ABSORBED)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_learning_on_is_adapting_to_all(name, case):
    learner = small(name, case)
    x, y, asked = sides(case)
    first = learner.adapt(x[:3], y[:3])
    before = first.outputs(asked)
    assert not torch.equal(before, learner.adapt(x, y).outputs(asked)) or name == "multitask_average"
    on = first.learn(x[3:], y[3:])
    close(name, on.outputs(asked), learner.adapt(x, y).outputs(asked))
    assert on.num_examples == len(x) and first.num_examples == 3
    assert torch.equal(first.outputs(asked), before), "the task that was there before stays as it was"


@pytest.mark.parametrize("name", NAMES)
def test_new_class_names_go_where_sorting_puts_them(name):
    learner = small(name)
    x, y, asked = sides("classification")
    names = [["cat", "ape", "dog"][i] for i in y.tolist()]
    old = [i for i, n in enumerate(names) if n != "ape"]
    new = [i for i, n in enumerate(names) if n == "ape"]
    on = learner.adapt(x[old], [names[i] for i in old]).learn(x[new], [names[i] for i in new])
    assert on.classes_ == ["ape", "cat", "dog"]
    order = old + new
    close(name, on.outputs(asked), learner.adapt(x[order], [names[i] for i in order]).outputs(asked))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_its_support_set_learns_on(name, tmp_path):
    learner = small(name)
    x, y, asked = sides("classification")
    first = learner.adapt(x[:3], y[:3], steps=2)
    whole = il.load(first.save(tmp_path / "whole.il", support=True))
    assert torch.equal(whole.learn(x[3:], y[3:]).outputs(asked), first.learn(x[3:], y[3:]).outputs(asked))
    bare = il.load(first.save(tmp_path / "bare.il"))
    if learner.learner.absorbs:
        assert torch.equal(bare.learn(x[3:], y[3:]).outputs(asked), first.learn(x[3:], y[3:]).outputs(asked))
        assert bare.learn(x[3:], y[3:]).num_examples == len(x)
        with pytest.raises(il.InputError, match=r"the new class 7 needs the support set.*save\(path, support=True\)"):
            bare.learn(x[3:], [0, 1, 7])
    else:
        with pytest.raises(il.InputError, match=rf"{name} learns from the support set.*support=True"):
            bare.learn(x[3:], y[3:])


@pytest.mark.parametrize("name", [n for n in NAMES if small(n).learner.absorbs])
def test_absorbing_costs_the_same_whatever_came_before(name):
    """What is computed: as many operations, on tensors of the same shapes, after 3 examples as after 300."""
    learner = small(name)
    x, y, _ = sides("classification")
    work = []
    for times in (1, 100):
        fitted = learner.adapt(x[:3].repeat(times, 1), y[:3].repeat(times))
        with Counted() as seen:
            fitted.learner.absorb(fitted.meta, fitted.fast, Examples(x[3:], y[3:]))
        work.append(seen.shapes)
    assert work[0] == work[1] and work[0]


class Counted(torch.utils._python_dispatch.TorchDispatchMode):
    def __enter__(self):
        self.shapes = []
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves((args, found))
        self.shapes.append((str(func), [tuple(v.shape) for v in leaves if isinstance(v, torch.Tensor)]))
        return found


@pytest.mark.parametrize("name", NAMES)
def test_what_says_that_it_absorbs_does_and_nothing_else(name):
    learner = small(name)
    x, y, _ = sides("classification")
    fitted = learner.adapt(x[:3], y[:3])
    if not learner.learner.absorbs:
        with pytest.raises(il.ConfigError, match="takes no more data once it has adapted"):
            learner.learner.absorb(fitted.meta, fitted.fast, Examples(x[3:], y[3:]))


@pytest.mark.parametrize("name", [n for n in NAMES if small(n).learner.absorbs])
def test_absorbing_weighs_each_mean_by_what_it_is_of(name):
    learner = small(name)
    x, y, asked = sides("classification")
    on = learner.adapt(x[:5], y[:5]).learn(x[5:], y[5:])
    on = on.learn(x[:1] + 1, y[:1])  # three of one class, by now
    whole = learner.adapt(torch.cat([x, x[:1] + 1]), torch.cat([y, y[:1]]))
    close(name, on.outputs(asked), whole.outputs(asked))


def test_absorbing_methods_adapt_again_where_examples_mix():
    """Batch statistics of a part are not those of all; so only adapting again gives the same."""
    learner = il.protonet(model_for("batch_norm"), batch_norm="batch")
    x, y, asked = sides("classification")
    on = learner.adapt(x[:3], y[:3]).learn(x[3:], y[3:])
    assert torch.equal(on.outputs(asked), learner.adapt(x, y).outputs(asked))


def test_training_on_does_not_change_what_a_task_learns_from():
    learner = small("maml")
    x, y, asked = sides("classification")
    first, expected = learner.adapt(x[:3], y[:3]), learner.adapt(x, y).outputs(asked)
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(0.1)
    assert torch.equal(first.learn(x[3:], y[3:]).outputs(asked), expected)


def test_a_task_learns_on_with_as_many_steps_as_before():
    learner = small("maml")
    x, y, asked = sides("classification")
    first = learner.adapt(x[:3], y[:3], steps=5)
    assert torch.equal(first.learn(x[3:], y[3:]).outputs(asked), learner.adapt(x, y, steps=5).outputs(asked))
    assert torch.equal(first.learn(x[3:], y[3:], steps=1).outputs(asked), learner.adapt(x, y, steps=1).outputs(asked))
    again = small("protonet").adapt(x[:3], y[:3], steps=0).learn(x[3:], y[3:], steps=1)
    assert torch.equal(again.outputs(asked), small("protonet").adapt(x, y).outputs(asked)), "0 steps had seen nothing"
    blank = small("protonet").adapt(x[:3], y[:3], steps=0).learn(x[3:], y[3:])
    assert torch.equal(blank.outputs(asked), small("protonet").adapt(x, y, steps=0).outputs(asked))


def test_binary_losses_learn_on():
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(4, 1, hidden=(6,)), loss="binary_cross_entropy", inner_steps=2, inner_lr=0.1)
    x, y, asked = sides("classification")
    names = ["yes" if v else "no" for v in y.tolist()]
    on = learner.adapt(x[:3], names[:3]).learn(x[3:], names[3:])
    assert torch.equal(on.outputs(asked), learner.adapt(x, names).outputs(asked)) and on.classes_ == ["no", "yes"]
    with pytest.raises(il.InputError, match="1 outputs, got 3 classes"):
        on.learn(x[3:], ["yes", "maybe", "no"])


def test_what_does_not_fit_is_refused_in_one_line():
    learner = small("maml")
    x, y, _ = sides("classification")
    fitted = learner.adapt(x, y)
    cases = [
        ((x[:, :2], y), il.ShapeError, r"x expected shape \(examples, 4\)"),
        ((x, y[:2]), il.ShapeError, "equally many examples, got 6 and 2"),
        ((x, None), il.InputError, "expected targets y"),
        ((x[:1], [9]), il.InputError, "3 outputs, got 4 classes; train with ways=4"),
        ((x, ["a"] * 6), il.InputError, "class names expected whole numbers as the support set had, got texts"),
        ((x, [0.5] * 6), il.InputError, "y row 1 expected a class label, got 0.5"),
        ((x[:0], y[:0]), il.InputError, "x is empty"),
    ]
    for given, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            fitted.learn(*given)
        assert "\n" not in str(error.value)
    with pytest.raises(il.ConfigError, match="steps expected"):
        fitted.learn(x, y, steps=-1)
    values = small("maml", "regression").adapt(torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(il.ShapeError, match=r"y expected shape \(examples, 1\) as the support set had, got \(2,\)"):
        values.learn(torch.zeros(2, 1), [1.0, 2.0])
    with pytest.raises(il.InputError, match="y expected finite numbers"):
        values.learn(torch.zeros(1, 1), [[float("nan")]])
