"""A column that names items is never a quantity: a number of a vocabulary that training tasks have taught, 0 for all others."""

import json
import warnings

import numpy as np
import pytest

import innerloop as il
from innerloop.assemble import assemble
from innerloop.data.table_items import item_name, item_numbers, vocabulary
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.tables import as_table
from innerloop.errors import CheckpointError, ConfigError, InnerloopWarning, InputError
from innerloop.tasks.tables.own import check, table_family

ITEMS = [f"{1000 + i}" for i in range(12)]


@pytest.fixture
def ratings(tmp_path):
    """30 users rate 8 of 12 items and one that nobody else has; an item's usual rating is its number less 1000."""
    rng = np.random.default_rng(0)
    lines = ["user,item,hour,rating,liked"]
    for u in range(30):
        for item in [*rng.permutation(ITEMS)[:8], f"only{u}"]:
            level = int(item) - 1000 if item.isdigit() else 5
            lines.append(
                f"u{u},{item},{rng.integers(24)},{level + rng.normal() / 10:.4f},{'yes' if level > 5 else 'no'}"
            )
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines))
    return path


def family(path, **options):
    given = {
        "target": "rating",
        "task_column": "user",
        "item_column": "item",
        "ignore": ["liked"],
        "shots": 4,
        "queries": 4,
    }
    return table_family(path, **{**given, **options})


def test_a_vocabulary_has_what_two_tasks_share():
    assert vocabulary([["b", "a", "a"], ["a", None], ["c", "b"]]) == (("a", "b"), 1)
    assert [item_name(c) for c in ("12.0", "-3.00", "1.20", "007", "x.0", None)] == [
        "12",
        "-3",
        "1.20",
        "007",
        "x.0",
        None,
    ]
    assert item_numbers(["b", "c", None, "a"], ("a", "b")).tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize("more", [{}, {"scaling": "support"}, {"ranked": True}])
def test_items_are_numbers_of_the_vocabulary_that_nothing_scales_or_cuts(ratings, more):
    tasks = family(ratings, **more).train
    assert tasks.record.items == (13,) and tasks.record.columns[0].items == tuple(sorted(ITEMS))
    assert [c.name for c in tasks.record.columns] == ["item", "hour"] and tasks.input_shape == (2,)
    batch = tasks.at(0, 0, 40)
    for side in (batch.support, batch.query):
        number = side.x[..., 0]
        assert number.max() == 12 and set(number.unique().tolist()) <= set(range(13))  # not cut at 5
        y = side.y[..., 0] * tasks.record.target_std[0] + tasks.record.target_mean[0]
        known = number > 0
        assert (y[known].round() - (number[known] - 1)).abs().max() <= 1 and (y[~known] - 5).abs().max() < 1
        assert bool(known.any()) and bool((~known).any()) and side.x[..., 1].abs().max() <= 5


def test_the_vocabulary_is_of_training_tasks_alone(ratings, tmp_path):
    tasks = family(ratings)
    train = set(tasks.train.task_names)
    lines = ratings.read_text().splitlines()
    told = [line if line.split(",")[0] in train else line.replace(",1003,", ",new,") for line in lines]
    other = tmp_path / "other.csv"
    other.write_text("\n".join(told))
    assert "new" not in family(other).train.record.columns[0].items  # though many test and validation users share it
    some = family(other).test.at(0, 0, 50)
    assert bool((some.support.x[..., 0] == 0).any())


def test_a_task_file_takes_new_items_and_says_how_many(ratings, tmp_path):
    learner, problem = assemble("r2d2", str(ratings), task_options=family(ratings).options)
    il.fit(learner, problem, steps=3, quiet=True, out=tmp_path / "run")
    again = il.load(tmp_path / "run")
    support = as_table(
        {"item": ["1001", "1002", "strange", None, "1003.0"], "hour": [1, 2, 3, 4, 5], "rating": [1, 2, 3, 4, 3]}
    )
    with pytest.warns(InnerloopWarning, match=r"2 of 5 rows hold an item .* such as 'strange' \(1 are missing\)"):
        fitted = again.adapt(support)
    assert fitted.support.x[:, 0].tolist() == [2, 3, 0, 0, 4]
    fitted.save(tmp_path / "task.il")
    loaded = il.load(tmp_path / "task.il")
    asked = {"item": ["1011", "other", "more"], "hour": [1.0, 1.0, 1.0]}
    with pytest.warns(InnerloopWarning, match="2 of 3 rows hold an item"):
        found = loaded.predict(as_table(asked))
    assert found[1] == found[2] != found[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.predict(as_table({"item": ["1001"], "hour": [1.0]}))


def test_judging_own_examples_tells_nothing_twice(ratings):
    learner, _ = assemble("maml", str(ratings), task_options=family(ratings).options)
    learner.spec = family(ratings).train.spec
    with pytest.warns(InnerloopWarning):
        fitted = learner.adapt(as_table({"item": ["new", *ITEMS[:5]], "hour": range(6), "rating": range(6)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InnerloopWarning)
        assert il.judge(fitted).judged.learner is not None


def test_records_travel_and_older_ones_stay(ratings):
    record = family(ratings).train.record
    found = json.loads(json.dumps(record.to_dict()))
    assert found["version"] == 4 and TablePreprocessing.from_dict(found) == record
    without = table_family(
        ratings, target="rating", task_column="user", ignore=["liked", "item"]
    ).train.record.to_dict()
    assert without["version"] == 1 and "items" not in without["columns"][0]
    found["columns"] = found["columns"][::-1]
    with pytest.raises(CheckpointError, match="damaged"):
        TablePreprocessing.from_dict(found)


@pytest.mark.parametrize("method", ["maml", "anil", "r2d2", "cnp", "anp"])
def test_methods_read_items_as_items(ratings, method):
    learner, problem = assemble(method, str(ratings), task_options=family(ratings).options)
    assert learner.model_spec["name"] == "items_mlp" and learner.model_spec["arguments"]["items"] == [13]
    batch = problem.train.at(0, 0, 4)
    learner.backward(batch)
    vectors = next(p for name, p in learner.named_parameters() if name.endswith("vectors"))
    assert vectors.grad.abs().sum() > 0 and vectors.grad[0].abs().sum() > 0  # the unknown item's is learned too


def test_classes_of_items(ratings):
    options = {**family(ratings).options, "target": "liked", "ignore": ["rating"], "shots": 2, "queries": 2, "ways": 2}
    for method in ("protonet", "r2d2"):
        learner, problem = assemble(method, str(ratings), task_options=options)
        learner.backward(problem.train.at(0, 0, 4))
        assert il.evaluate(learner, problem.test, num_tasks=5).metric == "accuracy"


def test_a_net_that_would_take_items_for_quantities_is_refused(ratings):
    options = family(ratings).options
    with pytest.raises(ConfigError, match="knows items"):
        assemble("maml", str(ratings), "mlp", task_options=options)
    learner, problem = assemble("maml", str(ratings), "items_mlp", task_options=options, model_options={"width": 3})
    assert learner.model_spec["arguments"]["items"] == [13] and learner.model_spec["arguments"]["width"] == 3
    with pytest.raises(ConfigError, match="knows items"):
        il.fit(il.maml(il.models.mlp(2, 1)), problem, steps=1, quiet=True)


def test_ridge_gets_a_prior_for_items_where_nobody_says(ratings):
    options = family(ratings).options
    assert assemble("r2d2", str(ratings), task_options=options)[0].options["prior"] == 1
    given = assemble("r2d2", str(ratings), task_options=options, algorithm_options={"prior": 0})[0]
    assert "prior" not in given.options
    plain = {**options, "item_column": None, "ignore": ["liked", "item"]}
    assert "prior" not in assemble("r2d2", str(ratings), task_options=plain)[0].options


def test_baselines_do_not_see_items_as_quantities(ratings):
    alone = {**family(ratings).options, "ignore": ["liked", "hour"]}
    learner, problem = assemble("maml", str(ratings), task_options=alone)
    assert set(il.evaluate(learner, problem.test, num_tasks=5).baselines) == {"mean"}
    both, with_hour = assemble("maml", str(ratings), task_options=family(ratings).options)
    found = il.evaluate(both, with_hour.test, num_tasks=5).baselines
    plain = {**family(ratings).options, "item_column": None, "ignore": ["liked", "item"]}
    net, hours = assemble("maml", str(ratings), task_options=plain)
    only = il.evaluate(net, hours.test, num_tasks=5).baselines  # the same rows without the items
    assert set(found) == {"mean", "nearest", "ridge"}
    assert {name: b.mean for name, b in found.items()} == pytest.approx({name: b.mean for name, b in only.items()})


def test_two_columns_of_items(ratings, tmp_path):
    lines = ratings.read_text().splitlines()
    path = tmp_path / "two.csv"
    path.write_text("\n".join([lines[0] + ",shop", *(f"{line},{'abc'[i % 3]}" for i, line in enumerate(lines[1:]))]))
    found = family(path, item_column="item,shop").train
    assert found.record.items == (13, 4) and found.input_shape == (3,)
    assert found.default_model().vectors.shape == (17, 16)
    assert float(found.at(0, 0, 20).support.x[..., 1].max()) == 3


def test_what_cannot_be_said_in_one_line(ratings, tmp_path):
    with pytest.raises(ConfigError, match="task_column names too"):
        family(ratings, item_column="user")
    with pytest.raises(InputError, match=r"no column 'itm'.*'item'"):
        family(ratings, item_column="itm")
    lonely = tmp_path / "lonely.csv"
    lines = ratings.read_text().splitlines()
    lonely.write_text("\n".join([lines[0], *(line.replace(",", f",x{i}", 1) for i, line in enumerate(lines[1:]))]))
    with pytest.raises(InputError, match="of at least 2 training tasks, got none"):
        family(lonely)
    assert any("12 have an embedding" in line for line in check(ratings, **family(ratings).options).lines)


def test_items_are_not_drawn_as_an_axis(ratings, tmp_path):
    """One column of items is an input of one number, and yet no curve over it means anything."""
    from innerloop.report import build

    options = {"target": "rating", "task_column": "user", "item_column": "item", "shots": 4, "queries": 4}
    for ignore, drawn in ((["liked", "hour"], False), (["liked", "item"], True)):
        own = options if not drawn else {k: v for k, v in options.items() if k != "item_column"}
        learner, tasks = assemble("maml", str(ratings), task_options={**own, "ignore": ignore})
        assert tasks.train.input_shape == (1,)
        run = tmp_path / f"run{drawn}"
        il.fit(learner, tasks, steps=1, num_tasks=2, valid_tasks=2, out=run, quiet=True)
        build([run])
        assert (run / "plots" / "curves.png").is_file() == drawn
