"""Task files over HTTP and on the page: what is saved opens again, in the same learner alone; the reference needs no network."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import innerloop as il
import own_folders

pytest.importorskip("gradio")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient

from innerloop.core import TaskSpec
from innerloop.data.support_files import inverts, preprocessing_of
from innerloop.data.tables import table_from_bytes
from innerloop.errors import InputError
from innerloop.meta_learner.files import TASK, VERSION
from innerloop.meta_learner.unknown_inputs import Threshold
from innerloop.models import embeddings
from innerloop.objectives.denoising import Denoising
from innerloop.serving import picture_tab
from innerloop.serving.http import interface
from innerloop.serving.service import Limits, Service, Thresholds
from innerloop.serving.shown_pictures import listed, thumbnail
from innerloop.serving.task_files import table_text
from innerloop.serving.texts import EN, ZH
from innerloop.storage import load_tensors, save_tensors

BYTES = {"content-type": "application/octet-stream"}
X = np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4)), np.full((1, 4, 4), 0.9)]).astype(np.float32)
NAMES = ["dark", "light", "light"]


def pictures_learner(seed: int = 0, preprocessing: dict | None = None, method=il.protonet, **options) -> il.MetaLearner:
    torch.manual_seed(seed)
    outputs = None if method is il.protonet else 2
    learner = method(il.models.mlp((1, 4, 4), outputs, hidden=(8,)), **options)
    learner.spec = TaskSpec(input_shape=(1, 4, 4), objective="cross_entropy", preprocessing=preprocessing)
    return learner


@pytest.fixture(scope="module")
def service() -> Service:
    limit = Threshold("max_probability", 0.6, 0.95, 0.95, 0.1, 0.9, 2, 1, 50, "glyphs")
    return Service(pictures_learner(), Limits(megabytes=1), Thresholds((limit,)))


@pytest.fixture(scope="module")
def client(service):
    return TestClient(interface(service), raise_server_exceptions=False)


def adapted(client) -> str:
    return client.post("/adapt", json={"x": X.reshape(3, 16).tolist(), "y": NAMES}).json()["task"]


def test_a_task_is_saved_and_opened_again(client, service, tmp_path):
    task = adapted(client)
    answer = client.get(f"/tasks/{task}")
    assert answer.status_code == 200 and 'filename="task.il"' in answer.headers["content-disposition"]
    opened = client.post("/open", content=answer.content, headers=BYTES)
    assert opened.status_code == 200, opened.text
    about = opened.json()
    assert about["task"] != task and about["classes"] == ["dark", "light"] and about["examples"] == 3
    assert about["seconds"] is None and about["threshold"]["ways"] == 2
    asked = {"x": [[0.3] * 16, [0.8] * 16]}
    before, after = (client.post("/predict", json={"task": key, **asked}).json() for key in (task, about["task"]))
    assert before["probabilities"] == after["probabilities"]
    shown = service.examples(about["task"])
    assert shown is not None and list(shown.names) == NAMES
    np.testing.assert_array_equal(shown.pictures, X)
    (tmp_path / "task.il").write_bytes(answer.content)
    fitted = il.load(tmp_path / "task.il")  # the same file on the command line and in Python
    np.testing.assert_allclose(fitted.predict_proba(X[:1]), [service.predict(task, X[:1]).values[0]], atol=1e-6)
    assert fitted.holds_support


def test_a_file_of_adapt_opens_with_its_examples_or_without(service, tmp_path):
    fitted = service.learner.adapt(X, NAMES)
    for keep in (False, True):
        path = fitted.save(tmp_path / f"{keep}.il", support=keep)
        key, again = service.opened(path.read_bytes())
        np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X))
        shown, said = picture_tab._again(service, EN, key, again)
        assert shown.key == key and len(shown.pictures) == (3 if keep else 0)
        assert ("cannot be shown here" in said) is not keep
    # What is taken away or added after that adapts anew to what is shown.
    left, said = picture_tab._adapted(service, EN, shown.of([0, 1]))
    assert left.names == ["dark", "light"] and left.key != key and "Adapted to 2 pictures of 2 classes" in said
    assert picture_tab._adapted(service, EN, shown.of([1]))[0].key is None
    assert picture_tab._adapted(service, EN, shown.of([]))[1] == EN.nothing_yet


def test_the_page_begins_with_the_examples_of_the_task_file_that_is_served(service):
    served = Service(service.learner.adapt(X, NAMES))
    shown, said = picture_tab._of_first(served, EN)
    assert shown.key == "first" and shown.names == NAMES and "adapted before, to 3 examples" in said
    assert served.opened(served.saved("first"))[1].classes_ == ["dark", "light"]


def behind_a_network(path) -> bytes:
    """The file as a stranger may have altered it, to have something imported."""
    tensors, header = load_tensors(path, TASK, VERSION)
    header["preprocessing"] = {
        **preprocessing_of(None),
        "embedding": {"source": "own_embeddings:Colours", "shape": [3, 8, 8]},
    }
    save_tensors(path, TASK, VERSION, tensors, header)
    return path.read_bytes()


WRONG = {
    "nothing": lambda path: b"",
    "no task file": lambda path: b"hello",
    "half of one": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "other weights": lambda path: pictures_learner(1).adapt(X, NAMES).save(path).read_bytes(),
    "another method": lambda path: pictures_learner(method=il.maml).adapt(X, NAMES).save(path).read_bytes(),
    "another network before it": lambda path: behind_a_network(path),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_files_are_refused_in_a_line(client, service, tmp_path, what):
    path = service.learner.adapt(X, NAMES).save(tmp_path / "task.il")
    answer = client.post("/open", content=WRONG[what](path), headers=BYTES)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error.startswith("expected a task file"), answer.text
    assert "\n" not in error and "; " in error and str(tmp_path) not in error and "/tmp" not in error


def test_an_unknown_key_and_a_large_file(client):
    assert client.get("/tasks/nobody").status_code == 404
    assert client.post("/open", content=b"x" * 1_100_000, headers=BYTES).status_code == 413


def test_what_is_ink_travels_with_the_file(service):
    client = TestClient(interface(service))
    key = service.adapt(X, NAMES, invert=True)[0]
    assert inverts(service.opened(client.get(f"/tasks/{key}").content)[1].preprocessing) is True


@pytest.mark.parametrize("record", [None, preprocessing_of(False), preprocessing_of(True), preprocessing_of(None)])
def test_strokes_of_the_canvas_are_ink_for_every_grey_learner(record):
    """A learner of light characters on dark paper would see the canvas, which is white, as ink."""
    import base64
    import io

    from PIL import Image, ImageDraw

    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).rectangle((0, 0, 139, 279), fill=0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    drawn = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    found = picture_tab._ink(Service(pictures_learner(preprocessing=record)), EN, drawn)
    np.testing.assert_allclose(found, np.array([[[1, 1, 0, 0]] * 4]), atol=1e-6)


def test_tables_come_back_as_they_were_written():
    service = Service(il.load("builtin:tables"))
    rows = [{"age": 20 + i, "kind, or so": "ab"[i % 2]} for i in range(6)]
    client = TestClient(interface(service))
    key = client.post("/adapt", json={"x": rows, "target": "kind, or so"}).json()["task"]
    opened = client.post("/open", content=client.get(f"/tasks/{key}").content, headers=BYTES).json()["task"]
    text = service.examples(opened).table
    assert text.splitlines()[:2] == ['age,"kind, or so"', "20,a"] and len(text.splitlines()) == 7
    again, *_ = service.adapt(table_from_bytes(text.encode(), "again"), target="kind, or so")
    asked = {"x": [{"age": 23}]}
    found = [client.post("/predict", json={"task": k, **asked}).json()["probabilities"] for k in (key, opened, again)]
    assert found[0] == found[1] == found[2]


def test_sentences_and_embedded_pictures_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embeddings, "_loaded", {})
    texts = [f"{s * 3} word {s * i}" for s in ("ba", "ce", "di", "fo", "gu", "ha") for i in range(1, 5)]
    family = il.tasks.from_arrays(texts, [t[:2] for t in texts], embedding="own_embeddings:Letters", shots=1)
    learner = il.protonet(il.models.adapter(26))
    il.fit(learner, family, steps=1, quiet=True, validate_every=0)
    service = Service(learner)
    key = service.adapt(["aa b", "zz y"], ["a", "z"])[0]
    opened, _ = service.opened(service.saved(key))
    shown = service.examples(opened)
    assert shown is not None and shown.texts == ("aa b", "zz y") and shown.names == ("a", "z")

    folder = own_folders.make(tmp_path / "p", {f"c{i}": 4 for i in range(6)})
    learner = il.protonet(il.models.adapter(16))
    il.fit(
        learner, il.tasks.from_path(folder, embedding="own_embeddings:Colours"), steps=1, quiet=True, validate_every=0
    )
    service = Service(learner)
    pictures, _ = service.pictures([path.read_bytes() for path in sorted(folder.glob("c[01]/*.png"))])
    key, fitted, _ = service.adapt(pictures, ["a"] * 4 + ["b"] * 4)
    opened, again = service.opened(service.saved(key))
    np.testing.assert_array_equal(service.examples(opened).pictures, pictures)
    np.testing.assert_allclose(again.predict_proba(pictures), fitted.predict_proba(pictures), atol=1e-6)


def test_a_score_models_task_is_shown_saved_and_opened():
    torch.manual_seed(0)
    learner = il.score_model(il.models.denoising_unet((1, 8, 8), channels=(16, 16), width=16, heads=1))
    learner.spec = TaskSpec(input_shape=(1, 8, 8), objective=Denoising())
    service = Service(learner)
    few = torch.rand(3, 1, 8, 8).numpy()
    key, _ = service.shown_kind(few)
    made, _ = service.sample(key, 2, seed=1)
    assert made.shape == (2, 1, 8, 8) and made.min() >= 0 and made.max() <= 1
    opened, _ = service.opened(service.saved(key))
    np.testing.assert_array_equal(service.examples(opened).pictures, few)
    np.testing.assert_allclose(service.sample(opened, 2, seed=1)[0], made, atol=1e-5)
    with pytest.raises(InputError, match="one of protonet"):
        other = Service(pictures_learner())
        service.opened(other.saved(other.adapt(X, NAMES)[0]))


def test_learners_that_no_page_can_show_are_refused():
    worlds = il.tasks.navigation(steps=2, episodes=2)
    learner = il.maml_rl(worlds.train.default_model())
    il.fit(learner, worlds, steps=1, num_tasks=1, quiet=True, validate_every=0)
    with pytest.raises(InputError, match=r"objective policy.*innerloop play"):
        Service(learner)


def test_names_are_escaped_and_pictures_can_be_told_apart():
    image = thumbnail(X[0])
    found = listed([image, image, image], ['<b>{{x}}" ${1}', "b", "b"], EN)
    assert "<b>" not in found and "{{" not in found and "${" not in found
    assert found.count('class="away"') == 3 and 'data-index="2"' in found
    assert 'aria-label="Take away picture 2 of b"' in found and found.count('class="rename"') == 2
    assert 'class="rename"' not in listed([image], (), ZH)


def test_the_reference_loads_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    for told in ("POST /adapt", "POST /predict", "GET /tasks/{task}", "POST /open", "pictures", "required"):
        assert told in page
    assert client.get("/redoc").status_code == 404


def test_a_table_is_written_with_its_gaps():
    text = 'a,"b ""c"""\n1,x\n,y\n'
    assert table_text(table_from_bytes(text.encode(), "t")) == text
