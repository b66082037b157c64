"""Values that are not finite are errors everywhere, and nothing is spoiled by them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.evaluation.evaluate import as_dict


def diverging(steps=5):
    torch.manual_seed(0)
    return il.maml(il.models.mlp(1, 1), inner_lr=1e6, inner_steps=steps)


def test_backward_leaves_the_learner_as_it_was():
    learner, batch = diverging(), il.tasks.sinusoid().train.at(0, 0, 4)
    with pytest.raises(il.DivergedError, match="at outer step 0"):
        learner.backward(batch)
    assert all(p.grad is None for p in learner.parameters())
    assert learner.outer_step == 0


def test_adapting_and_predicting():
    batch = il.tasks.sinusoid().test.at(0, 0, 1)
    x, y = batch.support.x[0], batch.support.y[0]
    with pytest.raises(il.DivergedError, match="adapting for 30 steps"):
        diverging().adapt(x, y, steps=30)
    with pytest.raises(il.DivergedError, match="not finite"):
        il.maml(il.models.mlp(4, 2), inner_lr=1e30, inner_steps=30).adapt(torch.randn(4, 4), ["a", "b", "a", "b"])


def test_evaluation_says_how_many_tasks_diverged():
    test = il.tasks.sinusoid().test
    with pytest.raises(il.DivergedError, match="10 of 10 tasks"):
        il.evaluate(diverging(), test, num_tasks=10, steps=30)
    report = il.evaluate(diverging(), test, num_tasks=10, steps=30, allow_diverged=True)
    assert not math.isfinite(report.mean)
    assert as_dict(report)["mean"] is None


def test_a_run_that_diverged_at_once_leaves_the_place_free(tmp_path):
    with pytest.raises(il.DivergedError, match="no checkpoint was written"):
        il.fit(diverging(), il.tasks.sinusoid(), steps=2, validate_every=0, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_loss_modules_are_checked_like_their_functions():
    x = torch.randn(2, 4, 1)
    task = il.Task(support=il.Examples(x, x), query=il.Examples(x, x))
    with pytest.raises(il.ShapeError, match="expected equal shapes"):
        il.maml(il.models.mlp(1, 3), loss=nn.MSELoss()).backward(task)
    assert il.maml(il.models.mlp(1, 1), loss=nn.MSELoss()).options["loss"] == "torch.mse_loss"
    kept = il.maml(il.models.mlp(1, 1), loss=nn.SmoothL1Loss(beta=0.5))
    assert kept.options["loss"].startswith("custom:")


def test_own_cross_entropy_keeps_the_checks_and_the_accuracy():
    x = torch.randn(2, 6, 4)
    y = torch.arange(6).expand(2, -1) % 3
    for loss in (nn.CrossEntropyLoss(), lambda p, t: nn.functional.cross_entropy(p, t)):
        learner = il.maml(il.models.mlp(4, 3), loss=loss)
        assert "accuracy" in learner.backward(il.Task(support=il.Examples(x, y), query=il.Examples(x, y)))
        with pytest.raises(il.InputError, match="labels expected 0 to 2"):
            learner.backward(il.Task(support=il.Examples(x, y + 2), query=il.Examples(x, y)))


def test_types_that_cannot_be():
    tasks = il.tasks.sinusoid()
    learner = il.maml(il.models.mlp(1, 1))
    with pytest.raises(il.InputError, match="one split such as"):
        il.evaluate(learner, tasks)
    with pytest.raises(il.InputError, match="a family of tasks"):
        il.fit(learner, tasks.train)
    with pytest.raises(il.ConfigError, match="by label"):
        il.compare([learner], tasks.test)
    with pytest.raises(il.ConfigError, match="steps expected an integer"):
        il.fit(learner, tasks, steps=2.5)
    with pytest.raises(il.ConfigError, match=r"maml: .*expected il\.maml"):
        il.maml(il.models.mlp(1, 1), 0.1)
    with pytest.raises(il.ConfigError, match="conv4 has no argument 'channels'"):
        il.models.conv4((1, 28, 28), 5, channels=8)


def test_an_atomic_write_replaces_files_only(tmp_path):
    import os

    from innerloop.storage import write_atomically

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(il.InputError, match="no regular file"):
        write_atomically(tmp_path / "pipe", b"x")
    with pytest.raises(il.InputError, match="a folder"):
        write_atomically(tmp_path, b"x")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"
    with pytest.raises(il.InputError, match="a file there"):
        write_atomically(tmp_path / "file" / "below", b"x")
