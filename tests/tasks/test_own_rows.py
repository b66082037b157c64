"""Rows that say which task they belong to: ids, sparse rows, order, groups, missing targets, bad input in one line."""

import itertools

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.errors import ConfigError, InnerloopWarning, InputError, ShapeError

N, TASKS = 240, 12
RNG = np.random.default_rng(0)
ID = RNG.permutation(np.arange(N) % TASKS)
X = RNG.normal(size=(N, 3)).astype(np.float32)
W = RNG.normal(size=(TASKS, 3))
VALUE = (X * W[ID]).sum(1)
CLASS = np.where(VALUE > 0.6, "active", "inactive")


def rows_of(family, x, split="test"):
    """Which rows of ``x`` the tasks show and ask for, by their inputs."""
    tasks = getattr(family, split)
    task = tasks.each(torch.arange(tasks.size), torch.arange(tasks.size))
    place = {row.tobytes(): i for i, row in enumerate(x)}
    found = []
    for i in range(tasks.size):
        sides = []
        for side in (task.support, task.query):
            mask = torch.ones(side.y.shape[1], dtype=torch.bool) if side.mask is None else side.mask[i]
            sides.append([place[row.numpy().tobytes()] for row in side.x[i][mask]])
        found.append(sides)
    return found


def test_a_task_is_the_rows_of_one_id_at_its_own_base_rate():
    family = il.tasks.from_arrays(X, CLASS, task=ID, support_size=8)
    ids = set()
    for split in ("train", "valid", "test"):
        tasks = getattr(family, split)
        ids |= set(tasks.task_names)
        for name, (support, query) in zip(tasks.task_names, rows_of(family, X, split), strict=True):
            own = np.flatnonzero(int(name) == ID)
            assert len(support) == 8 and sorted(support + query) == own.tolist()
            rate = (CLASS[own] == "active").mean()
            assert abs((CLASS[support] == "active").sum() - 8 * rate) < 1
    assert ids == {str(i) for i in range(TASKS)} and family.test.output_size == 2
    task = family.test.at(0, 0, 2)
    assert task.class_ids.sort(-1).values.tolist() == [[0, 1]] * 2 and task.support.y.dtype == torch.int64
    learner = il.protonet(il.models.mlp(3, None))
    learner.backward(family.train.at(0, 0, 4))
    report = il.evaluate(learner, family.test)
    assert report.num_tasks == family.test.size == 2 and report.config["tasks"]["draws"] == 300
    assert set(report.baselines) == {"class_mean", "nearest", "ridge"} and len(report.per_task) == 2
    assert il.evaluate(learner, family.test, num_tasks=5).num_tasks == 5


def test_values_with_missing_ones_train_and_are_judged_where_they_are_there():
    y = np.stack([VALUE, X[:, 0] * 2], 1)
    y[::3, 1] = np.nan
    y[5] = np.nan
    with pytest.warns(InnerloopWarning, match="1 rows without a target are left out"):
        family = il.tasks.from_arrays(X, y, task=ID, shots=6, queries=8)
    assert family.train.objective == "known_mse" and family.train.output_size == 2
    learner = il.maml(family.train.default_model(), inner_lr=0.05, inner_steps=2)
    batch = family.train.at(0, 0, 4)
    assert batch.support.y.isnan().any()
    assert learner.backward(batch)["loss"].isfinite()
    report = il.evaluate(learner, family.test)
    assert set(report.baselines) == {"mean"} and np.isfinite(report.mean)
    with pytest.raises(ConfigError, match=r"missing ones \(NaN\).*such as maml"):
        il.r2d2(il.models.mlp(3, None)).backward(batch)
    learner.spec = family.train.spec
    fitted = learner.adapt(X[:4], y[:4])  # a new task may have gaps too
    assert np.isnan(y[:4]).any() and np.isfinite(fitted.predict(X[:2])).all()
    assert "targets are missing" in il.judge(fitted).judged.lacking


def test_the_missing_mse_is_that_of_the_known_and_its_gradient_is_nothing_elsewhere():
    prediction = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [0.0, 2.0], [torch.nan, 1.0]], dtype=torch.float64)
    loss = il.losses.known_mse(prediction, y)
    known = ~y.isnan()
    assert torch.allclose(loss, (prediction - y)[known].square().mean())
    (grad,) = torch.autograd.grad(loss, prediction)
    assert bool((grad[~known] == 0).all()) and bool((grad[known] != 0).all())
    assert il.losses.known_mse(prediction, torch.full_like(y, torch.nan)) == 0


def test_the_first_rows_are_shown_and_later_ones_asked_for():
    time = RNG.permutation(N)
    family = il.tasks.from_arrays(X, VALUE, task=ID, order=time, shots=6, queries=5)
    for support, query in rows_of(family, X):
        own = time[support + query].tolist()
        assert own == sorted(own) and (len(support), len(query)) == (6, 5)
    assert il.evaluate(il.r2d2(il.models.mlp(3, None)), family.test).config["tasks"]["draws"] == 1
    with pytest.warns(InnerloopWarning, match=r"order: \d+ rows of 12 tasks come at the same time"):
        il.tasks.from_arrays(X, VALUE, task=ID, order=time // 100)
    gap = time.astype(float)
    gap[7] = np.nan
    with pytest.raises(
        InputError, match="order expected a number for each row, got none in 1 of 240 rows, the first row 8"
    ):
        il.tasks.from_arrays(X, VALUE, task=ID, order=gap)
    with pytest.raises(ConfigError, match="rows in order expected support_size"):
        il.tasks.from_arrays(X, CLASS, task=ID, order=time)


def test_a_task_whose_first_rows_lack_a_class_is_left_out():
    order = np.where(CLASS == "active", 0.0, 1.0) + np.arange(N) / N
    order[ID == 3] = np.arange((ID == 3).sum())
    order[(ID == 4) & (CLASS == "active")] = 0.1 + np.arange(((ID == 4) & (CLASS == "active")).sum()) / 1000
    size = max(int(((i == ID) & (CLASS == "active")).sum()) for i in range(TASKS)) - 1
    with pytest.warns(InnerloopWarning, match=rf"tasks for \w+ are left out, whose first {size} rows lack a class"):
        family = il.tasks.from_arrays(X, CLASS, task=ID, order=order, support_size=size)
    assert family.train.size + family.valid.size + family.test.size < TASKS
    task = family.train.at(0, 0, 6)
    assert all(set(y[m].tolist()) == {0, 1} for y, m in zip(task.support.y, masks(task.support), strict=True))


def masks(side):
    return torch.ones_like(side.y, dtype=torch.bool) if side.mask is None else side.mask


def test_groups_lie_on_one_side():
    family = il.tasks.from_arrays(X, VALUE, task=ID, groups=ID // 2)
    sides = [{int(name) // 2 for name in getattr(family, s).task_names} for s in ("train", "valid", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 6
    with pytest.raises(InputError, match="groups expected one value for all rows of a task, got"):
        il.tasks.from_arrays(X, VALUE, task=ID, groups=np.arange(N) % 5)


def test_splits_name_tasks():
    family = il.tasks.from_arrays(X, VALUE, task=ID, splits={"train": range(8), "valid": [8, 9], "test": [10, 11]})
    assert family.test.task_names == ("10", "11") and family.train.size == 8
    with pytest.raises(InputError, match="each task expected in one split, got '3'"):
        il.tasks.from_arrays(X, VALUE, task=ID, splits={"train": range(8), "valid": [3], "test": [10]})
    for splits, said in (
        ({"train": range(8), "valid": [9]}, "for each of train, valid, test, got train, valid"),
        ({"train": range(8), "valid": [9], "test": [77]}, "ids that are in task, got '77' for test"),
        ({"train": range(8), "valid": [9], "test": "10"}, "a list of ids for test, got '10'"),
        ({"train": range(8), "valid": [9], "test": []}, "tasks for test, got none"),
    ):
        with pytest.raises(InputError, match=said):
            il.tasks.from_arrays(X, VALUE, task=ID, splits=splits)
    twice = il.tasks.from_arrays(X, VALUE, task=ID, splits={"train": [0, 1, 1], "valid": [8], "test": [10]})
    assert twice.train.size == 2


def test_two_classes_alone_are_one_task_whose_rows_are_split():
    family = il.tasks.from_arrays(X, CLASS, shots=4, queries=6)
    assert (family.train.size, family.valid.size, family.test.size) == (1, 1, 1)
    seen = [set(itertools.chain(*rows_of(family, X, split)[0])) for split in ("train", "valid", "test")]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    report = il.evaluate(il.protonet(il.models.mlp(3, None)), family.test)
    assert report.num_tasks == 1 and 0 <= report.mean <= 1 and np.isnan(report.ci95)  # one task says nothing of others


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"task": [None, *ID[1:]]}, InputError, "task row 1 expected an id, got none"),
        ({"task": np.zeros(N, int)}, InputError, "expected the rows of several tasks, got 1"),
        ({"task": np.arange(N)}, InputError, "expected the rows of several tasks, got 0"),
        ({"task": ID % 2}, InputError, "expected at least three tasks"),
        ({"task": ID[:-1]}, ShapeError, "task expected one for each of the 240 rows of x, got 239"),
        ({"task": ID, "y": VALUE[1:]}, ShapeError, "y expected .240,. or"),
        ({"task": ID, "y": None}, InputError, "expected targets y beside x and task"),
        ({"task": ID, "shots": 3, "support_size": 8}, ConfigError, "expected shots .* or support_size"),
        ({"task": ID, "ways": 2}, ConfigError, "ways expected class labels in y"),
        ({"task": ID, "y": CLASS, "support_size": 1}, InputError, "support_size expected at least 2"),
        (
            {"task": ID, "groups": ID, "splits": {"train": [0], "valid": [1], "test": [2]}},
            ConfigError,
            "splits or groups",
        ),
        ({"task": ID, "support_size": 6.5}, ConfigError, "support_size expected a whole number"),
        ({"y": CLASS, "order": np.arange(N)}, ConfigError, "expected task, the id of each row's task"),
        ({"task": ID, "valid_classes": 2}, ConfigError, "task expected no valid_classes"),
        ({"y": ID, "support_size": 8}, ConfigError, "expected task, the id of each row's task"),
    ],
)
def test_bad_rows_are_refused_in_one_line(given, error, said):
    with pytest.raises(error, match=said) as raised:
        il.tasks.from_arrays(X, **{"y": VALUE, **given})
    assert "\n" not in str(raised.value)


def test_a_task_of_one_row_is_left_out_and_named():
    task = ID.copy()
    task[3] = 99
    with pytest.warns(InnerloopWarning, match="1 tasks with too few rows are left out: '99'"):
        il.tasks.from_arrays(X, VALUE, task=task)
    task[4] = 99  # two rows of two classes: one of each would be shown, and none is left to ask for
    label = CLASS.copy()
    label[3:5] = "active", "inactive"
    with pytest.warns(InnerloopWarning, match="1 tasks with too few rows are left out: '99'"):
        il.tasks.from_arrays(X, label, task=task, support_size=6)
    label = CLASS.copy()
    label[0] = "odd"
    with pytest.warns(InnerloopWarning) as said:
        assert il.tasks.from_arrays(X, label, task=ID, shots=2).train.output_size == 2
    assert any("1 classes of one row in their task are left out" in str(one.message) for one in said)


def test_order_may_be_dates():
    day = np.datetime64("2020-01-01") + RNG.permutation(N)
    family = il.tasks.from_arrays(X, VALUE, task=ID, order=day, shots=6, queries=5)
    for support, query in rows_of(family, X):
        assert (np.diff(day[support + query]).astype(int) > 0).all()
    day[3] = np.datetime64("NaT")
    with pytest.raises(InputError, match="got none in 1 of 240 rows, the first row 4"):
        il.tasks.from_arrays(X, VALUE, task=ID, order=day)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_names_its_columns(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame(
        {"who": [f"p{i}" for i in ID], "when": np.arange(N), "a": X[:, 0], "b": X[:, 1], "y": VALUE}
    )
    family = il.tasks.from_arrays(frame, "y", task="who", order="when", shots=6, queries=5)
    assert family.train.input_shape == (2,) and set(family.test.task_names) <= {f"p{i}" for i in range(TASKS)}
    same = il.tasks.from_arrays(X[:, :2], VALUE, task=[f"p{i}" for i in ID], order=np.arange(N), shots=6, queries=5)
    assert torch.equal(family.test.at(0, 0, 3).query.x, same.test.at(0, 0, 3).query.x)
    with pytest.raises(InputError, match="task"):
        il.tasks.from_arrays(frame, "y", task="whom")
    with pytest.raises(InputError, match="task expected a value for each row, or the name of a column of a data frame"):
        il.tasks.from_arrays(X, VALUE, task="who")
