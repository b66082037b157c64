"""Rows of the page: by a trained table's own columns, or plain numbers."""

import numpy as np
import pytest
import torch

pytest.importorskip("gradio")
pytest.importorskip("pandas")
import pandas
from fastapi.testclient import TestClient

import innerloop as il
from innerloop.core import TaskSpec
from innerloop.data.table_preprocessing import Column, TablePreprocessing
from innerloop.errors import InnerloopWarning, InputError
from innerloop.serving import table_tab
from innerloop.serving.http import interface
from innerloop.serving.service import Service
from innerloop.serving.texts import EN, ZH

COLUMNS = (Column("age", None, 60.0, 10.0), Column("sex", ("f", "m")))
RECORD = TablePreprocessing(COLUMNS, ("score",), False, 3, (20.0,), (5.0,))


def test_a_trained_tables_columns_are_asked_for_and_encoded():
    assert table_tab._begun(RECORD, 3, False) == "age,sex,score\n"
    assert "`age`, `sex`, `score`" in table_tab._asked(RECORD, 3, EN)
    assert "`age`, `sex`, `score`" in table_tab._asked(RECORD, 3, ZH)


def test_plain_rows_may_lack_their_header():
    assert table_tab.headed("\n1;2\n3;4\n", ["a", "b"]) == "a;b\n\n1;2\n3;4\n"
    assert table_tab.headed("height,y\n1,2\n", ["a", "b"]) == "height,y\n1,2\n"


@pytest.fixture(scope="module")
def learner():
    made = il.maml(il.models.mlp(2, 2, hidden=(4,)), inner_lr=0.3, inner_steps=3)
    made.spec = TaskSpec(input_shape=(2,), objective="cross_entropy")
    return made


SUPPORT = [{"a": 1.0, "b": 5.0, "kind": "x"}, {"a": 2.0, "b": -1.0, "kind": "y"}, {"a": 1.5, "b": 4.0, "kind": "x"}]
NEW = [{"b": 3.0, "a": 1.0, "more": "?"}, {"b": 0.5, "a": 9.0, "more": "!"}]


def test_rows_over_http_give_what_a_table_gives(learner):
    client = TestClient(interface(Service(learner)))
    answer = client.post("/adapt", json={"x": SUPPORT, "target": "kind"}).json()
    assert answer["classes"] == ["x", "y"] and answer["examples"] == 3
    found = client.post("/predict", json={"task": answer["task"], "x": NEW}).json()
    expected = learner.adapt(pandas.DataFrame(SUPPORT), target="kind").predict_proba(pandas.DataFrame(NEW))
    np.testing.assert_array_equal(np.float32(found["probabilities"]), expected)
    beside = [{"a": row["a"], "b": row["b"]} for row in SUPPORT]
    task = client.post("/adapt", json={"x": beside, "y": [row["kind"] for row in SUPPORT]}).json()["task"]
    assert client.post("/predict", json={"task": task, "x": NEW}).json()["probabilities"] == found["probabilities"]
    for body, says in (
        ({"x": SUPPORT}, "name it, as in target='kind'"),
        ({"x": SUPPORT, "target": "kinds"}, "no column 'kinds': did you mean 'kind'?"),
        ({"x": [*SUPPORT, 3], "target": "kind"}, "expected rows and columns"),
        ({"x": SUPPORT[:1], "target": "kind"}, "at least two classes"),
    ):
        answer = client.post("/adapt", json=body)
        assert answer.status_code == 400 and says in answer.json()["error"], answer.text
    answer = client.post("/predict", json={"task": task, "x": [{"a": 1, "B": 2}]})
    assert answer.status_code == 400 and "none named 'b' (did you mean 'B'?)" in answer.json()["error"]


def test_a_regression_table_is_answered_in_its_units():
    made = il.maml(il.models.mlp(3, 1, hidden=()), inner_lr=0.1, inner_steps=1)
    made.spec = TaskSpec(input_shape=(3,), objective="mse", preprocessing=RECORD.to_dict())
    service = Service(made)
    rows = [{"sex": "f", "age": 70, "score": 25}, {"sex": "m", "age": 50, "score": 15}]
    key, fitted, _ = service.adapt(rows)
    with pytest.warns(InnerloopWarning, match="encoded already"):
        by_hand = made.adapt(torch.tensor([[1.0, 1, 0], [-1, 0, 1]]), torch.tensor([[1.0], [-1]]))
    expected = by_hand.predict(torch.tensor([[2.0, 0, 1]])) * 5 + 20
    with pytest.raises(InputError, match=r"'age', 'sex'.*, which it scales itself, got ndarray of shape"):
        made.adapt(np.eye(3), np.eye(3, 1))
    np.testing.assert_allclose(service.predict(key, [{"age": 80, "sex": "m"}]).values, expected, rtol=1e-6)
    assert fitted.preprocessing is not None and fitted.preprocessing["targets"] == ("score",)


@pytest.fixture(scope="module")
def curves():
    torch.manual_seed(0)
    made = il.gp_mixture(il.models.mlp(1, None, hidden=()), outputs=1, processes=5)
    made.spec = il.tasks.synthetic_curves().train.spec
    return Service(made)


def test_a_curve_comes_with_its_spread_over_http_and_on_the_page(curves):
    rows = [{"day": float(d), "price": 1_000 + 50 * d} for d in range(8)]
    client = TestClient(interface(curves))
    task = client.post("/adapt", json={"x": rows, "target": "price"}).json()["task"]
    found = client.post("/predict", json={"task": task, "x": [{"day": 3.5}, {"day": 30}]}).json()
    assert 0 < found["std"][0][0] < found["std"][1][0] and found["values"][0][0] == pytest.approx(1_175, abs=40)
    figure = table_tab._curve(curves, task, np.array([[row["day"], row["price"]] for row in rows]), "day", "price", EN)
    (axes,) = figure.axes
    (line, _), (band,) = axes.lines, axes.collections
    x, y = line.get_data()
    assert x[0] == pytest.approx(-2.1) and x[-1] == pytest.approx(9.1)
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() < y.min() and y.max() < heights.max()
    assert "std" not in client.post("/predict", json={"task": task, "x": [{"month": 1}]}).json()
