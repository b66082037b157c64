"""Arrays of any layout, byte order and kind of cell, and labels of every kind: right, or refused with the row."""

from __future__ import annotations

import datetime
import decimal
import enum
import re

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import TaskSpec

X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
Y = [0, 1, 0, 1, 0, 1]
NAN = float("nan")


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return il.protonet(il.models.mlp(2, 4, hidden=(8,)))


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def spread(x):
    wide = np.zeros((12, 4), x.dtype)
    wide[::2, ::2] = x
    return wide[::2, ::2]


def of_inference(x):
    with torch.inference_mode():
        return torch.as_tensor(x) * 1


class Shared:
    """An array of another library, which only shares its memory."""

    def __dlpack__(self, **_):
        return torch.as_tensor(X.copy()).__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


def cells(x):
    found = np.empty(len(x), object)
    found[:] = list(x)
    return found


SAME = {
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "every second": spread,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": frozen,
    "longdouble": lambda x: x.astype(np.longdouble),
    "objects": lambda x: x.astype(object),
    "decimals": lambda x: [[decimal.Decimal(float(v)) for v in row] for row in x],
    "no entry masked": np.ma.masked_array,
    "matrix": lambda x: x.view(np.matrix),
    "an array in each cell": cells,
    "list of tensors": lambda x: [torch.as_tensor(row) for row in x],
    "list of lists of tensors": lambda x: [[torch.tensor(float(v)) for v in row] for row in x],
    "requires grad": lambda x: torch.as_tensor(x).clone().requires_grad_(),
    "negated view": lambda x: torch.complex(torch.zeros(6, 2), -torch.as_tensor(x)).conj().imag,
    "made in inference mode": of_inference,
    "shared memory": lambda _: Shared(),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_the_same_numbers_give_the_same_predictions(change, learner):
    wanted = learner.adapt(X, Y)
    p = torch.as_tensor(wanted.predict_proba(X))
    assert torch.as_tensor(learner.adapt(change(X), Y).predict_proba(X)).equal(p)
    assert torch.as_tensor(wanted.predict_proba(change(X))).equal(p)
    assert wanted.score(change(X), Y) == wanted.score(X, Y)
    with pytest.warns(il.InnerloopWarning, match="no classes of their own"):
        one, other = (
            il.tasks.from_arrays(x, Y, splits={"train": [0, 1]}, ways=2, queries=1).train.at(0, 0, 3)
            for x in (change(X), torch.as_tensor(X))
        )
    assert one.support.x.equal(other.support.x) and one.query.x.equal(other.query.x)
    targets = il.maml(il.models.mlp(2, 2), inner_steps=1)
    assert np.array_equal(targets.adapt(X, change(X)).predict(X), targets.adapt(X, X).predict(X))


REFUSED = {
    "masked": (np.ma.masked_array(X, X > 1), r"x row 4 expected a value, got a masked one"),
    "texts": (X.astype(str), "x expected numbers, got texts"),
    "texts as objects": (X.astype(str).astype(object), r"x row 1 expected numbers, got str \('0.1257"),
    "a missing cell": (np.where(X > 1, None, X.astype(object)), r"x row 4 expected numbers, got nothing \(None\)"),
    "complex": (X.astype(complex), "complex numbers"),
    "conjugated": (torch.as_tensor(X.astype(np.complex64)).conj(), "torch.view_as_real"),
    "dates": (np.zeros((6, 2), "M8[D]"), "got dates"),
    "durations": (np.zeros((6, 2), "m8[D]"), "got durations"),
    "meta": (torch.zeros(6, 2, device="meta"), "meta device"),
    "sparse": (torch.as_tensor(X).to_sparse(), r"layout torch.sparse_coo; use x.to_dense\(\)"),
    "unlike tensors": ([torch.zeros(2), torch.zeros(3)], "tensors of one shape"),
    "ragged": ([[1.0, 2.0], [1.0]], "inhomogeneous"),
    "a generator": ((row for row in X), "got generator"),
    "too large": (np.array([[2**63, 1]] * 6, np.uint64), r"integers below 2\*\*63"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("x", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_array_of_numbers_is_refused_in_one_line(x, said, learner):
    fitted = learner.adapt(X, Y)
    for ask in (lambda: learner.adapt(x, Y), lambda: fitted.predict(x), lambda: il.tasks.from_arrays(x, Y)):
        with pytest.raises(il.InputError, match=said) as error:
            ask()
        assert "\n" not in str(error.value)


def test_an_array_of_records_is_no_array_of_numbers():
    with pytest.raises(il.InputError, match="structured one with the fields a, b"):
        il.tasks.from_arrays(np.zeros(6, [("a", "f4"), ("b", "f4")]), Y)


def test_sparse_matrices_and_data_frames(learner):
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    with pytest.raises(il.InputError, match=r"got csr_matrix; use x.toarray\(\)"):
        learner.adapt(sparse.csr_matrix(X), Y)
    frame = pandas.DataFrame({"a": pandas.array([1, None, 2, 3, 4, 5], dtype="Int64"), "b": 1.0})
    with pytest.raises(il.InputError, match=r"row 2.* expected "):
        learner.adapt(frame, Y)
    wanted = learner.adapt(X, Y).predict_proba(X)
    shuffled = pandas.Series(Y, index=[3, 1, 5, 0, 2, 4])
    assert np.array_equal(learner.adapt(X, shuffled).predict_proba(X), wanted)
    for y in (pandas.Categorical(["b", "a"] * 3, categories=["z", "b", "a"]), pandas.array(["b", "a"] * 3, "string")):
        fitted = learner.adapt(X, y)
        assert fitted.classes_ == ["a", "b"] and fitted.predict_proba(X).shape == (6, 2)
    for y in (pandas.Series([1, None] * 3, dtype="category"), pandas.Series([True, None] * 3, dtype="boolean")):
        with pytest.raises(il.InputError, match="y row 2 expected a class label, got none"):
            learner.adapt(X, y)


def test_a_task_of_tensors_without_values_is_refused(learner):
    y = torch.tensor([Y])
    for bad in (torch.zeros(1, 6, 2, device="meta"), torch.as_tensor(X)[None].to_sparse()):
        side = il.Examples(bad, y)
        with pytest.raises(il.InputError, match=r"support.x expected a (dense )?tensor"):
            learner.backward(il.Task(support=side, query=side))


def test_what_is_written_into_the_arrays_later_does_not_reach_the_task():
    x = X.copy()
    fitted = il.protonet(il.models.mlp(2, 4, hidden=(8,))).adapt(x, Y)
    wanted = fitted.learn(X, Y).predict_proba(X)
    x[:] = 0
    assert np.array_equal(fitted.learn(X, Y).predict_proba(X), wanted) and fitted.support.x.abs().sum() > 0


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([2**53, 2**53 + 1] * 3), [2**53, 2**53 + 1]),
        (np.array([3, 200] * 3, np.uint8), [3, 200]),
        (np.array([[3], [4]] * 3, ">i4"), [3, 4]),
        (torch.tensor([True, False] * 3), [False, True]),
        ([torch.tensor(4), np.int8(3)] * 3, [3, 4]),
        (["1", "1 "] * 3, ["1", "1 "]),
        ([np.str_("b"), "a"] * 3, ["a", "b"]),
        ([Colour.RED, Colour.BLUE] * 3, ["blue", "red"]),
        (["a" * 20_000, "b"] * 3, ["a" * 20_000, "b"]),
    ],
    ids=str,
)
def test_class_names_come_back_as_they_went_in(y, classes, learner):
    fitted = learner.adapt(X, y)
    assert fitted.classes_ == classes and [type(c) for c in fitted.classes_] == [type(c) for c in classes]
    p = fitted.predict_proba(X)
    assert fitted.predict(X).tolist() == [classes[i] for i in p.argmax(1)]
    names = y if isinstance(y, list) else np.asarray(y).reshape(-1)
    assert fitted.score(X, y) == np.mean([classes[i] == v for i, v in zip(p.argmax(1), names, strict=True)])


MISSING = [None, NAN, np.float64("nan"), decimal.Decimal("nan"), np.datetime64("NaT")]


@pytest.mark.parametrize("gone", MISSING, ids=repr)
def test_a_missing_label_is_refused_with_its_row(gone, learner):
    fitted = learner.adapt(X, ["a", "b"] * 3)
    y = ["a", "b", "a", gone, "a", "b"]
    for given in (y, np.array(y, object)):
        for ask in (learner.adapt, fitted.learn, fitted.score, il.tasks.from_arrays):
            with pytest.raises(il.InputError, match="y row 4 expected a class label, got none"):
                ask(X, given)
    with pytest.raises(il.InputError, match=r"row 2\b"):
        learner.adapt(X, [1, NAN, 1, 2, 1, 2])


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([1, "1", 2, 1, 2, 1], r"whole numbers \(1, row 1\) and texts \('1', row 2\)"),
        ([True, 1, 0, 1, 0, 1], r"truth values \(True, row 1\) and whole numbers \(1, row 2\)"),
        ([True, 1.0, 0.0, 1, 0, 1], r"truth values \(True, row 1\) and fractions \(1.0, row 2\)"),
        ([b"a", "a"] * 3, r"row 1 expected a class label .* got bytes"),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)] * 3, "got date "),
        ([(1, 2), (1, 3)] * 3, r"expected shape \(examples,\), got \(6, 2\)"),
        (np.eye(2, dtype=int)[Y], r"for one-hot rows give y.argmax\(1\)"),
        ([2**63, 1] * 3, r"below 2\*\*63"),
        (["a\0", "b"] * 3, "do not end in NUL"),
        ("ababab", "got str; give a list"),
    ],
    ids=str,
)
def test_labels_that_would_merge_or_change_are_refused(y, said, learner):
    for given in (y, np.array(y, object)) if isinstance(y, list) else (y,):
        with pytest.raises(il.InputError, match=said):
            learner.adapt(X, given)


def test_labels_of_another_kind_than_the_task_has_are_no_label_of_it(learner):
    fitted = learner.adapt(X, Y)
    assert fitted.score(X, np.array(Y, float)) == fitted.score(X, Y)
    for y, said in (([0.5] * 6, "fractions"), ([True, False] * 3, "truth values"), (list("010101"), "texts")):
        with pytest.raises(il.InputError, match=f"expected whole numbers as the support set had, got {said}"):
            fitted.score(X, y)


def test_values_that_are_not_finite_are_no_score():
    fitted = il.maml(il.models.mlp(2, 1), inner_steps=1).adapt(X, X[:, :1])
    with pytest.raises(il.InputError, match="y expected finite numbers, got 1 NaN"):
        fitted.score(X, np.where(X[:, :1] > 1, NAN, X[:, :1]))


def test_texts_of_digits_that_are_no_integers_are_names():
    y = ["²", "--5", "9" * 5000, "1"] * 3
    with pytest.warns(il.InnerloopWarning, match="no classes of their own"):
        family = il.tasks.from_arrays(np.repeat(X, 2, 0), y, splits={"train": ["²", "--5", "9" * 5000, "1"]})
    assert set(family.train.images.names) == set(y)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.eye(2)[[0, 1, 0, 1]], "got one-hot rows (4, 2); give y.argmax(1)"),
        ([0.0, 1.0, 0.5, 1.0], "y row 3 expected a class label, got 0.5"),
        ([0.0, 1.0, np.inf, 1.0], "y row 3 expected a class label, got inf"),
        ([0.0, np.nan, 0.0, 1.0], "y row 2 expected a class label, got none"),
    ],
)
def test_floats_that_are_no_labels_of_a_learner_of_classes(y, says):
    learner = il.maml(il.models.mlp(3, 2))
    learner.spec = TaskSpec(input_shape=(3,), objective="cross_entropy")
    X = np.arange(12.0).reshape(4, 3)
    with pytest.raises(il.InputError, match=re.escape(says)):
        learner.adapt(X, y)
    fitted = learner.adapt(X, np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert fitted.classes_ == [0.0, 1.0] and fitted.learn(X[:2], [1.0, 0.0]).num_examples == 6
