"""Unknown inputs: the threshold keeps what it says, tells other classes apart, and travels with the task file."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sklearn.metrics import roc_auc_score

import innerloop as il
from innerloop.evaluation import calibration
from innerloop.meta_learner.unknown_inputs import SCORES, Threshold
from innerloop.storage import load_tensors, save_tensors


def blobs(classes: int, examples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of points about centres that lie apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(classes, 1, 6, generator=generator)
    x = centres + torch.randn(classes, examples, 6, generator=generator)
    return x.reshape(-1, 6), torch.arange(classes).repeat_interleave(examples)


@pytest.fixture(scope="module")
def family() -> il.TaskFamily:
    x, y = blobs(60, 12, 0)
    return il.tasks.from_arrays(x, y, ways=4, shots=2, valid_classes=25, test_classes=25)


@pytest.fixture(scope="module")
def learner() -> il.MetaLearner:
    """Distances in the space of the inputs themselves: nothing has to be trained."""
    net = il.models.mlp(6, 6, hidden=())
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.eye(6) if p.ndim == 2 else torch.zeros(6))
    return il.protonet(net)


@pytest.fixture(scope="module")
def fitted(learner, family) -> il.Fitted:
    task = family.test.at(0, 0, 1)
    return il.calibrate(learner.adapt(task.support.x[0], task.support.y[0]), family.valid)


def test_the_threshold_keeps_what_it_says_and_tells_other_classes_apart(learner, family, fitted):
    limit = fitted.threshold
    assert (limit.ways, limit.shots, limit.num_tasks, limit.keep) == (4, 2, 50, 0.95)
    assert abs(limit.kept - 0.95) < 0.03 and limit.false_accept < 0.5 and limit.auroc > 0.9
    test = family.test.resized(8, 2, 3).at(1, 0, 60)  # classes that neither training nor calibrating saw
    shown = calibration.without_classes(test, 4)
    kept, accepted = [], []
    for i in range(60):
        one = learner.adapt(shown.support.x[i], shown.support.y[i])
        one = dataclasses.replace(one, threshold=limit)
        names = one.predict(test.query.x[i].numpy(), unknown=-1)
        known = test.query.y[i].numpy() < 4
        kept.append((names[known] != -1).mean())
        accepted.append((names[~known] != -1).mean())
        assert set(names.tolist()) <= {-1, 0, 1, 2, 3}
    assert abs(sum(kept) / 60 - 0.95) < 0.05
    assert sum(accepted) / 60 == pytest.approx(limit.false_accept, abs=0.15)


def test_keep_moves_the_threshold(fitted, family):
    loose, strict = (il.calibrate(fitted, family.valid, keep=k).threshold for k in (0.99, 0.8))
    assert loose.value < fitted.threshold.value < strict.value
    assert loose.false_accept > strict.false_accept and abs(strict.kept - 0.8) < 0.08


def test_the_file_holds_it_and_an_old_file_has_none(fitted, family, tmp_path):
    x = family.test.at(3, 0, 1).query.x[0]
    file = fitted.save(tmp_path / "task.il")
    again = il.load(file)
    assert again.threshold == fitted.threshold
    assert torch.equal(again.predict(x, unknown=-1), fitted.predict(x, unknown=-1))
    assert -1 in fitted.predict(x, unknown=-1) and -1 not in fitted.predict(x)
    tensors, header = load_tensors(file, "innerloop-task", 1)
    del header["threshold"]
    save_tensors(file, "innerloop-task", 1, tensors, header)
    old = il.load(file)
    assert torch.equal(old.predict(x), fitted.predict(x))
    with pytest.raises(il.ConfigError, match=r"expected a task with a threshold .*, got none; measure it"):
        old.predict(x, unknown=-1)


BAD = [{"score": "pickle"}, {"value": "much"}, {"value": float("nan")}, {"more": 1}, {"version": "1"}]


@pytest.mark.parametrize("change", BAD)
def test_a_damaged_threshold_is_refused(fitted, change):
    with pytest.raises(il.CheckpointError, match="threshold"):
        Threshold.from_dict({**fitted.threshold.to_dict(), **change})


def test_labels_for_the_unknown(fitted, family, learner):
    x = family.test.at(3, 0, 1).query.x[0]
    for label, said in ((0, "a label that is no class, got 0"), ("unknown", "an integer as the classes are")):
        with pytest.raises(il.ConfigError, match=said):
            fitted.predict(x, unknown=label)
    sine = il.maml(il.models.mlp(1, 1), inner_steps=1).adapt(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(il.ConfigError, match="classification task, got regression"):
        sine.predict(torch.zeros(2, 1), unknown=-1)
    with pytest.raises(il.ConfigError, match="classification task, got regression"):
        il.calibrate(sine, family.valid)


def test_too_few_classes_to_hold_some_out(fitted, learner):
    x, y = blobs(12, 6, 1)
    few = il.tasks.from_arrays(x, y, ways=2, valid_classes=2, test_classes=2)
    with pytest.raises(il.InputError, match="the validation split of 'arrays' has two classes only"):
        il.calibrate(fitted, few.valid)
    found = calibration.expectation(learner, few.valid, 4, 3, num_tasks=10)
    assert (found.ways, found.shots, found.threshold) == (2, 3, None) and found.mean > 0.8


def test_fewer_classes_than_asked_are_said(learner, family):
    found = calibration.expectation(learner, family.valid, 30, 40, num_tasks=4)
    assert found.threshold is not None and found.ways == 24  # of 25, one is held out
    assert found.shots == 11  # of 12, one is asked


def test_the_accuracy_is_that_of_evaluate(learner, family):
    """Queries of classes that are not shown change nothing about the others."""
    found = calibration.expectation(learner, family.valid, 4, 2, num_tasks=100)
    report = il.evaluate(learner, family.valid.resized(4, 2, 3), num_tasks=100, seed=5)
    assert found.mean == pytest.approx(report.mean, abs=2 * (found.ci95 + report.ci95))


def test_the_area_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    known, unknown = (torch.randint(5, (n,), generator=generator).double() for n in (40, 30))
    expected = roc_auc_score([1] * 40 + [0] * 30, torch.cat([known, unknown]))
    assert calibration.area(known, unknown) == pytest.approx(expected)


def test_scores_of_known_inputs_are_large():
    sure, unsure = (
        torch.tensor([[9.0, 0.0, 50.0]]),
        torch.tensor([[0.1, 0.0, 50.0]]),
    )  # the third is no class of the task
    for score in SCORES.values():
        assert score(sure, 2) > score(unsure, 2)


def test_classes_that_are_not_shown_leave_the_support_set():
    x = torch.arange(12.0).reshape(1, 6, 2)
    y = torch.tensor([[2, 0, 1, 0, 2, 1]])
    task = il.Task(il.Examples(x, y), il.Examples(x, y), class_ids=torch.tensor([[7, 8, 9]]))
    found = calibration.without_classes(task, 2)
    assert found.support.y.tolist() == [[0, 1, 0, 1]] and found.class_ids.tolist() == [[7, 8]]
    assert torch.equal(found.support.x[0], x[0, [1, 2, 3, 5]]) and found.query.x.shape == x.shape
    mask = torch.tensor([[True, True, True, True, True, False]])
    padded = calibration.without_classes(dataclasses.replace(task, support=il.Examples(x, y, mask)), 2)
    assert padded.support.mask.tolist() == [[False, True, True, True, False, False]]


# ---- unknown inputs are offered where they can be told -----------------------------------------------------------
def test_it_is_offered_from_the_least_area_on(fitted):
    limit = fitted.threshold
    assert limit.works and not dataclasses.replace(limit, auroc=0.7499).works
    assert dataclasses.replace(limit, auroc=0.75).works


def test_a_learner_that_cannot_tell_says_so(family):
    torch.manual_seed(0)
    net = il.models.mlp(6, 6, hidden=())
    with torch.no_grad():  # one of six numbers is seen
        for p in net.parameters():
            p.mul_(0)
        net.get_parameter("head.weight" if "head.weight" in dict(net.named_parameters()) else "0.weight")[0, 0] = 1
    task = family.test.at(0, 0, 1)
    with pytest.warns(il.InnerloopWarning, match="cannot tell unknown inputs from known ones"):
        blind = il.calibrate(il.protonet(net).adapt(task.support.x[0], task.support.y[0]), family.valid)
    assert not blind.threshold.works and blind.threshold.auroc < 0.75
    with pytest.warns(il.InnerloopWarning, match=f"AUROC {blind.threshold.auroc:.2f} on 50 validation tasks"):
        said = blind.predict(task.query.x[0], unknown=-1)
    known = blind.knows(blind.outputs(task.query.x[0]))
    assert torch.equal(said == -1, ~known)  # as before, where somebody wants it nevertheless


def test_calibration_is_measured_with_it(learner, family, fitted):
    found = calibration.expectation(learner, family.valid, 4, 2, num_tasks=100)
    report = il.evaluate(learner, family.valid.resized(4, 2, 3), num_tasks=100, seed=5, transductive=False)
    assert fitted.threshold.ece == found.ece and 0 < found.ece < 0.5
    assert found.ece == pytest.approx(report.ece, abs=0.03)  # other tasks of the same kind
    old = fitted.threshold.to_dict()
    del old["ece"]
    assert Threshold.from_dict({**old, "version": 1}) == dataclasses.replace(fitted.threshold, ece=None)
