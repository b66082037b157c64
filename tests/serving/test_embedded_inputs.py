"""Serving a learner behind a trained network: it takes pictures and sentences, not features."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

import innerloop as il
import own_folders
from innerloop.errors import InputError
from innerloop.models import embeddings

pytest.importorskip("gradio")
from fastapi.testclient import TestClient

from innerloop.serving.http import interface
from innerloop.serving.service import Service
from innerloop.serving.text_tab import taken_apart
from innerloop.serving.texts import EN, ZH

SAID = ["aa b", "a ab", "zz y", "zyz"]
NAMES = ["aaa", "aaa", "zzz", "zzz"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embeddings, "_loaded", {})


def of_texts() -> il.MetaLearner:
    texts = [f"{s * 3} word {s * i}" for s in ("ba", "ce", "di", "fo", "gu", "ha") for i in range(1, 5)]
    family = il.tasks.from_arrays(texts, [t[:2] for t in texts], embedding="own_embeddings:Letters", shots=1)
    learner = il.protonet(il.models.adapter(26))
    il.fit(learner, family, steps=1, quiet=True, validate_every=0)
    return learner


def test_a_learner_of_texts_takes_sentences_over_http():
    learner = of_texts()
    client = TestClient(interface(Service(learner)))
    adapted = client.post("/adapt", json={"x": SAID, "y": NAMES})
    assert adapted.status_code == 200, adapted.text
    answer = client.post("/predict", json={"task": adapted.json()["task"], "x": ["aaaa", "zz zy"]})
    assert answer.json()["labels"] == ["aaa", "zzz"]
    rows = [{"said": text, "kind": name} for text, name in zip(SAID, NAMES, strict=True)]
    assert client.post("/adapt", json={"x": rows, "target": "kind"}).status_code == 200
    wrong = client.post("/adapt", json={"x": ["a", ""], "y": ["p", "q"]})
    assert wrong.status_code == 400 and "expected a list of texts, got an empty text" in wrong.json()["error"]
    first = Service(learner.adapt(SAID, NAMES))
    assert first.predict("first", ["aaaa"]).values.argmax() == 0


def test_the_pages_lines_are_taken_apart():
    assert taken_apart("travel: fly me\n\n 天气：明天下雨吗\n", EN) == (["fly me", "明天下雨吗"], ["travel", "天气"])
    for lines, said in (
        ("fly me", "put the class and a colon before it"),
        ("a:", "class and a colon"),
        (" ", "got none"),
    ):
        with pytest.raises(InputError, match=said):
            taken_apart(lines, EN)
    with pytest.raises(InputError, match="没有例句"):
        taken_apart("", ZH)


def test_a_learner_of_embedded_pictures_takes_pictures_over_http(tmp_path):
    folder = own_folders.make(tmp_path / "p", {f"c{i}": 4 for i in range(6)})
    learner = il.protonet(il.models.adapter(16))
    il.fit(
        learner, il.tasks.from_path(folder, embedding="own_embeddings:Colours"), steps=1, quiet=True, validate_every=0
    )
    service = Service(learner)
    assert service.takes_pictures and service.input_shape == (3, 8, 8)
    client = TestClient(interface(service))
    files = sorted(folder.glob("c[01]/*.png"))

    def sent(paths: list[Path]) -> list[str]:
        return [base64.b64encode(p.read_bytes()).decode() for p in paths]

    adapted = client.post("/adapt", json={"pictures": sent(files[::2]), "y": [f.parent.name for f in files[::2]]})
    assert adapted.status_code == 200, adapted.text
    answer = client.post("/predict", json={"task": adapted.json()["task"], "pictures": sent(files[1::2])})
    assert answer.json()["labels"] == [f.parent.name for f in files[1::2]]
