"""A task judged on its own examples: nothing that is asked was shown, baselines on the same, what loses says so first."""

from __future__ import annotations

import dataclasses
import importlib.util
import time

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.evaluation import own_examples, scikit_baselines
from innerloop.evaluation.own_examples import deal, judge, matched_pairs, wilson
from innerloop.meta_learner.own_examples import Judged
from innerloop.storage import load_tensors, save_tensors


def identity(width: int) -> il.MetaLearner:
    """A prototypical network that compares the inputs themselves: the class mean."""
    net = il.models.mlp(width, width, hidden=())
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.eye(width) if p.ndim == 2 else torch.zeros(width))
    return il.protonet(net)


def blobs(classes: int, each: int, apart: float = 1.5) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(0)
    centres = apart * generator.normal(size=(classes, 1, 3))
    x = centres + generator.normal(size=(classes, each, 3))
    return x.reshape(-1, 3).astype("float32"), [f"c{i}" for i in range(classes) for _ in range(each)]


# ---- parts -------------------------------------------------------------------------------------------------------
def test_parts_have_each_class_and_each_example_once():
    labels = [0] * 5 + [1] * 5 + [2] * 5
    parts = deal(labels, 15, 10)
    assert len(parts) == 5 and sorted(i for part in parts for i in part) == list(range(15))
    assert all(sorted(labels[i] for i in part) == [0, 1, 2] for part in parts)


def test_a_class_of_one_example_is_always_shown():
    assert sorted(i for part in deal([0, 0, 1, 2, 2, 2], 6, 10) for i in part) == [0, 1, 3, 4, 5]


def test_no_class_is_ever_left_out_whole():
    labels = [0] * 40 + [1] * 2 + [2] * 7
    parts = deal(labels, 49, 10)
    assert len(parts) == 10
    for part in parts:
        assert {labels[i] for i in range(49) if i not in part} == {0, 1, 2}


def test_of_many_examples_some_are_left_out():
    parts = deal(None, 1000, 10, most=200)
    assert sum(map(len, parts)) == 200 and len(parts) == 10


# ---- intervals ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("right", "n"), [(0, 10), (8, 10), (25, 25), (140, 200)])
def test_wilsons_ends_are_where_the_share_is_just_so_far_off(right, n):
    """Its definition: the shares p from which the observed one is 1.96 deviations of p away."""
    for end in wilson(right, n):
        assert (right / n - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / n, abs=1e-12)


def test_matched_pairs_need_more_than_a_few_that_differ():
    both = torch.ones(25, dtype=torch.double)
    for wrong, clear in ((4, False), (5, True)):
        other = both.clone()
        other[:wrong] = 0
        low, high = matched_pairs(both, other)
        assert (low > 0) == clear and high > 0
        back = matched_pairs(other, both)
        assert back == pytest.approx((-high, -low))


# ---- what is judged ----------------------------------------------------------------------------------------------
def test_the_class_mean_is_judged_as_scikit_learns_on_the_same_parts():
    centroid = pytest.importorskip("sklearn.neighbors").NearestCentroid
    x, y = blobs(4, 6)
    fitted = judge(identity(3).adapt(x, y))
    found, labels = fitted.judged, np.array(y)
    right = 0
    for part in deal([int(name[1]) for name in y], 24, 10):
        rest = [i for i in range(24) if i not in part]
        right += int((centroid().fit(x[rest], labels[rest]).predict(x[part]) == labels[part]).sum())
    assert 0.3 < right / 24 < 1  # neither too easy nor hopeless
    assert found.learner.value == pytest.approx(right / 24)
    assert (found.baselines["class_mean"].value, found.baselines["class_mean"].lead) == (found.learner.value, 0)
    assert (found.examples, found.judged, found.parts, found.one_of_each) == (24, 24, 6, True)
    assert "one of each class left out at a time" in found.lines()[0]


def test_nothing_that_is_asked_was_shown(monkeypatch):
    x, y = blobs(2, 4)
    seen = []
    first = own_examples.adapted
    monkeypatch.setattr(
        own_examples, "adapted", lambda owner, shown, *rest: seen.append(shown.side.x[0]) or first(owner, shown, *rest)
    )
    judge(identity(3).adapt(x, y))
    parts = deal([0] * 4 + [1] * 4, 8, 10)
    assert len(seen) == len(parts) == 4
    for shown, part in zip(seen, parts, strict=True):
        rest = [i for i in range(8) if i not in part]
        assert torch.equal(shown, torch.from_numpy(x[rest]))


def test_what_is_left_out_of_a_table_has_no_part_in_how_the_rest_is_scaled():
    pd = pytest.importorskip("pandas")
    family = il.tasks.synthetic_tables(ways=2, columns=4)
    learner = identity(4)
    learner.spec = dataclasses.replace(family.train.spec, problem=None)
    x, y = blobs(3, 8, 1.0)
    x[0] += 30.0  # so far off that the others' scales are told by whether it is there
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    whole = table.assign(kind=y)
    found = judge(learner.adapt(whole, target="kind")).judged
    right = 0
    for part in deal([int(name[1]) for name in y], 24, 10):
        rest = whole.iloc[[i for i in range(24) if i not in part]]
        right += int((learner.adapt(rest, target="kind").predict(table.iloc[part]) == np.array(y)[part]).sum())
    assert 8 < right < 24 and found.learner.value == pytest.approx(right / 24)
    assert found.baselines["class_mean"].value == pytest.approx(right / 24)
    without = judge(learner.adapt(table, y)).judged
    assert without.learner is None and "give a table with its target column" in without.lines()[0]


def test_values_are_judged_in_their_own_unit():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 2)).astype("float32")
    y = (100 * x[:, :1] + 7).astype("float32")
    fitted = judge(il.maml(il.models.mlp(2, 1), inner_steps=1).adapt(x, y))
    found = fitted.judged
    parts = deal(None, 20, 10)
    errors = [(y[i, 0] - np.delete(y[:, 0], part).mean()) ** 2 for part in parts for i in part]
    assert found.metric == "rmse" and found.baselines["mean"].value == pytest.approx(np.sqrt(np.mean(errors)), rel=1e-5)
    assert found.baselines["ridge"].value < 1 < found.baselines["mean"].value
    half = 1.96 * np.std(errors, ddof=1) / np.sqrt(20)
    assert found.baselines["mean"].high == pytest.approx(np.sqrt(np.mean(errors) + half), rel=1e-5)
    assert found.loses_to == "ridge" and found.lines()[0].startswith("LOSES to ridge regression on your own examples")
    assert "root mean square" in found.lines()[1]


def test_the_verdict_follows_the_interval():
    base = judge(identity(3).adapt(*blobs(3, 5))).judged
    one = base.baselines["nearest"]
    for low, high, said in (
        (0.1, 0.5, "better than each"),
        (-0.1, 0.5, "not clearly better"),
        (-0.5, -0.1, "LOSES to"),
    ):
        lead = dataclasses.replace(one, lead=(low + high) / 2, lead_low=low, lead_high=high)
        lines = dataclasses.replace(base, baselines={"nearest": lead}).lines()
        assert any(said in line for line in lines) and (said in lines[0]) == (said == "LOSES to")


def test_one_example_a_class_cannot_be_judged():
    x, y = blobs(3, 1)
    found = judge(identity(3).adapt(x, y)).judged
    assert (found.judged, found.learner) == (0, None)
    assert "cannot be judged on your examples, as each class has one only" in found.lines()[0]
    two = il.maml(il.models.mlp(1, 1)).adapt(torch.zeros(2, 1), torch.zeros(2, 1))
    assert "there are 2 only" in judge(two).judged.lines()[0]


def test_time_stops_it_and_it_says_on_how_many():
    found = judge(identity(3).adapt(*blobs(3, 5)), seconds=0).judged
    assert (found.judged, found.examples) == (3, 15) and "on 3 of your 15 examples" in found.lines()[0]


def test_a_slow_forest_takes_no_part_from_the_learner(monkeypatch):
    pytest.importorskip("sklearn")
    first = scikit_baselines.predictions
    monkeypatch.setattr(scikit_baselines, "predictions", lambda *a: time.sleep(0.6 * (a[0] == "forest")) or first(*a))
    fitted = identity(3).adapt(*blobs(3, 5))
    judge(fitted)  # imports scikit-learn
    found = judge(fitted, seconds=1.0).judged
    assert found.judged == 15 and "forest" not in found.baselines and "class_mean" in found.baselines


def test_forests_are_there_where_scikit_learn_is(monkeypatch):
    pytest.importorskip("sklearn")
    fitted = identity(3).adapt(*blobs(2, 3))
    assert {"logistic", "forest"} <= set(judge(fitted).judged.baselines)
    assert not {"logistic", "forest"} & set(judge(fitted, scikit=False).judged.baselines)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        scikit_baselines.importlib.util, "find_spec", lambda name: None if name == "sklearn" else found(name)
    )
    assert list(judge(fitted).judged.baselines) == ["class_mean", "nearest", "ridge"]


def test_scikits_predictors_are_fitted_to_the_support_set_alone():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = blobs(3, 4)
    labels = np.array([int(name[1]) for name in y])
    task = il.Task(
        il.Examples(torch.from_numpy(x)[None], torch.from_numpy(labels)[None]),
        il.Examples(torch.from_numpy(x + 0.5)[None], torch.zeros(1, 12, dtype=torch.long)),
    )
    expected = linear.LogisticRegression(max_iter=500).fit(x.astype(float), labels).predict_proba(x + 0.5)
    found = scikit_baselines.predictions("logistic", task, 5)[0].numpy()
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    assert not found[:, 3:].any()


# ---- the record --------------------------------------------------------------------------------------------------
def test_the_file_keeps_it_and_more_data_drops_it(tmp_path):
    x, y = blobs(3, 4)
    plain = identity(3).adapt(x, y)
    fitted = judge(plain)
    file = fitted.save(tmp_path / "task.il")
    again = il.load(file)
    assert again.judged == fitted.judged and plain.judged is None
    assert fitted.learn(x[:2], y[:2]).judged is None
    with pytest.raises(il.ConfigError, match="from a file without them; adapt again"):
        judge(again)
    tensors, header = load_tensors(file, "innerloop-task", 1)
    for bad in (
        {"learner": {"value": "much"}},
        {"version": 9},
        {"baselines": {"ridge": {"value": 1, "low": 0, "high": 1}}},
    ):
        save_tensors(file, "innerloop-task", 1, tensors, {**header, "judged": {**header["judged"], **bad}})
        with pytest.raises(il.CheckpointError):
            il.load(file)
    del header["judged"]
    save_tensors(file, "innerloop-task", 1, tensors, header)
    assert il.load(file).judged is None


def test_a_record_that_could_not_be_judged_travels_too():
    found = Judged("accuracy", 3, lacking="each class has one only")
    assert Judged.from_dict(found.to_dict()) == found


def test_wrong_arguments():
    fitted = identity(3).adapt(*blobs(2, 2))
    with pytest.raises(il.ConfigError, match="parts expected at least 2, got 1"):
        judge(fitted, parts=1)
