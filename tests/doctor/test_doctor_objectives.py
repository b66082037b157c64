"""The doctor on tasks that are not labelled examples: what only their objective understands."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from toy_families import SETTINGS, Clouds, Denoising, Graphs, Kept

import innerloop as il
from innerloop import keys
from innerloop.doctor import as_batch
from innerloop.engine import take

KINDS = {"clouds": Clouds, "graphs": Graphs}


def examined(name: str, method: str = "maml", tasks: il.Task | None = None, model: nn.Module | None = None, **more):
    torch.manual_seed(0)
    split = KINDS[name]("train")
    steps = {"inner_steps": 3} if method == "imaml" else SETTINGS[name]
    learner = getattr(il, method)(model or split.default_model(), **{**steps, **more})
    return il.check_meta_gradient(learner, split.at(0, 0, 2) if tasks is None else tasks)


@pytest.mark.parametrize("name", KINDS)
def test_loop_is_vmap_is_finite_differences(name):
    found = examined(name)
    assert found.ok, found.problems
    assert found.loop_against_vmap is not None and found.loop_against_vmap < 1e-9
    assert found.differences_error is not None and found.differences_error < 1e-5
    assert found.second_order_part is not None and found.second_order_part > 1e-4
    assert found.gradient_norm > 0 and not found.no_gradient


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", ["fomaml", "reptile", "imaml"])
def test_other_estimators_are_held_to_their_definitions(name, method):
    found = examined(name, method)
    assert found.ok, found.problems
    assert (found.differences_error if method == "fomaml" else found.definition_error) is not None


def test_one_task_that_shows_that_it_is_one_becomes_a_batch():
    batch = Clouds("train").at(0, 0, 2)
    one = take(batch, 1)
    assert torch.equal(as_batch(one).support, batch.support[1:]) and as_batch(batch) is batch
    assert examined("clouds", tasks=one).num_tasks == 1


class Held(Denoising):
    """Half of the outer loss is hidden from autograd."""

    def loss(self, apply, data, key):
        found = super().loss(apply, data, key)
        return 0.5 * found + 0.5 * found.detach()


@pytest.mark.slow
def test_a_loss_cut_out_of_the_graph_is_found():
    tasks = dataclasses.replace(Clouds("train").at(0, 0, 2), objective=Held())
    found = examined("clouds", tasks=tasks)
    assert not found.ok
    assert any("finite differences contradict it" in problem for problem in found.problems)


class Spare(nn.Module):
    """A graph network with a layer that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = Graphs("train").default_model(), nn.Linear(3, 2)

    def forward(self, graph):
        return self.net(graph) + 0 * self.spare(graph["nodes"]).detach().mean()


def test_parameters_that_no_output_depends_on_are_named():
    found = examined("graphs", model=Spare())
    assert found.ok, found.problems
    assert found.no_gradient == {"unused": ("spare.weight", "spare.bias")}


class Rows(Kept):
    """A task's own data are row numbers into what all tasks share."""

    def data(self, side, shared):
        return {"x": shared["x"][side], "label": shared["label"][side]}


def test_row_numbers_into_shared_data():
    key = torch.tensor(3)
    table = {"x": keys.normal(key, (40, 8)), "label": keys.integers(key, 4, (40,), 1)}
    rows = keys.integers(keys.task_keys(0, "train", 0, 0, 2), 40, (12,), 2)
    tasks = il.Task(support=rows[:, :6], query=rows[:, 6:], objective=Rows(), shared=table)
    found = examined("clouds", tasks=tasks, model=nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 4)))
    assert found.ok, found.problems
    assert found.differences_error < 1e-5 and found.loop_against_vmap < 1e-9


def test_a_method_of_labelled_examples_alone_says_so_in_one_line():
    with pytest.raises(il.InnerloopError, match="expected tasks of labelled examples"):
        il.check_meta_gradient(il.protonet(nn.Linear(2, 4)), Clouds("train").at(0, 0, 2))
