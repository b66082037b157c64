"""Learned schedules and optimizers: their gradients, their runs, what they are as optimizers of torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Meta
from innerloop.engine.gradient import value_gradient
from innerloop.errors import ConfigError, DivergedError, InnerloopWarning
from innerloop.evaluation.optimizer_sweep import run_jobs, run_torch
from innerloop.learners.training_runs import TrainingRuns
from innerloop.rules.tuned import Tuned

KINDS = ("mlp", "lstm", "rnnprop", "schedule")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def data(rows: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
    return x, (x[:, 0] > 0).long()


def jobs(horizon=6, **options):
    return il.tasks.training_jobs(
        options.pop("make_model", net), data(), **{"batch": 8, "horizon": horizon, "queries": 10, **options}
    )


def learner(kind: str, **options):
    torch.manual_seed(1)
    if kind == "schedule":
        return il.learned_schedule("adam", learn=["lr", "betas", "weight_decay"], **options)
    return il.learned_optimizer(kind, hidden=3, **options)


def row(found) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in found.parameters()])


# ---- gradients -----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("base", ["sgd", "momentum", "adam"])
def test_full_backprop_of_a_schedule_is_the_slope(base):
    words = {"sgd": ["lr", "weight_decay"], "momentum": ["lr", "momentum"], "adam": ["lr", "betas", "weight_decay"]}
    found, batch = il.learned_schedule(base, learn=words[base], weight_decay=0.1), jobs().train.at(0, 0, 3)
    found.backward(batch)
    for name, p in found.model.named_parameters():
        for at in ((0, 0), (2, 1), (5, 3)):
            ends = []
            for by in (1e-5, -1e-5):
                with torch.no_grad():
                    p[at] += by
                    meta, ready = found.meta(), found.ready(batch, 0)
                    ends.append(torch.vmap(lambda t, meta=meta: found.learner.meta_loss(meta, t, 0)[0])(ready).mean())
                    p[at] -= by
            slope = float(ends[0] - ends[1]) / 2e-5
            assert float(p.grad[at]) == pytest.approx(slope, rel=1e-5, abs=1e-9), (name, at)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", ["mlp", "lstm", "rnnprop"])
def test_full_backprop_of_a_learned_rule_is_the_slope(kind):
    """Without ``first_order`` nothing is dropped, what the rule is shown included; with it something is."""
    found, short = (learner(kind, estimate="backprop", first_order=first, scale=0.3) for first in (False, True))
    batch = jobs().train.at(0, 0, 3)
    with torch.no_grad():  # biases begin at 0, where a unit that nothing reaches has a kink
        for p, q in zip(found.parameters(), short.parameters(), strict=True):
            p += 0.1 * torch.randn(p.shape)
            q.copy_(p)
    found.backward(batch)
    short.backward(batch)
    assert not torch.allclose(row(found), row(short), rtol=1e-6)  # these runs are short: not by much
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        along = [torch.randn(p.shape, generator=generator) for p in found.model.parameters()]
        ends = []
        for by in (1e-6, -2e-6, 1e-6):
            with torch.no_grad():
                for p, d in zip(found.model.parameters(), along, strict=True):
                    p += by * d
                meta, ready = found.meta(), found.ready(batch, 0)
                ends.append(torch.vmap(lambda t, meta=meta: found.learner.meta_loss(meta, t, 0)[0])(ready).mean())
        slope = torch.cat([d.reshape(-1) for d in along]) @ row(found)
        assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-4)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_part_of_runs_has_their_gradient(kind):
    """Parts as long as the runs are the runs; batched is looped."""
    batch = jobs().train.at(0, 0, 4)
    whole = learner(kind, estimate="backprop", first_order=True)
    whole.backward(batch)
    for strategy in ("vmapped", "looped"):
        parts = learner(kind, estimate="unrolled", truncation=6, first_order=True)
        parts.strategy = strategy
        parts.backward(batch)
        torch.testing.assert_close(row(parts), row(whole), rtol=1e-9, atol=1e-12)
    assert float(row(whole).norm()) > 0


@pytest.mark.usefixtures("double")
def test_a_gradient_that_is_known_is_the_gradient():
    """The first-order outer gradient does not go through the network; autograd with held inner gradients gives the same."""
    batch, found = jobs().train.at(0, 0, 3), learner("mlp", estimate="backprop", first_order=True)
    found.backward(batch)
    own, ready = found.learner, found.ready(batch, 0)

    def loss_of(meta, task):
        run, losses = own.init(meta, task), []
        for i in range(6):
            examples = own.batch(task, i)
            held = {n: p.detach().requires_grad_() for n, p in run.params.items()}
            grads = torch.autograd.grad(own._loss(run, held, examples, i), list(held.values()))
            if i:
                losses.append(own._loss(run, run.params, examples, i))
            params, state = own.rule.update(
                meta.params, dict(zip(held, grads, strict=True)), run.state, run.params, loss=torch.zeros(()), step=i
            )
            run = type(run)(params, state, run.total, run.taken, run.noise, run.objective)
        losses.append(own._loss(run, run.params, own.batch(task, 6), 6))
        return torch.stack(losses).mean()

    from innerloop.engine import take

    def mean(meta):
        return torch.stack([loss_of(meta, take(ready, i)) for i in range(3)]).mean(), None

    params, _, _ = value_gradient(mean, found.meta())
    torch.testing.assert_close(row(found), torch.cat([g.reshape(-1) for g in params.values()]), rtol=1e-8, atol=1e-12)


def test_runs_go_on_where_they_were_and_make_way_when_they_are_over():
    found, train = learner("mlp", estimate="unrolled", truncation=2), jobs(horizon=6).train
    leaves, ended = [], []
    for step in range(8):
        found.backward(train.at(0, step, 5))
        integers = [v for v in found.carry.values() if v.dtype == torch.int64 and v.ndim == 1]
        leaves.append(torch.stack([v.clone() for v in integers]))
        ended.append(found.carry["0/ended"].clone())
    assert len({int(e.sum()) for e in ended}) > 1  # they do not end together
    assert sum(int(e.sum()) for e in ended) >= 5 * 2
    # Two steps further each time, from the beginning where the one before was over.
    goes_on = [n == torch.where(over, 0, m) + 2 for m, n, over in zip(leaves, leaves[1:], ended, strict=False)]
    places = torch.stack(goes_on).all(0).all(1)
    assert int(places.sum()) == 2  # the count of the part and that of the run
    assert int(torch.stack(leaves)[:, places].max()) == 6
    with pytest.raises(il.InputError, match="under way"):
        found.backward(train.at(0, 9, 4))


@pytest.mark.usefixtures("double")
def test_pes_is_unbiased_through_parts():
    """Over whole runs the mean of its estimates is the gradient of the mean loss along the run; truncated backprop's is not."""
    family = jobs(horizon=6)

    def mean_of(estimate: str, calls: int, **options) -> tuple[Tensor, Tensor]:
        found = il.learned_schedule("sgd", learn=["lr"], per=[], lr=0.3, estimate=estimate, truncation=2, **options)
        kept = []
        for step in range(calls):
            found.zero_grad()
            found.backward(family.train.at(0, step % 3, 40))
            kept.append(row(found).clone())
        every = torch.stack(kept[6:])
        return every.mean(0), every.std(0) / len(every) ** 0.5

    exact = il.learned_schedule("sgd", learn=["lr"], per=[], lr=0.3, estimate="backprop")
    exact.zero_grad()
    batch = [family.train.at(0, step, 40) for step in range(3)]
    for one in batch:
        exact.backward(one)
    wanted = row(exact) / 3
    found, error = mean_of("pes", 96, sigma=0.05, num_pairs=2)
    assert float((found - wanted).abs()) < 4 * float(error) + 0.02 * float(wanted.abs())
    assert float(error) < 0.1 * float(wanted.abs())
    truncated, _ = mean_of("unrolled", 18)
    assert float((truncated - wanted).abs()) > 0.2 * float(wanted.abs())


# ---- runs ----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.1)),
    ],
)
def test_baselines_are_torchs(name, make):
    """All jobs and rates at once, and torch's own optimizer job by job."""
    split = jobs(horizon=8).test
    which = {"num_jobs": 3, "seed": 0, "steps": 8}
    ours = run_jobs(
        TrainingRuns(Tuned(name)), Meta({"lr": torch.tensor([0.1, 0.2])}, {}, {}), split, several=2, **which
    )
    theirs = run_torch(make, split, **which)
    torch.testing.assert_close(ours[0].losses, theirs.losses, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours[0].end, theirs.end, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours[0].curve, theirs.losses.mean(1).to(ours[0].curve), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(ours[0].losses, ours[1].losses)


def test_evaluation_reports_the_end_and_the_curve_over_the_jobs_own_length():
    found = learner("mlp")
    report = il.evaluate(found, jobs(horizon=7).test, num_tasks=4)
    own = run_jobs(found.learner, found.meta(), jobs(horizon=7).test, num_jobs=4, seed=0, steps=7)[0]
    assert report.metric == "end" and set(report.metrics) == {"end", "curve", "accuracy"}
    assert report.mean == pytest.approx(float(own.end.mean()), rel=1e-5)
    assert report.metrics["curve"].mean == pytest.approx(float(own.losses.mean()), rel=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "schedule"])
def test_a_run_is_stored_and_resumed(kind, tmp_path):
    made = {"estimate": "unrolled", "truncation": 2}
    whole, parts = learner(kind, **made), learner(kind, **made)
    settings = {"num_tasks": 4, "valid_tasks": 4, "validate_every": 2, "quiet": True}
    il.fit(whole, jobs(), steps=6, **settings)
    il.fit(parts, jobs(), steps=4, out=tmp_path / "run", **settings)
    again = il.load(tmp_path / "run")
    assert again.method_spec == parts.method_spec and type(again) is type(parts)
    for a, b in zip(again.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    if kind == "schedule":
        assert again.tensors == ((4, 3), (4,), (2, 4), (2,)) and again.values()["lr"].shape == (6, 4)


def test_a_schedule_learns():
    """From a rate that is too low; what it then reaches is better than before, on runs that it has not seen."""
    family = jobs(horizon=10)
    found = il.learned_schedule("sgd", learn=["lr"], per=["step"], lr=0.01)
    before = il.evaluate(found, family.test, num_tasks=20).mean
    il.fit(found, family, steps=40, num_tasks=8, valid_tasks=8, outer_lr=0.2, quiet=True)
    after = il.evaluate(found, family.test, num_tasks=20).mean
    assert after < 0.8 * before
    assert float(found.values()["lr"].min()) > 0


@pytest.mark.parametrize("kind", ["mlp", "lstm", "rnnprop"])
def test_an_optimizer_learns(kind):
    family = jobs(horizon=10)
    found = learner(kind, truncation=5)
    before = il.evaluate(found, family.test, num_tasks=20).metrics["curve"].mean
    il.fit(found, family, steps=60, num_tasks=8, valid_tasks=8, valid_metric="curve", outer_lr=0.03, quiet=True)
    assert il.evaluate(found, family.test, num_tasks=20).metrics["curve"].mean < 0.9 * before


def test_several_networks_are_taken_in_turn():
    wide = lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))  # noqa: E731
    family = il.tasks.training_jobs([net, wide], data(), batch=8, horizon=6)
    found = learner("mlp", truncation=2)
    for step, batch in zip(range(4), family.train.batches(3), strict=False):
        assert batch.support.weights["0.weight"].shape[1] == (6 if step % 2 else 4)
        found.backward(batch)
    assert {name.split("/")[0] for name in found.carry} == {"0", "1"}


def test_a_validation_is_of_all_networks():
    """A report of a family of two networks has the runs of both, each as in the family of that network alone."""
    wide = lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))  # noqa: E731
    both, found = jobs(make_model=[net, wide]), learner("mlp")
    report = il.evaluate(found, both.valid, num_tasks=10, seed=3)
    alone = [il.evaluate(found, jobs(make_model=one).valid, num_tasks=10, seed=3).per_task for one in (net, wide)]
    expected = [*alone[0][:4], *alone[1][4:8], *alone[0][8:]]
    assert report.per_task == pytest.approx(expected, rel=1e-5) and alone[0][4:8] != pytest.approx(
        expected[4:8], rel=1e-3
    )
    assert report.mean == pytest.approx(sum(expected) / 10, rel=1e-5)
    with pytest.raises(ConfigError, match="one network"):
        both.valid.at(3, 0, 5)
    best = il.which_optimizer(both, optimizers=["sgd"], num_valid=8, num_test=6)
    assert best.swept["sgd"].test.end.shape == (6,)


def test_other_tasks_and_arguments_are_refused():
    with pytest.raises(ConfigError, match="training jobs"):
        learner("mlp").backward(il.tasks.sinusoid().train.at(0, 0, 2))
    with pytest.raises(ConfigError, match="learned optimizer"):
        il.maml(net(), inner_lr=0.1).backward(jobs().train.at(0, 0, 2))
    with pytest.raises(ConfigError, match=r"il.Optimizer"):
        learner("mlp").adapt(torch.ones(2, 3), torch.ones(2))
    for make, said in (
        (lambda: il.learned_optimizer("mpl"), "did you mean 'mlp'"),
        (lambda: il.learned_optimizer(estimate="pse"), "did you mean"),
        (lambda: il.learned_optimizer(truncation=0), "truncation"),
        (lambda: il.learned_optimizer(goal="both"), "goal"),
        (lambda: il.learned_optimizer(scale=0.0), "scale"),
        (lambda: il.learned_schedule("adma"), "did you mean 'adam'"),
        (lambda: il.learned_schedule(learn=["momentum"]), "momentum"),
        (lambda: il.learned_schedule(learn="lr"), "list"),
        (lambda: il.learned_schedule(per=["layer"]), "per"),
        (lambda: il.learned_schedule(betas=(0.9, 1.0)), "betas"),
        (lambda: il.learned_schedule(floor=0), "floor"),
        (lambda: il.learned_schedule(rows=3), "together"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()


# ---- as an optimizer of torch --------------------------------------------------------------------------------------
def trained(kind: str, horizon: int = 6):
    """A learner that has met its jobs, and a schedule with a value of its own in every place."""
    found = learner(kind)
    found.check(jobs(horizon=horizon).train.at(0, 0, 2))
    with torch.no_grad():
        for i, p in enumerate(found.parameters()):
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64).to(p)
    return found


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_a_network_as_in_meta_training(kind):
    found, split = trained(kind), jobs().test
    task = found.ready(split.at(0, 0, 1), 0)
    own = run_jobs(found.learner, found.meta(), split, num_jobs=1, seed=0, steps=6)[0]
    model = net()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(task.support.weights[name][0])
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    optimizer, seen = il.Optimizer(found, groups, num_steps=6), []
    one = torch.utils._pytree.tree_map(lambda v: v[0], task)
    for i in range(6):
        examples = task.objective.examples_at(one, i)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(examples.x), examples.y)
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())
    torch.testing.assert_close(torch.stack(seen), own.losses[0].to(seen[0]), rtol=1e-7, atol=1e-9)


def run(optimizer, model, steps, first=0):
    x, y = data()
    for i in range(first, first + steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[i::3]), y[i::3]).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_its_state_goes_on_from_a_file(kind, tmp_path):
    found = trained(kind)
    torch.manual_seed(0)
    model = net()
    other = copy.deepcopy(model)
    whole = il.Optimizer(found, model.parameters(), num_steps=6)
    run(whole, model, 3)
    torch.save({"opt": whole.state_dict(), "model": model.state_dict()}, tmp_path / "half.pt")
    run(whole, model, 3, first=3)
    half = torch.load(tmp_path / "half.pt")
    other.load_state_dict(half["model"])
    again = il.Optimizer(found, other.parameters(), num_steps=6)
    again.load_state_dict(half["opt"])
    run(again, other, 3, first=3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(il.CheckpointError, match="another optimizer"):
        again.load_state_dict(torch.optim.SGD(other.parameters(), lr=0.1).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_and_unused_parameters_stay(kind):
    found, model = trained(kind), net()
    before = [p.clone() for p in model.parameters()]
    optimizer = il.Optimizer(found, model.parameters(), num_steps=6)
    loss = model[0](data()[0]).square().sum()  # the last layer has no part in it
    loss.backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, False]
    if kind != "schedule":
        model[0].weight.requires_grad_(False)
        frozen = model[0].weight.clone()
        run(il.Optimizer(found, model.parameters(), num_steps=6), model, 2)
        assert torch.equal(model[0].weight, frozen)


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = net()
    optimizer = il.Optimizer(learner("mlp"), model.parameters(), num_steps=6)
    run(optimizer, model, 1)
    before = [p.clone() for p in model.parameters()]
    model[2].bias.grad[1] = torch.nan
    with pytest.raises(DivergedError, match=r"parameter 3, of shape \(2,\)"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_steps_beyond_the_run_are_said_once():
    model = net()
    optimizer = il.Optimizer(learner("mlp"), model.parameters(), num_steps=2)
    run(optimizer, model, 2)
    with pytest.warns(InnerloopWarning, match="step 3 of a run of 2") as told:
        run(optimizer, model, 3)
    assert len(told) == 1 and repr(optimizer).endswith("step 5 of 2)")


def test_sparse_gradients_are_those_of_dense_ones():
    ends = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(5, 3, sparse=sparse)
        optimizer = il.Optimizer(learner("mlp"), table.parameters(), num_steps=3)
        for _ in range(3):
            optimizer.zero_grad()
            table(torch.tensor([1, 3, 3])).square().sum().backward()
            optimizer.step()
        ends.append(table.weight.detach().clone())
    assert torch.equal(*ends)


def test_a_closure_a_scheduler_and_groups_work_as_with_torch():
    model = net()
    start = [p.clone() for p in model.parameters()]
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    optimizer = il.Optimizer(learner("mlp"), groups, num_steps=4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    x, y = data()

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    first = float(optimizer.step(closure).detach())
    scheduler.step()
    assert float(optimizer.step(closure).detach()) < first
    moved = [not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True)]
    assert moved == [False, False, True, True]
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.5]
    extra = nn.Linear(2, 2)
    optimizer.add_param_group({"params": extra.parameters()})
    extra(torch.ones(1, 2)).sum().backward()
    optimizer.step()


def test_what_fits_no_network_is_refused():
    schedule = trained("schedule")
    other = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    with pytest.raises(ConfigError, match=r"expected shape \(4, 3\) for tensor 0, got \(5, 3\)"):
        il.Optimizer(schedule, other.parameters(), num_steps=6)
    with pytest.raises(ConfigError, match="4 tensors, got 2"):
        il.Optimizer(schedule, net()[0].parameters(), num_steps=6)
    il.Optimizer(trained("mlp"), other.parameters(), num_steps=6)
    with pytest.raises(ConfigError, match="training before"):
        il.Optimizer(learner("schedule"), net().parameters(), num_steps=6)
    with pytest.raises(ConfigError, match="num_steps"):
        il.Optimizer(learner("mlp"), net().parameters(), num_steps=0)
    with pytest.raises(ConfigError, match="learned optimizer or schedule"):
        il.Optimizer(il.maml(net(), inner_lr=0.1), net().parameters(), num_steps=6)
    with pytest.raises(ConfigError, match="expected the tensors"):
        schedule.backward(il.tasks.quadratic_jobs(horizon=6).train.at(0, 0, 2))
    fits = il.learned_schedule("adam", per=["step"])
    fits.check(jobs().train.at(0, 0, 2))
    il.Optimizer(fits, other.parameters(), num_steps=6)
