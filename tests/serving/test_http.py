"""The HTTP interface: a task is adapted to and predicted with, nobody sees another's, and bad requests get one line."""

from __future__ import annotations

import base64
import io
import json
import threading

import numpy as np
import pytest
import torch

import innerloop as il

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import fuzzed
from innerloop.core import TaskSpec
from innerloop.serving.http import interface
from innerloop.serving.service import Limits, Service

JSON_BODY = {"content-type": "application/json"}
LIMITS = Limits(megabytes=0.05, examples=8, classes=3, inputs=6, pixels=40_000, seconds=0.2, tasks=2)


def png(value: int, size: tuple[int, int] = (20, 20)) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", size, value).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def pictures() -> Service:
    torch.manual_seed(0)
    learner = il.protonet(il.models.mlp((1, 4, 4), None, hidden=(8,)))
    learner.spec = TaskSpec(input_shape=(1, 4, 4), objective="cross_entropy")
    return Service(learner, LIMITS)


@pytest.fixture(scope="module")
def client(pictures):
    return TestClient(interface(pictures), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def sine():
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(1, 1), inner_steps=2)
    learner.spec = TaskSpec(input_shape=(1,), objective="mse")
    return TestClient(interface(Service(learner, LIMITS)), raise_server_exceptions=False)


def adapted(client, names=("dark", "light")) -> str:
    answer = client.post("/adapt", json={"pictures": [png(10), png(240)], "y": list(names)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["classes"] == sorted(names)
    return answer.json()["task"]


def test_pictures(client):
    task = adapted(client)
    found = client.post("/predict", json={"task": task, "pictures": [png(30), png(200), png(9)]}).json()
    assert found["labels"] == ["dark", "light", "dark"]
    assert np.allclose(np.sum(found["probabilities"], 1), 1, atol=1e-6)
    assert found["confidences"] == [max(row) for row in found["probabilities"]]
    rows = client.post("/predict", json={"task": task, "x": [[30 / 255] * 16]}).json()  # the same as numbers
    assert np.allclose(rows["probabilities"][0], found["probabilities"][0], atol=1e-6)


def test_numbers(sine):
    task = sine.post("/adapt", json={"x": [[0.0], [1.0]], "y": [0.5, 1.5]}).json()["task"]
    found = sine.post("/predict", json={"task": task, "x": [[0.2], [0.4]]}).json()
    assert np.shape(found["values"]) == (2, 1) and found["labels"] is None


def test_one_visitors_classes_are_not_anothers(client):
    first, second = adapted(client), adapted(client, ("night", "day"))
    assert first != second
    ask = {"pictures": [png(10)]}
    assert client.post("/predict", json={"task": first, **ask}).json()["labels"] == ["dark"]
    assert client.post("/predict", json={"task": second, **ask}).json()["labels"] == ["night"]
    adapted(client)  # the third of at most two: the one longest unused is gone
    answer = client.post("/predict", json={"task": first, **ask})
    assert answer.status_code == 404 and "adapt again" in answer.json()["error"]


def test_many_at_once(client, pictures):
    tasks = {name: adapted(client, (name, "other")) for name in ("a", "b")}
    wrong: list[object] = []

    def ask(name: str) -> None:
        for _ in range(10):
            answer = client.post("/predict", json={"task": tasks[name], "pictures": [png(10)]})
            if answer.status_code != 200 or answer.json()["labels"] != [name]:
                wrong.append(answer.text)

    threads = [threading.Thread(target=ask, args=(name,)) for name in (*tasks, *tasks)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_a_request_that_waits_too_long_is_told(client, pictures):
    task = adapted(client)
    with pictures._turn:
        answer = client.post("/predict", json={"task": task, "pictures": [png(10)]})
    assert answer.status_code == 503 and "try again" in answer.json()["error"]


BAD = [
    (b'{"x": [[1,', 400, "the body expected JSON, got a mistake at character 10 (Expecting value); mend it"),
    (b"[1, 2]", 400, "openapi"),
    ({}, 400, "either x or pictures"),
    ({"x": [[0.0] * 16]}, 400, "expected y, one for each input, got none"),
    ({"x": [{"a": 1}] * 2, "y": ["a", "b"]}, 400, "got a table"),
    ({"y": ["a"]}, 400, "either x or pictures"),
    ({"x": [[0.0] * 16], "pictures": ["aa"], "y": ["a"]}, 400, "either x or pictures"),
    ({"x": [], "y": []}, 400, "at least one input"),
    ({"x": [[0.0] * 16], "y": ["a", "b"]}, 400, "one y for each input"),
    ({"x": [[0.0] * 15], "y": ["a"]}, 400, "inputs of shape (1, 4, 4)"),
    ({"x": [[0.0] * 16, [1.0]], "y": ["a", "b"]}, 400, "all of one length"),
    ({"x": [["red"] * 16], "y": ["a"]}, 400, "rows of numbers"),
    ({"x": [[0.0] * 16], "y": [[1.0]]}, 400, "one class name"),
    ({"x": [[0.0] * 16], "y": ["a"]}, 400, "at least two classes"),
    ({"x": [[0.0] * 16] * 9, "y": ["a"] * 9}, 400, "at most 8 examples"),
    ({"x": [[0.0] * 16] * 4, "y": ["a", "b", "c", "d"]}, 400, "at most 3 classes"),
    ({"pictures": ["not base64!"], "y": ["a"]}, 400, "base64"),
    ({"pictures": [base64.b64encode(b"GIF89a").decode()], "y": ["a"]}, 400, "expected a picture"),
    ({"pictures": [png(0, (300, 300))], "y": ["a"]}, 400, "more than the 40,000 allowed"),
    ({"x": [[0.0] * 16], "y": ["a" * 60_000]}, 413, "at most 0.05 MB"),
    ({"x": [[0.0] * 16], "y": ["a"], "task": "b"}, 400, "task: Extra inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "said"), BAD)
def test_bad_requests_get_one_line(client, body, status, said):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/adapt", content=content, headers=JSON_BODY)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert "\n" not in answer.json()["error"] and "Traceback" not in answer.text


def test_numbers_that_json_does_not_have(client):
    answer = client.post(
        "/adapt", content=b'{"x": [[' + b",".join([b"NaN"] * 16) + b']], "y": ["a"]}', headers=JSON_BODY
    )
    assert answer.status_code == 400 and "finite" in answer.json()["error"]


def test_a_body_without_a_declared_length(client):
    answer = client.post("/adapt", content=iter([b"x" * 30_000] * 4), headers=JSON_BODY)
    assert answer.status_code == 413


def test_the_interface_is_documented(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/adapt", "/predict", "/tasks/{task}", "/open"} and client.get("/docs").status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "y", "task", "pictures", "invert"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ROWS = st.lists(
    st.lists(st.floats(-2, 2) | st.floats() | st.integers(), min_size=16, max_size=16)
    | st.lists(st.floats(-2, 2), max_size=2),
    max_size=4,
)
FILES = st.sampled_from([png(0), png(200), png(9, (3, 1)), "", "AAAA", "data:image/png;base64," + png(7)])
NAMES = st.lists(st.sampled_from(["a", "b", "", "unknown", 1, 2.5, True, [0.5], [1.0, 2.0]]), max_size=4)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "x": ROWS | JSON, "pictures": st.lists(FILES | st.text(max_size=8), max_size=4) | JSON, "y": NAMES | JSON,
        "task": st.just("a key") | JSON, "invert": st.booleans() | JSON, "unknown": st.booleans() | JSON,
    },
)  # fmt: skip


@fuzzed(150)
@given(
    body=st.one_of(JSON | LIKELY, LIKELY, st.binary(max_size=60)),
    path=st.sampled_from(["/adapt", "/predict"]),
    regression=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")  # numpy's, of numbers that float32 does not hold
def test_fuzzed_bodies_do_not_bring_it_down(client, sine, fuzzed_keys, body, path, regression):
    asked = sine if regression else client
    if isinstance(body, dict) and body.get("task") == "a key":
        body = {**body, "task": fuzzed_keys[regression](asked)}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = asked.post(path, content=content, headers=JSON_BODY)
    assert answer.status_code in (200, 400, 404, 413), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert "\n" not in error and "Traceback" not in error and 0 < len(error) < 600


@pytest.fixture(scope="module")
def fuzzed_keys():
    """What makes a task that is there, for the pictures and for the sine; a new one, as others push it out."""

    def of_sine(client) -> str:
        return client.post("/adapt", json={"x": [[0.0], [1.0]], "y": [0.5, 1.5]}).json()["task"]

    return (adapted, of_sine)


def test_a_task_file_with_a_threshold_knows_what_it_does_not_know(pictures):
    import dataclasses

    from innerloop.data.support_files import preprocessing_of
    from innerloop.meta_learner.unknown_inputs import Threshold

    limit = Threshold("max_probability", 0.9999, 0.95, 0.95, 0.1, 0.9, 2, 1, 50, "glyphs")
    x = np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4))]).astype(np.float32)
    fitted = dataclasses.replace(pictures.learner.adapt(x, ["dark", "light"]), threshold=limit)
    client = TestClient(interface(Service(fitted, LIMITS)), raise_server_exceptions=False)
    ask = {"task": "first", "x": [[0.5] * 16]}
    assert client.post("/predict", json=ask).json()["labels"][0] in ("dark", "light")
    assert client.post("/predict", json={**ask, "unknown": True}).json()["labels"] == ["unknown"]
    task = client.post("/adapt", json={"x": x.reshape(2, 16).tolist(), "y": ["a", "b"]}).json()["task"]
    answer = client.post("/predict", json={**ask, "task": task, "unknown": True})
    assert answer.status_code == 400 and "expected a task with a threshold" in answer.json()["error"]
    inverted = dataclasses.replace(fitted, preprocessing=preprocessing_of(True))
    client = TestClient(interface(Service(inverted, LIMITS)), raise_server_exceptions=False)
    found = [
        client.post("/predict", json={"task": "first", "pictures": [png(0)], **more}).json()["labels"][0]
        for more in ({}, {"invert": False})
    ]
    assert found == ["light", "dark"]


def test_pictures_of_a_request_are_read_alike_and_as_the_task_was(client, pictures):
    """Files of twelve bits and see-through ones, as one folder: a dark picture of a task stays dark when it is asked alone."""

    from PIL import Image

    def sent(picture: Image.Image) -> str:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    dark, light = (sent(Image.fromarray(np.full((4, 4), level, np.uint16))) for level in (200, 4095))
    ink = sent(Image.fromarray(np.array([[(0, 0, 0, 255)] * 2 + [(0, 0, 0, 0)] * 2] * 4, np.uint8)))
    answer = client.post("/adapt", json={"pictures": [dark, light, ink], "y": ["dark", "light", "ink"]}).json()
    kept = pictures.task(answer["task"])
    assert kept.preprocessing["levels"] == [0, 4095] and kept.preprocessing["paper"] == 255
    asked = [
        client.post("/predict", json={"task": answer["task"], "pictures": [one]}).json()["labels"][0]
        for one in (dark, light, ink)
    ]
    assert asked == ["dark", "light", "ink"]
    empty = sent(Image.new("RGBA", (4, 4)))
    refused = client.post("/predict", json={"task": answer["task"], "pictures": [empty]})
    assert refused.status_code == 400 and "wholly see-through" in refused.json()["error"]
