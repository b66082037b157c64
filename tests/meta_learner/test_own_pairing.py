"""A pairing of one's own goes through everything that ours go through; files ask for its parts again."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import innerloop as il


@dataclasses.dataclass(frozen=True)
class Halved(il.UpdateRule):
    """Gradient descent whose rate halves at each step."""

    lr: float

    def init(self, meta, params):
        return ()

    def update(self, meta, grads, state, params, *, loss, step):
        return {name: p - self.lr / 2**step * grads[name] for name, p in params.items()}, state


def paired(steps: int = 2, seed: int = 0, **options) -> il.MetaLearner:
    torch.manual_seed(seed)
    return il.MetaLearner.of(
        il.models.mlp(1, 1, hidden=(8,)),
        rule=Halved(0.1),
        learner=lambda pure, rule: il.learners.GradientLearner(pure, rule, inner_steps=steps),
        meta_gradient=il.meta_gradients.Backprop,
        **options,
    )


def with_rule(seed: int = 0, **options) -> il.MetaLearner:
    torch.manual_seed(seed)
    return il.maml(il.models.mlp(1, 1, hidden=(8,)), inner_optimizer=Halved(0.1), inner_steps=2, **options)


MADE = {"pairing": paired, "rule": with_rule}
SETTINGS = {"steps": 6, "validate_every": 3, "valid_tasks": 5, "checkpoint_every": 3, "num_tasks": 4, "quiet": True}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_it_trains_saves_loads_and_evaluates(make, tmp_path):
    tasks, whole, run = il.tasks.sinusoid(), make(), tmp_path / "whole"
    il.fit(whole, tasks, out=run, **SETTINGS)
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), make().parameters(), strict=True))

    given = make(seed=5)
    before = [p.detach().clone() for p in given.parameters()]
    again = il.load(run, learner=given)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), before, strict=True))  # only a copy was filled
    first, second = (il.evaluate(one, tasks.test, num_tasks=5) for one in (whole, again))
    assert first.per_task == second.per_task and first.config["algorithm"] == whole.method_spec

    x, y = torch.linspace(-1, 1, 5)[:, None], torch.linspace(0, 1, 5)[:, None]
    file = whole.adapt(x, y).save(tmp_path / "task.il")
    assert torch.equal(il.load(file, learner=make(seed=5)).predict(x), whole.adapt(x, y).predict(x))
    for path in (run, file):
        with pytest.raises(il.CheckpointError, match=r"parts of your own, .*Halved.*il\.load\(path, learner="):
            il.load(path)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_it_resumes_to_the_last_bit(make, tmp_path, monkeypatch):
    from innerloop.training.checkpoint import RunDirectory

    tasks, whole = il.tasks.sinusoid(), make()
    il.fit(whole, tasks, out=tmp_path / "whole", **SETTINGS)
    save = RunDirectory.save

    def save_and_stop(*args):
        save(*args)
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RunDirectory, "save", save_and_stop)
        il.fit(make(), tasks, out=tmp_path / "cut", **SETTINGS)
    resumed = make(seed=9)
    assert il.fit(resumed, tasks, out=tmp_path / "cut", resume=True, **SETTINGS).steps == SETTINGS["steps"]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_the_doctor_examines_it(make):
    found = il.check_meta_gradient(make(), il.tasks.sinusoid().train.at(0, 0, 2))
    assert found.ok, found


def test_the_rules_own_steps_are_taken():
    """Two steps of rates 0.1 and 0.05, by hand."""
    learner = paired()
    task = il.tasks.sinusoid().train.at(0, 0, 1)
    params = [p.detach().clone().requires_grad_() for p in learner.model.parameters()]
    names = [name for name, _ in learner.model.named_parameters()]
    for rate in (0.1, 0.05):
        out = torch.func.functional_call(learner.model, dict(zip(names, params, strict=True)), (task.support.x[0],))
        grads = torch.autograd.grad(torch.nn.functional.mse_loss(out, task.support.y[0]), params)
        params = [(p - rate * g).detach().requires_grad_() for p, g in zip(params, grads, strict=True)]
    out = torch.func.functional_call(learner.model, dict(zip(names, params, strict=True)), (task.query.x[0],))
    assert torch.allclose(learner.predict_queries(task)[0], out, atol=1e-5)
    assert torch.equal(with_rule().predict_queries(task), learner.predict_queries(task))


def test_a_learner_made_otherwise_is_refused(tmp_path):
    il.fit(with_rule(), il.tasks.sinusoid(), out=tmp_path / "run", **SETTINGS)
    torch.manual_seed(0)
    other = il.maml(il.models.mlp(1, 1, hidden=(8,)), inner_optimizer=Halved(0.1), inner_steps=3)
    with pytest.raises(il.CheckpointError, match="expected a learner with inner_steps 2, got one with 3"):
        il.load(tmp_path / "run", learner=other)
    with pytest.raises(
        il.CheckpointError,
        match="expected a learner with parts None, got one with 'GradientLearner x Halved x Backprop'",
    ):
        il.load(tmp_path / "run", learner=paired(name="maml"))
    with pytest.raises(il.ConfigError, match="expected a MetaLearner"):
        il.load(tmp_path / "run", learner=Halved(0.1))  # type: ignore[arg-type]


def test_the_defaults_of_a_gradient_learner():
    """All parameters that train, and as many steps on a new task."""
    model = il.models.mlp(1, 1, hidden=(8,))
    model.head.bias.requires_grad_(False)
    learner = il.MetaLearner.of(
        model,
        rule=il.rules.SGD(0.1),
        learner=lambda pure, rule: il.learners.GradientLearner(pure, rule, inner_steps=3),
        meta_gradient=il.meta_gradients.Backprop,
    )
    assert learner.eval_steps == 3 and "head.bias" not in learner.learner.adapted
    assert len(learner.learner.adapted) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rule": "sgd"}, "rule expected an il.UpdateRule"),
        ({"learner": lambda pure, rule: rule}, r"learner\(pure_model, rule\) expected to return an il.BaseLearner"),
        (
            {"meta_gradient": lambda learner, engine: learner},
            "expected to return an il.MetaGradient, got GradientLearner",
        ),
        ({"batch_norm": "per_step"}, "batch_norm expected one of"),
        ({"model": object()}, "expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_paired(wrong, said):
    parts = {
        "model": il.models.mlp(1, 1),
        "rule": Halved(0.1),
        "learner": il.learners.GradientLearner,
        "meta_gradient": il.meta_gradients.Backprop,
    }
    with pytest.raises(il.ConfigError, match=said):
        il.MetaLearner.of(**{**parts, **wrong})


def test_a_word_is_no_rule():
    with pytest.raises(il.ConfigError, match="inner_optimizer expected one of sgd, momentum, adam"):
        il.maml(il.models.mlp(1, 1), inner_optimizer="custom:Halved")  # type: ignore[arg-type]


def test_the_learners_own_loss_is_the_pairings():
    loss = torch.nn.functional.l1_loss
    learner = il.MetaLearner.of(
        il.models.mlp(1, 1),
        rule=Halved(0.1),
        learner=lambda pure, rule: il.learners.GradientLearner(pure, rule, loss=loss),
        meta_gradient=il.meta_gradients.Backprop,
    )
    assert learner.loss is loss


@pytest.mark.parametrize(("part", "word"), [("algorithm", "os:system"), ("model", "trap:net")])
def test_a_task_file_from_a_stranger_imports_nothing(part, word, tmp_path, monkeypatch):
    from innerloop.storage import load_tensors, save_tensors

    (tmp_path / "trap.py").write_text("raise SystemExit('the trap was imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    x = torch.linspace(-1, 1, 5)[:, None]
    file = il.maml(il.models.mlp(1, 1)).adapt(x, x).save(tmp_path / "task.il")
    tensors, header = load_tensors(file, "innerloop-task", 1)
    header[part]["name"] = word
    save_tensors(file, "innerloop-task", 1, tensors, header)
    with pytest.raises(il.CheckpointError, match=f"{word}.*not here"):
        il.load(file)


# ---- what a learner says it can do ---------------------------------------------------------------------------------
class Wrapped(il.BaseLearner):
    """Somebody's learner that holds a gradient learner and is none: it answers for it, and says so."""

    adapts_by_gradients = True

    def __init__(self, held) -> None:
        self.held = held

    def __getattr__(self, name):
        return getattr(self.held, name)

    def init(self, meta, task):
        return self.held.init(meta, task)

    def step(self, meta, fast, batch, i):
        return self.held.step(meta, fast, batch, i)

    def predict(self, meta, fast, x, mask=None):
        return self.held.predict(meta, fast, x, mask)


class Declares(Wrapped):
    judged_at_end = True


def refused(estimator, learner) -> str:
    try:
        estimator.check(estimator, learner)
    except il.ConfigError as error:
        return str(error)
    return ""


def test_what_a_learner_declares_counts_and_not_its_class():
    pure = il.maml(il.models.mlp(1, 1), inner_lr=0.1).pure
    plain = il.learners.GradientLearner(pure, il.rules.SGD(0.1))
    pes, truncated, implicit = (getattr(il.meta_gradients, name) for name in ("PES", "Truncated", "Implicit"))
    assert "judged at their end" in refused(pes, Wrapped(plain)) and not refused(pes, Declares(plain))
    assert not refused(pes, plain) and not refused(truncated, plain)
    assert "proximal" in refused(implicit, plain)
    assert not refused(implicit, il.learners.ProximalLearner(pure, il.rules.SGD(0.1)))

    class OtherSteps(il.learners.GradientLearner):
        def step(self, meta, fast, batch, i):
            return super().step(meta, fast, batch, i)

    class StillTruncates(OtherSteps):
        truncates = True

    assert "expected a learner that adapts by gradient steps" in refused(truncated, OtherSteps(pure, il.rules.SGD(0.1)))
    assert not refused(truncated, StillTruncates(pure, il.rules.SGD(0.1)))


def test_a_learner_that_goes_out_for_data_is_seen_to_without_a_word():
    class GoesOut(il.learners.GradientLearner):
        def experience(self, meta, tasks, key):
            return tasks

    class AsTheyCome(GoesOut):
        gathers = False

    pure = il.maml(il.models.mlp(1, 1), inner_lr=0.1).pure
    made = [kind(pure, il.rules.SGD(0.1)).gathers for kind in (il.learners.GradientLearner, GoesOut, AsTheyCome)]
    assert made == [False, True, False]
