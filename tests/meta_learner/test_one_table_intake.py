"""One table, however it comes: the same predictions, its columns found by name, and one line for what does not fit."""

import io
import json
import re

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.core import TaskSpec
from innerloop.data.table_support import given_values
from innerloop.data.tables import as_table, table_from_bytes
from innerloop.errors import InnerloopError, InnerloopWarning

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(m, 1, (6, 3)) for m in (-2, 2)])
FRAME = pandas.DataFrame(X, columns=["height", "weight", "age"]).assign(kind=["cat"] * 6 + ["dog"] * 6)
NEW = pandas.DataFrame(RNG.normal(size=(5, 3)), columns=["height", "weight", "age"])


def plain():
    made = il.maml(il.models.mlp(3, 2, hidden=(4,)), inner_lr=0.3, inner_steps=3)
    made.spec = TaskSpec(input_shape=(3,))
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of arrays of a fixed width, and one that was trained on tables of any columns."""
    where = tmp_path_factory.mktemp("runs")
    arrays = il.tasks.from_arrays(
        RNG.normal(size=(40, 3)).astype(np.float32), np.repeat(np.arange(8), 5), ways=2, shots=1
    )
    il.fit(plain(), arrays, steps=1, strategy="vmapped", num_tasks=1, valid_tasks=1, out=where / "arrays", quiet=True)
    tables = il.tasks.synthetic_tables(columns=6)
    learner = il.protonet(il.models.mlp(6, 4, hidden=()))
    il.fit(learner, tables, steps=1, strategy="vmapped", num_tasks=1, valid_tasks=1, out=where / "tables", quiet=True)
    return where


def stream_of(frame) -> bytes:
    import pyarrow

    table, out = pyarrow.Table.from_pandas(frame), io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def parquet_of(frame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


def feather_of(frame) -> bytes:
    out = io.BytesIO()
    frame.to_feather(out)
    return out.getvalue()


FILES = {
    "t.csv": lambda f: f.to_csv(index=False).encode(),
    "indexed.csv": lambda f: f.to_csv().encode(),
    "bom.csv": lambda f: f.to_csv(index=False).encode("utf-8-sig"),
    "wide.csv": lambda f: f.to_csv(index=False).encode("utf-16"),
    "quoted.csv": lambda f: f.to_csv(index=False, quoting=1).encode(),
    "bars.csv": lambda f: f.to_csv(index=False, sep="|").encode(),
    "t.tsv": lambda f: f.to_csv(index=False, sep="\t").encode(),
    "t.jsonl": lambda f: f.to_json(orient="records", lines=True, double_precision=15).encode(),
    "array.json": lambda f: f.to_json(orient="records", double_precision=15).encode(),
    "t.parquet": parquet_of,
    "t.feather": feather_of,
    "t.arrow": stream_of,
}


class Polars:
    """What another library's frame offers."""

    def __init__(self, frame):
        self.frame, self.columns = frame, list(frame.columns)

    def to_pandas(self):
        raise ImportError("pyarrow")

    def __getitem__(self, name):
        return type("Series", (), {"to_list": self.frame[name].tolist})()


MEMORY = {
    "frame": lambda f: f,
    "swapped": lambda f: f[f.columns[::-1]],
    "more columns": lambda f: f.assign(extra="x"),
    "named index": lambda f: f.set_index(pandas.Index(range(7, 7 + len(f)), name="id")),
    "records": lambda f: f.to_records(index=False),
    "rows": lambda f: f.to_dict("records"),
    "polars": Polars,
    "arrow": lambda f: __import__("pyarrow").Table.from_pandas(f),
}


@pytest.mark.parametrize("run", ["arrays", "tables"])
def test_the_same_predictions_however_a_table_comes(runs, run, tmp_path):
    learner = il.load(runs / run)
    expected = learner.adapt(FRAME, target="kind").predict_proba(NEW)
    if run == "arrays":
        by_hand = learner.adapt(X.astype(np.float32), FRAME["kind"].to_list())
        assert np.array_equal(expected, by_hand.predict_proba(NEW.to_numpy(np.float32).copy()))
    for name, written in FILES.items():
        (tmp_path / name).write_bytes(written(FRAME))
        (tmp_path / f"new-{name}").write_bytes(written(NEW))
        if name.endswith(".json"):  # a file that its name does not call a table
            fitted = learner.adapt(as_table(tmp_path / name), target="kind")
            found = fitted.predict_proba(as_table(tmp_path / f"new-{name}"))
        else:
            found = learner.adapt(tmp_path / name, target="kind").predict_proba(str(tmp_path / f"new-{name}"))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
    for name, made in MEMORY.items():
        support = FRAME if name in ("swapped", "more columns") else made(FRAME)
        found = learner.adapt(support, target="kind").predict_proba(made(NEW))
        np.testing.assert_array_equal(found, expected, err_msg=name)
    columns = learner.adapt(FRAME.to_dict("list"), target="kind").predict_proba(NEW.to_dict("list"))
    np.testing.assert_array_equal(columns, expected)


@pytest.mark.parametrize("run", ["arrays", "tables"])
def test_the_command_line_and_standard_input(runs, run, tmp_path, monkeypatch, capsys):
    expected = il.load(runs / run).adapt(FRAME, target="kind").predict_proba(NEW)
    for name in ("t.csv", "t.jsonl", "t.parquet", "t.arrow"):
        folder = tmp_path / name
        folder.mkdir()
        for part, frame in (("support", FRAME), ("new", NEW[NEW.columns[::-1]])):
            (folder / part).write_bytes(FILES[name](frame))
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / part).read_bytes())))
            flags = ["--target", "kind", "--valid-tasks", "0"] if part == "support" else []
            command = ["adapt", str(runs / run)] if part == "support" else ["predict", str(folder / "task.il")]
            out = folder / ("task.il" if part == "support" else "p.csv")
            assert main([*command, "-", *flags, "--out", str(out)]) == 0, capsys.readouterr().err
        found = pandas.read_csv(folder / "p.csv")
        assert list(found.columns) == ["row", "prediction", "confidence", "p_cat", "p_dog"]
        np.testing.assert_allclose(found[["p_cat", "p_dog"]], expected, atol=2e-6, err_msg=name)
        kept = il.load(folder / "task.il").preprocessing
        assert [c["name"] for c in kept["columns"]] == ["height", "weight", "age"] and kept["targets"] == ["kind"]


def test_class_names_come_back_as_they_went_in():
    for kind in (int, bool, float):
        numbers = FRAME.assign(kind=(FRAME["kind"] == "dog").astype(kind))
        fitted = plain().adapt(numbers, target="kind")
        assert fitted.predict(NEW).dtype.kind == np.dtype(kind).kind and fitted.classes_ == [kind(0), kind(1)]
        assert fitted.score(numbers) == fitted.score(numbers, numbers["kind"]) == fitted.score(X, numbers["kind"])
    assert plain().adapt(FRAME.rename(columns={"kind": 0}), target=0).classes_ == ["cat", "dog"]
    beside = plain().adapt(FRAME.drop(columns="kind"), FRAME["kind"])
    assert beside.classes_ == ["cat", "dog"] and beside.predict(NEW[["age", "height", "weight"]]).tolist() == (
        beside.predict(NEW).tolist()
    )


CHANGES = {
    "a column is missing": (NEW.drop(columns="age"), "got none named 'age'"),
    "upper case": (NEW.rename(columns={"age": "Age"}), "none named 'age' (did you mean 'Age'?)"),
    "a space": (NEW.rename(columns={"age": "the age"}), "none named 'age' (did you mean 'the age'?)"),
    "texts for numbers": (NEW.assign(age="old"), "row 1, column 'age' expected a finite number, got 'old'"),
    "a missing cell": (
        NEW.assign(age=[1, 2, None, 3, 4]),
        "row 3, column 'age' expected a finite number, got a missing",
    ),
    "an infinite number": (
        NEW.assign(age=[1, np.inf, 1, 3, 4]),
        "row 2, column 'age' expected a finite number, got 'inf'",
    ),
    "names twice": (NEW.assign(more=1).rename(columns={"more": "age"}), "got 'age' twice"),
    "no rows": (NEW[:0], "at least one row"),
    "no columns": (NEW[[]], "expected columns, got none"),
    "no names": (pandas.DataFrame(NEW.to_numpy()), "is the header line missing?"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_one_line(change):
    fitted = plain().adapt(FRAME, target="kind")
    given, says = CHANGES[change]
    with pytest.raises(InnerloopError, match=re.escape(says)) as error:
        fitted.predict(given)
    assert "\n" not in str(error.value)


SUPPORTS = {
    "no target": (FRAME, None, r"name it, as in target='kind', or --target 'kind'"),
    "another target": (FRAME, "kinds", "no column 'kinds': did you mean 'kind'?"),
    "too many columns": (FRAME.assign(more=1.0), "kind", r"shape \(3,\), got 4 columns beside 'kind': height, weight, age, more"),
    "a row without a class": (FRAME.assign(kind=[None, *FRAME["kind"][1:]]), "kind", "row 1: the target 'kind' expected a class"),
    "a list of one path too many": (["a.csv", "b.csv"], "kind", "target expected a table, got list"),
}  # fmt: skip


@pytest.mark.parametrize("case", SUPPORTS)
def test_a_support_table_that_does_not_fit_is_one_line(case):
    given, target, says = SUPPORTS[case]
    with pytest.raises(InnerloopError, match=says):
        plain().adapt(given, target=target)


def test_targets_come_once_and_with_a_table():
    with pytest.raises(InnerloopError, match="both y and target"):
        plain().adapt(FRAME, FRAME["kind"], target="kind")
    with pytest.raises(InnerloopError, match="equally many examples, got 12 and 3"):
        plain().adapt(FRAME.drop(columns="kind"), ["a", "b", "a"])
    with pytest.raises(InnerloopError, match="target expected a table, got ndarray"):
        plain().adapt(X, target="kind")


@pytest.mark.parametrize("run", ["arrays", "tables"])
def test_learning_more_rows_is_adapting_to_all(runs, run):
    learner = il.load(runs / run)
    first, rest = FRAME.iloc[2:9], FRAME.iloc[[0, 1, 9, 10, 11]]
    whole = learner.adapt(pandas.concat([first, rest]), target="kind")
    found = learner.adapt(first, target="kind").learn(rest[rest.columns[::-1]])
    np.testing.assert_allclose(found.predict_proba(NEW), whole.predict_proba(NEW), atol=1e-6)
    again = found.learn(FRAME.iloc[:1].assign(kind="eel")) if run == "tables" else found
    assert again.num_examples == 12 + (run == "tables") and len(again.classes_) == 2 + (run == "tables")


def test_a_scaled_task_from_a_file_does_not_learn_rows(runs, tmp_path):
    il.load(runs / "tables").adapt(FRAME, target="kind").save(tmp_path / "t.il", support=True)
    with pytest.raises(InnerloopError, match="adapt again to the whole table"):
        il.load(tmp_path / "t.il").learn(FRAME)


def test_regression_from_frames_is_in_the_tables_units():
    made = il.maml(il.models.mlp(2, 1, hidden=(4,)), inner_lr=0.1, inner_steps=3, loss="mse")
    fitted = made.adapt(FRAME[["height", "weight", "age"]], target="age")
    by_hand = made.adapt(X[:, :2].astype(np.float32), X[:, 2:].astype(np.float32))
    assert np.array_equal(fitted.predict(NEW), by_hand.predict(NEW[["height", "weight"]].to_numpy(np.float32).copy()))
    assert fitted.score(FRAME) == pytest.approx(by_hand.score(X[:, :2].astype(np.float32), X[:, 2:]), rel=1e-5)


def test_categories_that_became_numbers_and_truth_values_in_any_case(runs):
    coloured = FRAME.assign(wild=[True, False] * 6, colour=["red", "blue", "red"] * 4)
    fitted = il.load(runs / "tables").adapt(coloured, target="kind")
    new = NEW.assign(wild=[True, False, True, True, False], colour="red")
    written = table_from_bytes(new.assign(wild=["TRUE", "false", "TRUE", "true", "False"]).to_csv().encode(), "t.csv")
    np.testing.assert_array_equal(fitted.predict_proba(written), fitted.predict_proba(new))
    with pytest.raises(
        InnerloopError, match=r"'colour' expected texts as in training, such as '(red|blue)', got numbers"
    ):
        fitted.predict(new.assign(colour=1.5))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ([1, "1"] * 6, "column 'kind' expected class names of one kind"),
        ([True, 1, "b"] * 4, "column 'kind' expected class names of one kind"),
        (RNG.normal(size=12), "expected class names, got fractions, 12 different ones in 12 rows"),
    ],
)
def test_targets_that_are_no_class_names_are_one_line(runs, kind, says):
    given = FRAME.assign(kind=pandas.Series(list(kind), dtype=object if isinstance(kind, list) else float))
    with pytest.raises(InnerloopError, match=says):
        il.load(runs / "tables").adapt(given, target="kind")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (None, "y row 1 expected a class label, got none"),
        (float("nan"), "y row 1 expected a class label, got none"),
        (1, "row 2"),
    ],
)
def test_labels_beside_a_table_are_checked_as_beside_an_array(runs, bad, says):
    with pytest.raises(InnerloopError, match=says):
        il.load(runs / "tables").adapt(FRAME.drop(columns="kind"), [bad, *FRAME["kind"][1:]])


@pytest.mark.parametrize("bad", [None, float("inf"), "3", pandas.NaT])
def test_values_beside_a_table_are_finite_numbers(bad):
    with pytest.raises(InnerloopError, match=r"^y "):
        given_values([bad, 1.0], 2)
    assert given_values(pandas.Series([2, 1], dtype="Int64"), 2).tolist() == [[2], [1]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "line 1 expected a JSON object, .*a name comes twice"),
        ('{"a": 1}\n{"a": ', "line 2 expected a JSON object"),
        ('{"a": 1}\n3', "expected JSON objects, one a line"),
        ("[" * 5000, "t.jsonl"),
    ],
)
def test_damaged_json_lines_are_one_line(text, says):
    with pytest.raises(InnerloopError, match=says) as error:
        table_from_bytes(text.encode(), "t.jsonl")
    assert "\n" not in str(error.value)


def test_a_row_that_lacks_a_name_lacks_the_cell():
    table = table_from_bytes(b'{"a": 1, "b": "x"}\n\n{"b": "y"}\n', "t.jsonl")
    assert np.isnan(table.columns["a"]).tolist() == [False, True] and table.texts["b"].tolist() == ["x", "y"]
    assert json.loads(json.dumps(table.texts["a"].tolist())) == ["1", None]


def test_what_of_a_table_is_not_what_it_seems_is_said(runs):
    learner = il.load(runs / "tables")
    odd = FRAME.assign(
        price=[f"{i},50" for i in range(12)], name=[f"{i:03d}x" for i in range(12)], age=[None, *X[1:, 2]]
    )
    odd = pandas.concat([odd] * 2).assign(name=[f"n{i}" for i in range(24)])
    with pytest.warns(InnerloopWarning) as said:
        fitted = learner.adapt(odd, target="kind")
    told = " / ".join(str(one.message) for one in said)
    assert "column 'price' is read as numbers with decimal commas" in told
    assert "column 'name' is left out: 24 different texts" in told and "'age'" not in told
    new = odd[:3].assign(age=np.inf, colour="red")
    with pytest.warns(InnerloopWarning, match="column 'age' has 3 infinite or huge numbers, taken as missing") as said:
        fitted.predict(new)
    assert len(said) == 1, "columns too many are no matter to a prediction"


def test_rows_without_names_are_scaled_as_a_table_of_columns_x0_x1(runs):
    learner = il.load(runs / "tables")
    frame = pandas.DataFrame(X, columns=["x0", "x1", "x2"])
    expected = learner.adapt(frame, FRAME["kind"]).predict_proba(frame[3:5])
    fitted = learner.adapt(X.tolist(), FRAME["kind"].tolist())
    np.testing.assert_array_equal(fitted.predict_proba(X[3:5]), expected)
    assert fitted.score(X, FRAME["kind"]) == fitted.score(frame, FRAME["kind"])
    named = learner.adapt(FRAME, target="kind")
    for given in (X, np.zeros((2, 6)), [[1.0] * 6]):
        with pytest.raises(InnerloopError, match=r"'height', 'weight', 'age'.*, which it scales itself, got"):
            named.predict(given)
