"""One new task whose data its objective alone knows; and labelled examples whose inputs are a dictionary."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from toy_families import FAMILIES, SETTINGS, Edges, GraphNet, Kept, family

import innerloop as il
from innerloop import keys
from innerloop.serving.export import export_fitted


def trained(name: str) -> tuple[il.MetaLearner, il.TaskFamily]:
    torch.manual_seed(1)
    tasks = family(name, FAMILIES[name])
    learner = il.maml(tasks.train.default_model(), **SETTINGS[name])
    il.fit(learner, tasks, steps=5, num_tasks=4, outer_lr=1e-2, validate_every=0, quiet=True)
    return learner, tasks


def one_task(tasks: il.TaskFamily):
    task = tasks.test.at(0, 0, 1)
    return tuple(pytree.tree_map(lambda v: v[0], side) for side in (task.support, task.query))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_task_is_adapted_to_and_scored(name):
    learner, tasks = trained(name)
    support, query = one_task(tasks)
    before, after = (learner.adapt(support, steps=n) for n in (0, None))
    assert isinstance(after, il.Fitted)
    better = next(iter(tasks.test.objective.metrics.values()))
    assert (after.score(query) > before.score(query)) == better or name == "bandits"
    assert repr(after).startswith(f"Fitted(maml, objective {tasks.test.objective.name}; ")
    if not tasks.test.objective.draws:  # nothing is drawn, so it is what an evaluation measures
        measured = next(iter(learner.measure_queries(tasks.test.at(0, 0, 1)).values()))
        assert after.score(query) == pytest.approx(float(measured), rel=1e-6)


def test_predictions_are_the_adapted_model_s():
    learner, tasks = trained("graphs")
    support, query = one_task(tasks)
    fitted = learner.adapt(support)
    graph = {"nodes": query["nodes"], "edges": query["edges"]}
    assert torch.equal(fitted.predict(graph), learner.learner.as_model(fitted.meta, fitted.fast)(graph))
    arrays = fitted.predict({name: value.numpy() for name, value in graph.items()})
    assert type(arrays).__name__ == "ndarray" and torch.equal(torch.as_tensor(arrays), fitted.predict(graph))


def test_more_data_are_joined_along_the_examples():
    learner, tasks = trained("graphs")
    support, query = one_task(tasks)
    first = learner.adapt(pytree.tree_map(lambda v: v[:10], support))
    on, whole = first.learn(pytree.tree_map(lambda v: v[10:], support)), learner.adapt(support)
    assert on.score(query) == whole.score(query) and on.num_examples == 16 and first.num_examples == 10
    assert torch.equal(on.predict({n: query[n] for n in ("nodes", "edges")}),
                       whole.predict({n: query[n] for n in ("nodes", "edges")}))  # fmt: skip
    for other in ({"nodes": support["nodes"]}, {**support, "y": support["y"][:3]}, {**support, "edges": torch.eye(6)}):
        with pytest.raises(il.ShapeError, match="expected a side that can be joined") as error:
            first.learn(other)
        assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    learner, tasks = trained("stream")
    support, _ = one_task(tasks)
    fitted = learner.adapt(support)
    for wrong, kind, message in (
        (lambda: learner.adapt(support, [1]), il.InputError, "objective Kept, got y too"),
        (lambda: learner.adapt({"x": "text"}), il.InputError, "expected tensors or arrays of numbers, got str"),
        (lambda: learner.adapt(support, objective=3), il.ConfigError, "expected an il.Objective, got int"),
        (lambda: fitted.save(tmp_path / "a.il"), il.ConfigError, "save expected a task of labelled examples"),
        (
            lambda: export_fitted(fitted, tmp_path / "a.pt2", "torch-export"),
            il.ConfigError,
            "export expected a task of",
        ),
        (lambda: fitted.predict_proba(support["x"]), il.ConfigError, "objective Kept; use predict"),
        (lambda: fitted.predict(support["x"] * torch.nan), il.InputError, "the inputs expected finite numbers"),
        (lambda: il.protonet(nn.Linear(8, 4)).adapt(support, objective=Kept()), il.ConfigError, "protonet expected"),
    ):
        with pytest.raises(kind, match=message) as error:
            wrong()
        assert "\n" not in str(error.value)


def test_a_learner_that_was_opened_is_given_the_objective_again(tmp_path):
    torch.manual_seed(1)
    tasks = family("graphs", FAMILIES["graphs"])
    learner = il.maml(tasks.train.default_model(), **SETTINGS["graphs"])
    il.fit(learner, tasks, steps=3, num_tasks=4, out=tmp_path / "run", quiet=True)
    again = il.load(tmp_path / "run", model=GraphNet())
    support, query = one_task(tasks)
    with pytest.raises(il.ConfigError, match=r"the objective Edges itself.*objective=Edges\(\)"):
        again.adapt(support)
    assert again.adapt(support, objective=Edges()).score(query) == learner.adapt(support).score(query)


# ---- labelled examples whose inputs are a dictionary -------------------------------------------------------------------
class Graphlets(il.TaskDistribution):
    """Which of two kinds of graph: on which side of the task's own plane its nodes' mean lies."""

    name, objective, output_size = "graphlets", "cross_entropy", 2

    def __init__(self, split: str) -> None:
        self.split = split

    def from_keys(self, task_keys):
        which = keys.normal(task_keys, (1, 1, 3), 1)
        nodes = keys.normal(task_keys, (32, 6, 3), 2)
        edges = (keys.uniform(task_keys, (32, 6, 6), 3) < 0.5).to(nodes.dtype) + torch.eye(6)
        y = (((edges @ nodes).mean(2) * which[:, 0]).sum(-1) > 0).long()
        sides = [il.Examples({"nodes": nodes[:, s], "edges": edges[:, s]}, y[:, s]) for s in (slice(16), slice(16, 32))]
        return il.Task(*sides, "cross_entropy", noise=task_keys)

    def default_model(self):
        return Net()


class Net(nn.Module):
    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.message, self.out = nn.Linear(3, 16), nn.Linear(16, 2)
        self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()

    def forward(self, graph):
        return self.out(self.norm((graph["edges"] @ torch.relu(self.message(graph["nodes"]))).mean(1)))


GRAPHLETS = family("graphlets", Graphlets)


def graph_learner(**more) -> il.MetaLearner:
    torch.manual_seed(2)
    return il.maml(Net(), **{"inner_lr": 0.3, "inner_steps": 3, **more})


def test_dictionaries_train_and_evaluate():
    learner = graph_learner()
    il.fit(learner, GRAPHLETS, steps=30, num_tasks=8, outer_lr=1e-2, validate_every=0, quiet=True)
    report = il.evaluate(learner, GRAPHLETS.test, num_tasks=50, curve_steps=3)
    assert report.mean > 0.65 and report.curve[-1] > report.curve[0] + 0.1, report.curve


def test_looped_is_vmapped_for_dictionaries():
    found = []
    for strategy in ("looped", "vmapped"):
        learner = graph_learner().double()
        learner.strategy = strategy
        learner.backward(GRAPHLETS.train.at(0, 0, 5))
        found.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["maml", "protonet", "r2d2", "pretrained"])
def test_one_new_task_of_dictionaries(method, tmp_path):
    torch.manual_seed(2)
    learner = getattr(il, method)(Net())
    task = GRAPHLETS.test.at(0, 0, 2)
    x, y, query = {n: v[0] for n, v in task.support.x.items()}, task.support.y[0], task.query
    asked = {n: v[0] for n, v in query.x.items()}
    fitted = learner.adapt(x, y)
    torch.testing.assert_close(fitted.outputs(asked), learner.predict_queries(task)[0])
    assert fitted.predict(asked).shape == (16,) and isinstance(fitted.predict(asked), torch.Tensor)
    assert fitted.score(asked, query.y[0]) == pytest.approx(float((fitted.predict(asked) == query.y[0]).float().mean()))
    arrays = fitted.predict_proba({n: v.numpy() for n, v in asked.items()})
    assert type(arrays).__name__ == "ndarray" and arrays.shape == (16, 2)
    part = [{n: v[s] for n, v in x.items()} for s in (slice(10), slice(10, None))]
    on = learner.adapt(part[0], y[:10]).learn(part[1], y[10:])
    torch.testing.assert_close(on.outputs(asked), fitted.outputs(asked))
    with pytest.raises(il.ConfigError, match="inputs are one tensor, got several"):
        fitted.save(tmp_path / "task.il")
    with pytest.raises(il.ShapeError, match=r"x expected the parts .* x\['edges'\], got x\['nodes'\]$"):
        fitted.predict({"nodes": asked["nodes"]})
    with pytest.raises(il.ShapeError, match="equally many examples"):
        fitted.predict({**asked, "nodes": asked["nodes"][:3]})


def test_dictionaries_beside_the_support_set_where_the_model_mixes_examples():
    torch.manual_seed(2)
    learner = il.maml(Net(norm=True), inner_steps=1, inductive=True)
    task = GRAPHLETS.test.at(0, 0, 1)
    x, asked = ({n: v[0] for n, v in side.x.items()} for side in (task.support, task.query))
    fitted = learner.adapt(x, task.support.y[0])
    one = fitted.outputs({n: v[:1] for n, v in asked.items()})
    torch.testing.assert_close(fitted.outputs(asked)[:1], one)
    torch.testing.assert_close(fitted.outputs(asked), learner.predict_queries(task)[0])
    assert not torch.allclose(fitted.outputs(asked)[0], fitted.outputs(asked)[1]), "each query is read itself"
