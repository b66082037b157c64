"""Tasks that are not labelled examples, by plain `il.maml`, `il.fit` and `il.evaluate`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_families import FAMILIES, SETTINGS, Clouds, Denoising, Kept, Stream, clouds, family

import innerloop as il
from innerloop import registry
from innerloop.engine import take
from innerloop.meta_gradients.perturbations import trials


def learner_for(name: str, strategy: str = "vmapped", **more) -> tuple[il.MetaLearner, il.TaskFamily]:
    torch.manual_seed(1)
    tasks = family(name, FAMILIES[name])
    learner = il.maml(tasks.train.default_model(), **{**SETTINGS[name], **more})
    learner.strategy = strategy
    return learner, tasks


@pytest.mark.parametrize("name", FAMILIES)
def test_training_improves_and_so_does_the_inner_loop(name):
    learner, tasks = learner_for(name)
    steps = SETTINGS[name]["inner_steps"]
    il.fit(learner, tasks, steps=30, num_tasks=8, outer_lr=1e-2, validate_every=0, quiet=True)
    report = il.evaluate(learner, tasks.test, num_tasks=40, curve_steps=steps)
    objective = tasks.test.objective
    assert report.metric == next(iter(objective.metrics)) and len(report.per_task) == 40
    sign = 1 if report.higher_is_better else -1
    gain = sign * (report.curve[-1] - report.curve[0])
    assert gain > 0.3, report.curve
    assert sign * report.curve[steps // 2] > sign * report.curve[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_looped_is_vmapped(name):
    found = []
    for strategy in ("looped", "vmapped"):
        learner, tasks = learner_for(name, strategy, inner_steps=3)
        learner.double()
        learner.backward(tasks.train.at(0, 0, 3))
        found.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_meta_gradient_is_the_finite_difference(name):
    learner, tasks = learner_for(name, inner_steps=2)
    learner.double()
    batch = learner.ready(tasks.train.at(0, 0, 2), 0)
    learner.backward(batch)
    direction = [
        torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(3)) for p in learner.parameters()
    ]

    def loss(by: float) -> float:
        with torch.no_grad():
            for p, d in zip(learner.parameters(), direction, strict=True):
                p += by * d
        meta = learner.meta()
        value = sum(float(learner.learner.meta_loss(meta, take(batch, i), 0)[0].detach()) for i in range(2)) / 2
        with torch.no_grad():
            for p, d in zip(learner.parameters(), direction, strict=True):
                p -= by * d
        return value

    slope = sum(float((p.grad * d).sum()) for p, d in zip(learner.parameters(), direction, strict=True))
    eps = 1e-6
    assert slope == pytest.approx((loss(eps) - loss(-eps)) / (2 * eps), rel=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_interrupted_run_resumes_exactly(name, tmp_path):
    settings = {"steps": 6, "num_tasks": 4, "checkpoint_every": 2, "validate_every": 3, "valid_tasks": 4, "quiet": True}
    whole, tasks = learner_for(name, inner_steps=2)
    il.fit(whole, tasks, out=tmp_path / "whole", **settings)
    stopped, _ = learner_for(name, inner_steps=2)
    backward = stopped.backward

    def until(batch, **options):
        if options["outer_step"] == 4:
            raise OSError("pulled out")
        return backward(batch, **options)

    stopped.backward = until
    with pytest.raises(OSError, match="pulled out"):
        il.fit(stopped, tasks, out=tmp_path / "stopped", **settings)
    again, _ = learner_for(name, inner_steps=2)
    il.fit(again, tasks, out=tmp_path / "stopped", resume=True, **settings)
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_method_that_reads_labels_says_so():
    tasks = family("clouds", Clouds)
    learner = il.protonet(torch.nn.Linear(2, 2))
    with pytest.raises(il.ConfigError, match=r"protonet expected tasks of labelled examples.*Denoising.*il.maml"):
        learner.backward(tasks.train.at(0, 0, 2))


def test_mistakes_are_one_line():
    learner, tasks = learner_for("clouds")
    one = tasks.train.at(0, 0, 2)
    with pytest.raises(il.InputError, match="finite"):
        learner.backward(il.Task(support=one.support * float("nan"), query=one.query, objective=Denoising()))
    with pytest.raises(il.ShapeError, match="same number of tasks"):
        learner.backward(il.Task(support=one.support, query=one.query[:1], objective=Denoising()))
    with pytest.raises(il.ShapeError, match="the model cannot take inputs"):
        learner.backward(il.Task(support=one.support[..., :1], query=one.query, objective=Denoising()))
    with pytest.raises(il.InputError, match="an objective that knows them"):
        learner.backward(il.Task(support=one.support, query=one.query))
    with pytest.raises(il.ConfigError, match=r"unknown metric 'denoisin'.*denoising"):
        il.evaluate(learner, tasks.test, num_tasks=2, metric="denoisin")

    class Several(Denoising):
        def loss(self, apply, data, key):
            return apply(data)

    with pytest.raises(il.ShapeError, match="scalar"):
        learner.backward(il.Task(support=one.support, query=one.query, objective=Several()))


class Rows(Kept):
    """Row numbers into a table that all tasks share."""

    def data(self, side, shared):
        return {"x": shared["x"][side], "label": shared["label"][side]}


def test_what_all_tasks_share_is_there_once():
    table = {"x": torch.randn(300, 8), "label": torch.randint(4, (300,))}
    rows = torch.randint(300, (3, 2, 12))
    model = Stream("train").default_model()
    grads = []
    for strategy in ("looped", "vmapped", "copied"):
        learner = il.maml(model, inner_lr=0.1, inner_steps=2).double()
        learner.strategy = "vmapped" if strategy == "copied" else strategy
        task = il.Task(support=rows[:, 0], query=rows[:, 1], objective=Rows(), shared=table)
        if strategy == "copied":
            sides = [{name: v[rows[:, i]] for name, v in table.items()} for i in (0, 1)]
            task = il.Task(support=sides[0], query=sides[1], objective=Kept())
        learner.backward(task)
        grads.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    torch.testing.assert_close(grads[0], grads[2], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(grads[1], grads[2], rtol=1e-9, atol=1e-12)
    # Neither cut by task nor repeated by perturbation, nor moved again for the next batch.
    ready = learner.ready(il.Task(support=rows[:, 0], query=rows[:, 1], objective=Rows(), shared=table), 0)
    assert take(ready, 1).shared is ready.shared and trials(ready, 8).shared is ready.shared
    later = learner.ready(il.Task(support=rows[:, 1], query=rows[:, 0], objective=Rows(), shared=table), 1)
    assert later.shared is ready.shared and later.shared["x"].dtype == torch.float64


def test_examples_by_row_numbers_serve_every_method():
    table = il.Examples(torch.randn(60, 5), torch.arange(60) % 3)
    rows = torch.stack([torch.randperm(60)[:24].reshape(2, 12) for _ in range(2)])
    for make in (il.protonet, il.maml):
        found = []
        for task in (
            il.Task(support=rows[:, 0], query=rows[:, 1], objective="cross_entropy", shared=table),
            il.Task(
                *(il.Examples(table.x[rows[:, i]], table.y[rows[:, i]]) for i in (0, 1)), objective="cross_entropy"
            ),
        ):
            torch.manual_seed(0)
            learner = make(torch.nn.Linear(5, 3))
            learner.backward(task)
            found.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
        torch.testing.assert_close(*found)


def test_a_new_task_is_adapted_to_beside_what_tasks_share():
    table = {"x": torch.randn(300, 8), "label": torch.randint(4, (300,))}
    rows, more = torch.randint(300, (2, 12))
    learner = il.maml(Stream("train").default_model(), inner_lr=0.1, inner_steps=2)
    learner.backward(il.Task(support=rows[None], query=more[None], objective=Rows(), shared=table))
    given = learner.adapt({name: v[rows] for name, v in table.items()}, objective=Kept())
    for data in (rows, rows.numpy()):
        fitted = learner.adapt(data, objective=Rows(), shared=table)
        torch.testing.assert_close(fitted.predict(table["x"]), given.predict(table["x"]))
    assert fitted.score(more) == pytest.approx(given.score({name: v[more] for name, v in table.items()}))
    both = {name: v[torch.cat([rows, more])] for name, v in table.items()}
    torch.testing.assert_close(
        fitted.learn(more).predict(table["x"]), learner.adapt(both, objective=Kept()).predict(table["x"])
    )
    assert fitted.to("meta").shared["x"].device.type == "meta"
    learner.spec = dataclasses.replace(learner.spec, objective=Rows())
    with pytest.raises(il.InputError, match="data that this task shares with others"):
        learner.adapt(rows)
    with pytest.raises(il.InputError, match=r"Rows expected one side.*TypeError.*adapt\(data, shared=...\)"):
        il.maml(Stream("train").default_model()).adapt(rows, objective=Rows())


class Labelled(il.TaskDistribution):
    """Row numbers into labelled examples that all tasks share."""

    name, objective, input_shape, output_size = "labelled", "cross_entropy", (5,), 3
    table = il.Examples(torch.linspace(-1, 1, 300).reshape(60, 5), torch.arange(60) % 3)

    def __init__(self, split, rows):
        self.split, self.rows = split, rows

    def from_keys(self, keys):
        rows = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(int(k) % 999)) for k in keys])
        sides, found = (rows[:, :12], rows[:, 12:24]), self.table
        if self.rows:
            return il.Task(*sides, objective=self.objective, shared=found)
        return il.Task(*(il.Examples(found.x[s], found.y[s]) for s in sides), objective=self.objective)

    def default_model(self):
        return torch.nn.Linear(5, 3)


@pytest.mark.parametrize("make", [il.protonet, il.maml])
def test_examples_by_row_numbers_are_judged_and_adapted_to(make):
    torch.manual_seed(0)
    learner, table, rows = make(torch.nn.Linear(5, 3)), Labelled.table, torch.arange(9)
    by_rows, as_given = (il.evaluate(learner, Labelled("test", r), num_tasks=5, curve_steps=1) for r in (True, False))
    assert by_rows.per_task == as_given.per_task and by_rows.curve == as_given.curve
    found, expected = learner.adapt(rows, shared=table), learner.adapt(table.x[rows], table.y[rows])
    assert found.classes_ == expected.classes_ and torch.equal(
        found.predict_proba(table.x), expected.predict_proba(table.x)
    )
    for wrong, y, shared, said in (
        (torch.tensor([0, 60]), None, table, "rows 0 to 59 of shared, got 0 to 60"),
        (torch.tensor([-1]), None, table, "got -1 to -1"),
        (table.x, None, table, "expected row numbers"),
        (rows, table.y[rows], table, "got targets y too"),
        (rows, None, {"x": table.x}, "got dict as shared"),
    ):
        with pytest.raises(il.InputError, match=said):
            learner.adapt(wrong, y, shared=shared)


def test_an_opened_run_takes_the_objective_from_its_problem(tmp_path, monkeypatch):
    learner = il.maml(Clouds("train").default_model(), inner_steps=2)
    il.fit(learner, clouds(), out=tmp_path / "run", steps=1, num_tasks=1, valid_tasks=1, quiet=True)
    data = Clouds("test").at(0, 0, 1).support[0]
    expected = learner.adapt(data).predict(data)
    model = Clouds("train").default_model()
    with pytest.raises(il.ConfigError, match="expected the objective Denoising itself"):
        il.load(tmp_path / "run", model=model).adapt(data)
    again = il.load(tmp_path / "run", tasks="toy_families:clouds")
    torch.testing.assert_close(again.adapt(data).predict(data), expected)
    offered = {"clouds": registry.Entry("toy_families:clouds", "")}
    monkeypatch.setattr(registry, "installed", lambda kind: offered if kind == "problem" else {})
    torch.testing.assert_close(il.load(tmp_path / "run").adapt(data).predict(data), expected)
