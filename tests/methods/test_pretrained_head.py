"""The pretrained baseline's head for all classes: it grows with the tasks and with what a file holds, and in no other way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from metric_tasks import drawn, net

import innerloop as il
from innerloop.training.checkpoint import load_weights, weights

HEAD = "learner/rule.global_head/"


def pretrained(num_classes: int | None = None) -> il.MetaLearner:
    return il.pretrained(net(), num_classes=num_classes)


def test_the_first_batch_makes_it_grow_and_the_parameter_stays_the_same_object():
    learner = pretrained()
    before = dict(learner.rule_by_name())
    task = drawn(2, 2, 1)
    ids = torch.tensor([[3, 0], [1, 2], [6, 5]])
    learner.backward(il.Task(task.support, task.query, class_ids=ids, num_classes=7))
    after = learner.rule_by_name()
    assert {name: tuple(p.shape) for name, p in after.items()} == {
        "global_head/weight": (7, 6),
        "global_head/bias": (7,),
    }
    assert all(after[name] is p for name, p in before.items())
    kept = {name: p.detach().clone() for name, p in after.items()}
    learner.widen(5)
    learner.widen(None)
    assert all(kept[name].equal(p) for name, p in learner.rule_by_name().items())


def test_it_takes_the_length_that_a_file_has():
    stored = weights(pretrained(11))
    learner = pretrained()
    load_weights(learner, stored, Path("run"))
    assert learner.rule_by_name()["global_head/weight"].equal(stored[f"{HEAD}weight"])
    assert learner.rule_by_name()["global_head/bias"].equal(stored[f"{HEAD}bias"])


@pytest.mark.parametrize(
    "shapes",
    [
        {"weight": (11, 6), "bias": (12,)},
        {"weight": (11, 0), "bias": (3,)},
        {"weight": (), "bias": ()},
        {"weight": (2, 6), "bias": (2,)},
    ],
)
def test_a_file_whose_head_does_not_fit_is_refused_and_makes_nothing_grow(shapes):
    learner = pretrained()
    stored = weights(learner) | {f"{HEAD}{kind}": torch.zeros(shape) for kind, shape in shapes.items()}
    with pytest.raises(il.CheckpointError, match=r"global_head/.* expected shape"):
        load_weights(learner, stored, Path("run"))
    assert learner.rule_by_name()["global_head/weight"].shape == (3, 6)


def test_other_methods_parameters_have_the_size_they_have():
    learner = il.meta_sgd(net())
    stored = weights(learner)
    name = next(n for n in stored if n.startswith("learner/rule."))
    stored[name] = torch.cat([stored[name], stored[name]])
    with pytest.raises(il.CheckpointError, match="expected shape"):
        load_weights(learner, stored, Path("run"))
