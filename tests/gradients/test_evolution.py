"""Evolution strategies: unbiased within their interval, the same however tasks are run, right where truncated ES is not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import innerloop as il
from innerloop import keys
from innerloop.core import Meta, Task
from innerloop.engine import take
from innerloop.engine.gradient import value_gradient
from innerloop.errors import ConfigError, InputError
from innerloop.meta_gradients.perturbations import trials

pytestmark = pytest.mark.usefixtures("double")
STEPS = 4


def problem():
    family = il.tasks.quadratics(dim=2, shots=4, queries=4, noise=0.2)
    torch.manual_seed(3)
    return family.train.at(0, 0, 3), family.train.default_model()


def copies(task: Task, number: int, seed: int) -> Task:
    """One task many times, each with a key of its own."""
    many = torch.utils._pytree.tree_map(lambda v: v[None].expand(number, *v.shape), task)
    return dataclasses.replace(many, noise=torch.arange(number) + 1_000_003 * (seed + 1))


def estimate(learner, tasks) -> Tensor:
    learner.zero_grad()
    learner.backward(tasks)
    return torch.cat([p.grad.reshape(-1) for p in learner.parameters()])


def judged(samples: list[Tensor], exact: Tensor) -> tuple[Tensor, Tensor]:
    """(distance from the exact gradient, standard error), each coordinate in units of the exact gradient's length."""
    found = torch.stack(samples)
    error = found.std(0) / len(samples) ** 0.5
    return (found.mean(0) - exact).abs() / exact.norm(), error / exact.norm()


def test_es_is_unbiased():
    """The loss after inner steps on least squares is a parabola of the initial weights, so smoothing keeps its gradient."""
    tasks, model = problem()
    plain = il.maml(model, inner_lr=0.2, inner_steps=STEPS)
    learner = il.with_meta_gradient(plain, "es", sigma=0.3, num_pairs=2)
    exact = estimate(plain, copies(take(tasks, 0), 1, 0))
    off, error = judged([estimate(learner, copies(take(tasks, 0), 200, k)) for k in range(12)], exact)
    assert bool((off < 4 * error).all()) and bool((error < 0.05).all()), (off, error)


def test_es_by_hand():
    """On least squares a pair of losses gives the slope along its direction exactly: the estimate is the mean of (e.g) e."""
    tasks, model = problem()
    plain = il.maml(model, inner_lr=0.2, inner_steps=STEPS)
    learner = il.with_meta_gradient(plain, "es", sigma=0.3, num_pairs=3)
    total = torch.zeros(2)
    for t in range(3):
        one = take(tasks, slice(t, t + 1))
        exact = estimate(plain, one)
        drawn = trials(one, 3).key
        assert drawn is not None
        for key in drawn:
            e = keys.normal(key, (1, 2), 0, torch.float64).reshape(-1)
            total += (e @ exact) * e / 9
    assert torch.allclose(estimate(learner, tasks), total, rtol=1e-10)


def along_the_way(learner, task: Task, part: int, *, cut: bool = False) -> Tensor:
    """The gradient of the sum of query losses at the end of every ``part`` inner steps, by backpropagation; ``cut``: each part
    sees its own steps alone."""
    one = learner.learner

    def loss(meta: Meta) -> tuple[Tensor, None]:
        fast, total = one.init(meta, task), torch.zeros(())
        for i in range(one.inner_steps):
            if cut and i and i % part == 0:
                fast = dataclasses.replace(fast, params={n: p.detach() for n, p in fast.params.items()})
            fast = one.step(meta, fast, task.support, i)
            if (i + 1) % part == 0 or i + 1 == one.inner_steps:
                total = total + one.query_loss(meta, fast, task)[0]
        return total, None

    params, rule, _ = value_gradient(loss, learner.meta())
    return torch.cat([g.reshape(-1) for g in (*params.values(), *rule.values())])


def whole_loop(learner, tasks, forget: bool = False) -> Tensor:
    """The sum of the estimates of one inner loop's parts; ``forget``: perturbations are not kept from part to part."""
    total = torch.zeros(sum(p.numel() for p in learner.parameters()))
    while True:
        if forget:
            learner.carry = {n: torch.zeros_like(v) if n.startswith("sum/") else v for n, v in learner.carry.items()}
        total = total + estimate(learner, tasks)
        if not learner.carry:
            return total


LOOPS = {
    "learned rates": lambda model: il.meta_sgd(model, rate_low=0.1, rate_high=0.1, inner_steps=STEPS),
    "held near the start": lambda model: il.imaml(model, inner_lr=0.2, inner_steps=STEPS, strength=2.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_pes_is_unbiased_where_truncated_es_is_not(loop, part):
    tasks, model = problem()
    task, plain = take(tasks, 0), LOOPS[loop](model)
    learner = il.with_meta_gradient(plain, "pes", sigma=0.01, num_pairs=2, truncation=part)
    exact, greedy = (along_the_way(plain, task, part, cut=cut) for cut in (False, True))
    off, error = judged([whole_loop(learner, copies(task, 200, k)) for k in range(10)], exact)
    assert bool((off < 4 * error).all()) and bool((error < 0.06).all()), (off, error)
    samples = [whole_loop(learner, copies(task, 200, k), forget=True) for k in range(10)]
    off, error = judged(samples, exact)
    assert bool((off > 8 * error).any()), "truncated ES is biased here, or the test says nothing"
    off, error = judged(samples, greedy)
    assert bool((off < 4 * error * exact.norm() / greedy.norm() + 4 * error).all())


def test_pes_of_one_part_is_es():
    tasks, model = problem()
    plain = il.meta_sgd(model, inner_steps=STEPS)
    settings = {"sigma": 0.05, "num_pairs": 3}
    es = il.with_meta_gradient(plain, "es", **settings)
    for part in (STEPS, STEPS + 2):
        pes = il.with_meta_gradient(plain, "pes", truncation=part, **settings)
        assert torch.allclose(estimate(pes, tasks), estimate(es, tasks), rtol=1e-12) and not pes.carry


def test_pes_goes_on_with_its_tasks():
    tasks, model = problem()
    other = il.tasks.quadratics(dim=2, shots=4, queries=4).train.at(5, 5, 3)
    plain, found = il.meta_sgd(model, inner_steps=5), []
    for second in (tasks, other):
        learner = il.with_meta_gradient(plain, "pes", truncation=2)
        estimate(learner, tasks)
        assert int(learner.carry["step"]) == 2
        found.append(estimate(learner, second))
        assert int(learner.carry["step"]) == 4
        estimate(learner, second)
        assert learner.carry == {}
    assert torch.equal(*found)
    learner = il.with_meta_gradient(plain, "pes", truncation=2)
    estimate(learner, tasks)
    with pytest.raises(InputError, match="inner loop that is under way"):
        masked = [dataclasses.replace(s, mask=torch.ones(3, 4, dtype=torch.bool)) for s in (tasks.support, tasks.query)]
        learner.backward(il.Task(*masked, objective="mse", noise=tasks.noise))


@pytest.mark.parametrize("name", ["es", "pes"])
def test_strategies_chunks_and_parts_of_a_batch_agree(name):
    tasks, model = problem()
    plain = il.meta_sgd(model, inner_steps=STEPS)

    def twice(strategy: str, chunk_size: int | None = None, part: slice = slice(0, 3)) -> Tensor:
        learner = il.with_meta_gradient(plain, name, num_pairs=2)
        learner.strategy, learner.chunk_size = strategy, chunk_size
        return torch.cat([estimate(learner, take(tasks, part)) for _ in range(2)])

    reference = twice("looped")
    for found in (twice("vmapped"), twice("vmapped", 1), twice("vmapped", 4), twice("per_task")):
        assert torch.allclose(found, reference, rtol=1e-9)
    halves = (twice("looped", part=slice(0, 1)) + 2 * twice("vmapped", part=slice(1, 3))) / 3
    assert torch.allclose(halves, reference, rtol=1e-9)


def test_frozen_parameters_are_not_moved():
    torch.manual_seed(0)
    model = il.models.mlp(2, 1, hidden=(3,))
    model.head.weight.requires_grad_(False)
    tasks = il.tasks.quadratics(dim=2).train.at(0, 0, 2)
    learner = il.with_meta_gradient(il.maml(model, inner_steps=2), "es")
    carry, meta = learner.carry, learner.meta()
    found = learner.meta_gradient(carry, meta, learner.ready(tasks, 0), 0, None)
    assert not found.params["head.weight"].any() and found.params["head.bias"].any()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("es", {"sigma": 0.0}, "sigma expected a finite number above 0"),
        ("es", {"num_pairs": 0}, "num_pairs expected"),
        ("pes", {"sigma": float("nan")}, "sigma expected"),
        ("pes", {"truncation": 0}, "truncation expected"),
    ],
)
def test_wrong_settings(name, options, said):
    with pytest.raises(ConfigError, match=said):
        il.with_meta_gradient(il.maml(il.models.mlp(1, 1)), name, **options)


def test_pes_needs_inner_steps_judged_at_their_end():
    for learner in (il.mamlpp(il.models.mlp(1, 1)), il.protonet(il.models.mlp(2, None))):
        with pytest.raises(ConfigError, match="use es"):
            il.with_meta_gradient(learner, "pes")
        il.with_meta_gradient(learner, "es")
