"""Thresholds for what visitors adapt to: measured before the first one comes, the nearest taken, and it is said where none is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli import serve
from innerloop.core import TaskSpec
from innerloop.data.class_images import ClassImages
from innerloop.errors import InputError
from innerloop.meta_learner.unknown_inputs import Threshold
from innerloop.serving.service import Service, Thresholds, measured_thresholds
from innerloop.serving.texts import EN, ZH
from innerloop.tasks.pictures.few_shot import FewShotImages


@pytest.fixture(scope="module")
def learner() -> il.MetaLearner:
    torch.manual_seed(0)
    made = il.protonet(il.models.mlp((1, 4, 4), None, hidden=(16,)))
    made.spec = TaskSpec(input_shape=(1, 4, 4), objective="cross_entropy")
    return made


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Twelve classes of eight pictures, each a pattern of its own with some noise."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, 2, (12, 1, 4, 4), generator=generator) * 200
    return (pattern + torch.randint(0, 50, (12, 8, 4, 4), generator=generator)).to(torch.uint8)


def split(images: torch.Tensor, classes: int) -> FewShotImages:
    made = ClassImages(images, tuple(map(str, range(12))), ("",) * 12)
    return FewShotImages(made, range(classes), name="patterns", split="valid", ways=2, shots=1, queries=3)


@pytest.fixture(scope="module")
def thresholds(learner, images) -> Thresholds:
    return measured_thresholds(learner, split(images, 12), 20)


def test_four_sizes_are_measured_and_the_nearest_is_taken(thresholds):
    assert {(t.ways, t.shots) for t in thresholds.found} == {(2, 1), (2, 5), (5, 1), (5, 5)}
    for ways, shots, size in ((2, 1, (2, 1)), (3, 2, (2, 1)), (4, 9, (5, 5)), (30, 1, (5, 1))):
        found = thresholds.nearest(ways, shots)
        assert found is not None and (found.ways, found.shots) == size
    assert "5 classes and 1 example of each" in thresholds.told() and "% of the known kept" in thresholds.told()


def test_what_a_visitor_adapts_to_knows_what_it_does_not_know(learner, images, thresholds):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from innerloop.serving.http import interface

    x = (images[:, :, None].float() / 255).numpy()
    with TestClient(interface(Service(learner, thresholds=thresholds))) as client:
        kept, caught = [], []
        for first in range(0, 12, 2):  # six pairs of classes, each asked about the ten others too
            shown = x[first : first + 2, :5].reshape(10, -1).tolist()
            answer = client.post("/adapt", json={"x": shown, "y": ["a"] * 5 + ["b"] * 5}).json()
            assert (answer["threshold"]["ways"], answer["threshold"]["shots"]) == (2, 5)
            asked = np.concatenate([x[first : first + 2], np.delete(x, (first, first + 1), 0)])[:, 5:].reshape(36, -1)
            ask = {"task": answer["task"], "x": asked.tolist(), "unknown": True}
            said = client.post("/predict", json=ask).json()["labels"]
            kept.append(6 - said[:6].count("unknown"))
            caught.append(said[6:].count("unknown"))
        assert sum(kept) > 0.75 * 6 * 6 and sum(caught) > 0.4 * 6 * 30
        plain = Service(learner, thresholds=Thresholds(lacking="nothing was there"))
    with TestClient(interface(plain)) as client:
        answer = client.post("/adapt", json={"x": shown, "y": ["a"] * 5 + ["b"] * 5}).json()
        assert answer["threshold"] is None
        refused = client.post("/predict", json={**ask, "task": answer["task"]})
        assert refused.status_code == 400 and "got none, as nothing was there" in refused.json()["error"]


def test_the_page_says_whether_it_can_tell(learner, images, thresholds):
    x, y = images[:2, 0, None].float().numpy() / 255, ["a", "b"]
    for found, text in (
        (thresholds, "on validation tasks of 2 classes it knew"),
        (None, "cannot tell when something is none of these"),
    ):
        service = Service(learner, thresholds=found)
        assert text in service.told_of_unknown(service.adapt(x, y)[1])


def test_what_is_measured_later_holds_for_tasks_made_before(learner, images, thresholds):
    service = Service(learner, thresholds=Thresholds(lacking=EN.still_measured))
    key, fitted, _ = service.adapt(images[:2, 0, None].float().numpy() / 255, ["a", "b"])
    assert fitted.threshold is None and "as that is still being measured" in service.told_of_unknown(fitted)
    assert "阈值还在测量" in service.told_of_unknown(fitted, ZH)
    asked = images[:2, 1, None].float().numpy() / 255
    assert service.predict(key, asked).known is None
    service.thresholds = thresholds
    found = service.predict(key, asked)
    assert found.known is not None and found.fitted.threshold == thresholds.nearest(2, 1)


def test_a_thread_that_measures_always_ends_with_an_answer(learner, tmp_path, monkeypatch):
    def broken(record, given=None):
        raise KeyError("tasks")

    monkeypatch.setattr("innerloop.cli.trust.validation_tasks", broken)
    monkeypatch.setattr("innerloop.training.run_config.read_run_config", lambda path: {})
    assert "measuring it failed (KeyError: 'tasks')" in serve._thresholds(tmp_path, learner, 40).lacking


def test_why_there_is_none_is_said(learner, images, tmp_path, monkeypatch):
    assert "has two classes only" in measured_thresholds(learner, split(images, 2), 4).told()
    regression = il.maml(il.models.mlp(1, 1))
    regression.spec = TaskSpec(objective="mse")
    assert "regression" in serve._thresholds(tmp_path, regression, 40).lacking
    assert "--valid-tasks 0" in serve._thresholds(tmp_path, learner, 0).lacking
    assert "serve its run directory" in serve._thresholds(tmp_path / "task.il", learner, 40).lacking

    def gone(record, given=None):
        raise InputError("the pictures\nare gone")

    monkeypatch.setattr("innerloop.cli.trust.validation_tasks", gone)
    monkeypatch.setattr("innerloop.training.run_config.read_run_config", lambda path: {})
    assert "(the pictures are gone)" in serve._thresholds(tmp_path, learner, 40).lacking


def test_a_learner_with_few_outputs_is_measured_on_as_many_classes(learner, images, monkeypatch):
    monkeypatch.setattr(learner, "output_size", 3)
    assert {t.ways for t in measured_thresholds(learner, split(images, 12), 4).found} == {2, 3}
    limit = Threshold("energy", 0.5, 0.95, 0.95, 0.1, 0.9, 2, 1, 50, "patterns")
    assert Thresholds((limit,)).nearest(2, 1) is limit


def test_what_cannot_be_told_is_not_offered(learner, images, thresholds):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from innerloop.serving.http import interface

    blind = Thresholds(tuple(dataclasses.replace(t, auroc=0.6) for t in thresholds.found))
    assert "not offered: AUROC 0.60" in blind.told() and "not offered" not in thresholds.told()
    service = Service(learner, thresholds=blind)
    x, y = images[:2, 0, None].float().numpy() / 255, ["a", "b"]
    key, fitted, _ = service.adapt(x, y)
    said, chinese = service.told_of_unknown(fitted), service.told_of_unknown(fitted, ZH)
    assert said.startswith("It cannot tell when something is none of these") and "AUROC was 0.60, and 0.75" in said
    assert "AUROC 是 0.60" in chinese and service.predict(key, x).known is None
    assert "percentages were off by" in said and "平均偏差" in chinese
    with TestClient(interface(service)) as client:
        answer = client.post("/adapt", json={"x": x.reshape(2, -1).tolist(), "y": y}).json()
        assert answer["threshold"] is None
        refused = client.post(
            "/predict", json={"task": answer["task"], "x": x.reshape(2, -1).tolist(), "unknown": True}
        )
        assert refused.status_code == 400 and "it cannot tell unknown inputs from known ones" in refused.json()["error"]
