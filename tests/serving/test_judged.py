"""What the page and HTTP say of a task on its own examples: beside the baselines, what loses first, in both languages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import TaskSpec
from innerloop.meta_learner.own_examples import NAMES
from innerloop.serving.service import Limits, Service
from innerloop.serving.texts import EN, ZH


@pytest.fixture(scope="module")
def learner() -> il.MetaLearner:
    """The class mean of 16 pixels."""
    net = il.models.mlp((1, 4, 4), 16, hidden=())
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.eye(16) if p.ndim == 2 else torch.zeros(16))
    made = il.protonet(net)
    made.spec = TaskSpec(input_shape=(1, 4, 4), objective="cross_entropy")
    return made


@pytest.fixture(scope="module")
def shown() -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    x = random.random((2, 1, 1, 4, 4)) + random.normal(scale=0.3, size=(2, 6, 1, 4, 4))
    return x.reshape(12, 1, 4, 4).astype("float32"), ["a"] * 6 + ["b"] * 6


def test_a_visitors_task_is_judged_on_their_examples(learner, shown):
    service = Service(learner)
    _, fitted, _ = service.adapt(*shown)
    alone = il.judge(learner.adapt(*shown), parts=5, scikit=False).judged
    assert fitted.judged == alone and alone.judged == 12
    said = service.told_of_judged(fitted)
    assert f"(12 judged): it knew {alone.shown(alone.learner.value)} (" in said
    for name, one in alone.baselines.items():
        assert f"{NAMES[name]} {alone.shown(one.value)}" in said
    chinese = service.told_of_judged(fitted, ZH)
    assert "类均值" in chinese and "class mean" not in chinese and "共检验 12 个" in chinese


def test_what_loses_says_so_before_its_number(learner, shown):
    service = Service(learner)
    fitted = service.adapt(*shown)[1]
    worse = dataclasses.replace(fitted.judged.baselines["nearest"], lead=-0.4, lead_low=-0.6, lead_high=-0.1)
    judged = dataclasses.replace(fitted.judged, baselines={"nearest": worse})
    fitted = dataclasses.replace(fitted, judged=judged)
    assert service.told_of_judged(fitted).startswith("**It loses to nearest example on your examples**")
    assert service.told_of_judged(fitted, ZH).startswith("**在你的样本上，它不如最近样本**")


def test_one_example_a_class_and_slow_learners_are_told(learner, shown):
    service = Service(learner)
    x, y = shown[0][[0, 6]], ["a", "b"]
    assert service.told_of_judged(service.adapt(x, y)[1]) == EN.one_each
    hurried = Service(learner, Limits(judging=0.0))
    fitted = hurried.adapt(*shown)[1]
    assert fitted.judged is None and hurried.told_of_judged(fitted) == EN.not_judged


def test_http_carries_it_and_the_page_shows_what_a_task_file_keeps(learner, shown, tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from innerloop.serving.http import interface

    x, y = shown
    with TestClient(interface(Service(learner))) as client:
        answer = client.post("/adapt", json={"x": x.reshape(12, -1).tolist(), "y": y}).json()
    assert answer["judged"]["judged"] == 12 and set(answer["judged"]["baselines"]) == {"class_mean", "nearest", "ridge"}
    kept = il.load(il.judge(learner.adapt(x, y)).save(tmp_path / "task.il"))
    told = Service(kept).told_of_first()
    assert told.startswith("This task was adapted before, to 12 examples. ") and "12 judged" in told
    plain = il.load(learner.adapt(x, y).save(tmp_path / "old.il"))
    assert EN.not_judged in Service(plain).told_of_first()


def test_values_are_told_in_their_unit():
    learner = il.maml(il.models.mlp(1, 1), inner_steps=1)
    learner.spec = TaskSpec(input_shape=(1,), objective="mse")
    x = np.linspace(-1, 1, 12, dtype="float32")[:, None]
    service = Service(learner)
    fitted = service.adapt(x, (3 * x).tolist())[1]
    said = service.told_of_judged(fitted)
    assert said.startswith("**It loses to ridge regression") and "root mean square" in said
