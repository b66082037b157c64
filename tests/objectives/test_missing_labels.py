"""Several labels an example, some of them missing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import innerloop as il
from innerloop.objectives import losses


def some(missing: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    prediction = torch.randn(6, 3, generator=draw, dtype=torch.float64)
    y = (torch.rand(6, 3, generator=draw) < 0.5).double()
    if missing:
        y[0, 1] = y[2, 0] = y[2, 1] = y[2, 2] = torch.nan
    return prediction, y


def test_missing_labels_are_left_out_of_the_loss():
    prediction, y = some()
    there = ~y.isnan()
    by_hand = F.binary_cross_entropy_with_logits(prediction[there], y[there])
    assert float(losses.binary_cross_entropy(prediction, y)) == pytest.approx(float(by_hand), rel=1e-12)
    gradient = torch.func.grad(lambda p: losses.binary_cross_entropy(p, y))(prediction)
    assert torch.equal(gradient != 0, there)
    whole, labels = some(missing=False)
    torch.testing.assert_close(
        losses.binary_cross_entropy(whole, labels), F.binary_cross_entropy_with_logits(whole, labels)
    )


def test_padding_counts_like_missing_labels():
    prediction, y = some()
    mask = torch.tensor([True, True, True, True, False, False])
    padded = losses.objective(losses.binary_cross_entropy, prediction, y, mask)
    torch.testing.assert_close(padded, losses.binary_cross_entropy(prediction[:4], y[:4]))


class Labels(il.TaskDistribution):
    name, objective, input_shape, output_size = "labels", "binary_cross_entropy", (4,), 3

    def __init__(self, split: str, missing: bool = True) -> None:
        self.split, self.missing = split, missing

    def from_keys(self, keys):
        from innerloop import keys as random_keys

        x = random_keys.normal(keys, (24, 4), 1)
        y = (x @ random_keys.normal(keys, (4, 3), 2) > 0).to(x.dtype)
        if self.missing:
            y = torch.where(random_keys.uniform(keys, (24, 3), 3) < 0.3, torch.nan, y)
        sides = [il.Examples(x[:, part], y[:, part]) for part in (slice(0, 12), slice(12, 24))]
        return il.Task(*sides, objective=self.objective, noise=keys)

    def default_model(self):
        return torch.nn.Linear(4, 3)


def test_a_learner_trains_on_them_and_is_judged_by_areas():
    tasks = il.TaskFamily("labels", Labels("train"), Labels("valid"), Labels("test"), {})
    torch.manual_seed(0)
    learner = il.maml(tasks.train.default_model(), inner_lr=1.0, inner_steps=5)
    report = il.evaluate(learner, tasks.test, num_tasks=40, curve_steps=5, metric="roc_auc")
    assert report.curve[0] < 0.6 and report.curve[-1] > 0.75, report.curve
    both = il.evaluate(learner, tasks.test, num_tasks=40)
    assert both.metric == "accuracy" and {"accuracy", "f1", "roc_auc", "average_precision", "delta_auprc"} == set(
        both.metrics
    )
    assert both.metrics["roc_auc"].mean == pytest.approx(report.mean)
    assert all(p.grad is None for p in learner.parameters())
    learner.backward(tasks.train.at(0, 0, 4))
    assert all(bool(torch.isfinite(p.grad).all()) for p in learner.parameters())


def test_a_missing_value_of_a_regression_is_still_refused():
    batch = Labels("train").at(0, 0, 2)
    with pytest.raises(il.InputError, match=r"support\.y expected finite numbers"):
        il.maml(torch.nn.Linear(4, 3)).backward(il.Task(batch.support, batch.query, objective="mse"))


def test_the_learners_own_loss_says_it_too():
    """Tasks without an objective of their own; torch's function, which knows no missing labels, is refused."""
    batch = Labels("train").at(0, 0, 2)
    bare = il.Task(batch.support, batch.query)
    learner = il.maml(torch.nn.Linear(4, 3), loss="binary_cross_entropy")
    assert float(learner.backward(bare)["loss"]) > 0
    with pytest.raises(il.InputError, match=r"support\.y expected finite numbers"):
        il.maml(torch.nn.Linear(4, 3), loss=F.binary_cross_entropy_with_logits).backward(bare)

    class Bare(Labels):
        def from_keys(self, keys):
            task = super().from_keys(keys)
            return il.Task(task.support, task.query, noise=task.noise)

    report = il.evaluate(learner, Bare("test"), num_tasks=10, metric="accuracy")
    assert report.mean == il.evaluate(learner, Labels("test"), num_tasks=10, metric="accuracy").mean
