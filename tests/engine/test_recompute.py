"""Inner loops computed again in the backward pass: the same gradients, and memory that hardly grows with the steps."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop.engine import recompute, take
from innerloop.engine.gradient import batch_loss, gradient, value_gradient
from innerloop.engine.memory import gradient_step, peak_bytes
from innerloop.engine.recompute import computed_again, recomputing, segment_lengths
from innerloop.functional import inner_gradient
from innerloop.functional.convolutions import per_task_convolutions


class _DrawsByItself(nn.Module):
    """Dropout that innerloop cannot see, from torch's own generator."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x * torch.rand_like(x))


def with_norm_and_dropout():
    return nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def with_batches(learner, size):
    learner.learner = dataclasses.replace(learner.learner, inner_batch=size)
    return learner


LEARNERS = {
    "sgd": lambda steps: il.maml(il.models.mlp(1, 1, hidden=(8,)), inner_lr=0.05, inner_steps=steps),
    "adam": lambda steps: il.maml(
        il.models.mlp(1, 1, hidden=(8,)), inner_lr=0.01, inner_steps=steps, inner_optimizer="adam"
    ),
    "drawn batches": lambda steps: with_batches(LEARNERS["sgd"](steps), 3),
    "first order": lambda steps: il.fomaml(il.models.mlp(1, 1, hidden=(8,)), inner_lr=0.05, inner_steps=steps),
    "learned rates": lambda steps: il.meta_sgd(il.models.mlp(1, 1, hidden=(8,)), inner_steps=steps),
    "shared parameters": lambda steps: il.anil(il.models.mlp(1, 1, hidden=(8,)), inner_lr=0.05, inner_steps=steps),
    "buffers, noise, every step judged": lambda steps: il.mamlpp(with_norm_and_dropout(), inner_steps=steps),
}


def found(learner, tasks, how, wanted):
    """Everything that a backward pass finds: gradients by params and rule, buffers, metrics."""
    tasks = learner.ready(tasks, 0)
    meta, one = learner.meta(), learner.learner
    with recomputing(wanted):
        if how == "looped":
            return gradient(one, meta, take(tasks, 0), 0)
        if how == "vmapped":
            return value_gradient(lambda m: batch_loss(one, m, tasks, 0), meta)

        def of(parts):
            return batch_loss(one, il.Meta(*parts, meta.buffers), tasks, 0)

        (params, rule), aux = torch.func.grad(of, has_aux=True)((meta.params, meta.rule))
        return params, rule, aux


def assert_equal(ours, expected):
    assert pytree.tree_structure(ours) == pytree.tree_structure(expected)
    for a, b in zip(pytree.tree_leaves(ours), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["looped", "vmapped", "within torch.func.grad"])
@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_are_those_of_the_whole_graph(name, how, double, monkeypatch):
    calls = []
    made = recompute.computed_again
    monkeypatch.setattr(recompute, "computed_again", lambda *args: calls.append(1) or made(*args))
    torch.manual_seed(0)
    learner, tasks = LEARNERS[name](7), il.tasks.sinusoid().train.at(0, 0, 3)
    expected = found(learner, tasks, how, False)
    assert not calls
    for wanted in (True, 1, 3):
        calls.clear()
        assert_equal(found(learner, tasks, how, wanted), expected)
        assert calls, "nothing was computed again"


def test_nested_segments_give_the_same(double):
    torch.manual_seed(0)
    learner, tasks = LEARNERS["learned rates"](40), il.tasks.sinusoid().train.at(0, 0, 3)
    assert len(segment_lengths(40, True)) == 2
    for how in ("looped", "vmapped"):
        assert_equal(found(learner, tasks, how, True), found(learner, tasks, how, False))


def test_convolutions_by_task_are_computed_again_by_task(double):
    torch.manual_seed(0)
    model = il.models.conv4((1, 16, 16), 2, filters=4)
    learner = il.maml(model, inner_lr=0.1, inner_steps=3)
    x, y = torch.randn(2, 4, 1, 16, 16), torch.tensor([[0, 1, 0, 1]] * 2)
    tasks = il.Task(il.Examples(x, y), il.Examples(x.flip(1), y.flip(1)))
    expected = found(learner, tasks, "vmapped", False)
    with per_task_convolutions(True):
        assert_equal(found(learner, tasks, "vmapped", 1), expected)


def test_a_model_that_draws_by_itself_draws_the_same_again(double):
    learner = il.maml(_DrawsByItself(), inner_lr=0.05, inner_steps=5)
    tasks = learner.ready(il.tasks.sinusoid().train.at(0, 0, 1), 0)  # a first look at the model draws, too
    results = []
    for wanted in (False, 2):
        torch.manual_seed(3)
        results.append((found(learner, tasks, "looped", wanted), torch.rand(1)))
    assert_equal(results[1], results[0])


def test_the_gradient_can_be_differentiated_again(double):
    x = torch.tensor([0.3, -0.7], requires_grad=True)

    def cubed_sines(again):
        state = x
        for _ in range(3):
            state = computed_again(lambda s, x: torch.sin(s) * x**3, state, x) if again else torch.sin(state) * x**3
        return state.sum()

    def second(again):
        (first,) = torch.autograd.grad(cubed_sines(again), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(True), second(False), rtol=1e-12, atol=1e-12)


def test_what_is_no_float_passes_through():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    result = computed_again(
        lambda a: {"count": torch.tensor(3), "name": "n", "same": a["x"], "y": a["x"] ** 2}, {"x": x}
    )
    assert int(result["count"]) == 3 and result["name"] == "n"
    (result["y"].sum() + result["same"].sum()).backward()
    assert x.grad is not None and x.grad.tolist() == [3.0, 5.0]


def test_segments_cover_the_loop_and_stay_few():
    assert segment_lengths(100, False) == () == segment_lengths(4, True) == segment_lengths(5, 5)
    assert segment_lengths(100, 7) == (7,)
    for steps in (5, 10, 33, 100, 1000, 10_000):
        lengths = segment_lengths(steps, True)
        alive = sum(-(-a // b) for a, b in zip((steps, *lengths), lengths, strict=False))
        assert all(a > b for a, b in itertools.pairwise(lengths)) and alive <= 40, (steps, lengths)


def test_observers_see_every_step(double):
    learner, tasks = LEARNERS["sgd"](6), il.tasks.sinusoid().train.at(0, 0, 1)
    one, seen = take(learner.ready(tasks, 0), 0), []
    with recomputing(True):
        learner.learner.adapt(learner.meta(), one, 6, lambda fast, i: seen.append((i, fast.step)))
    assert seen == [(i, i) for i in range(7)]


def step_bytes(steps, wanted, together=True, pictures=False):
    """Peak memory of a second-order meta-gradient written by hand, which takes less time than a learner's."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator) / 10

    params = {"a": random(4, 1, 3, 3), "c": random(144, 1)} if pictures else {"a": random(1, 20), "c": random(20, 1)}
    x = random(4, 5, 1, 8, 8) if pictures else random(4, 5, 1)
    side = il.Examples(x, random(4, 5, 1))

    def loss_of(params, side):
        hidden = nn.functional.conv2d(side.x, params["a"]).flatten(1) if pictures else side.x @ params["a"]
        return (torch.tanh(hidden) @ params["c"] - side.y).square().mean()

    def inner_step(fast, side, i):
        grads, _ = inner_gradient(lambda p: (loss_of(p, side), ()), fast, False)
        return {name: p - 0.01 * grads[name] for name, p in fast.items()}

    def one(params, side):
        return loss_of(recompute.loop(inner_step, params, side, steps), side)

    def meta_gradient(meta, tasks):
        params = {name: p.detach().requires_grad_() for name, p in meta.params.items()}
        if together:
            loss = torch.vmap(one, in_dims=(None, 0))(params, tasks.support).mean()
        else:
            loss = one(params, take(tasks, 0).support)
        torch.autograd.grad(loss, list(params.values()))

    with recomputing(wanted):
        return peak_bytes(meta_gradient, il.Meta(params, {}, {}), il.Task(side, side))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("together", "pictures"),
    [(False, True), (True, False), *(pytest.param(x, x, marks=pytest.mark.long) for x in (False, True))],
)
def test_a_hundred_steps_need_at_most_twice_the_memory_of_ten(together, pictures):
    ten, hundred = (step_bytes(steps, True, together, pictures) for steps in (10, 100))
    assert hundred <= 2 * ten
    assert 1.2 * ten < step_bytes(10, False, together, pictures)
    assert 1.8 * step_bytes(10, False, together, pictures) < step_bytes(20, False, together, pictures)


def test_a_learner_takes_part_in_that():
    learner, tasks = LEARNERS["sgd"](12), il.tasks.sinusoid().train.at(0, 0, 4)
    step, tasks = gradient_step(learner.learner, 0, True), learner.ready(tasks, 0)
    whole = peak_bytes(step, learner.meta(), tasks)
    with recomputing(True):
        assert peak_bytes(step, learner.meta(), tasks) < whole / 1.5


@pytest.mark.parametrize("bad", [0, -1, 1.5, "yes", None])
def test_recompute_is_checked(bad):
    learner = LEARNERS["sgd"](2)
    with pytest.raises(il.ConfigError, match="recompute expected True, False or a number"):
        learner.recompute = bad


def test_backward_of_a_learner_recomputes(monkeypatch):
    calls = []
    made = recompute.computed_again
    monkeypatch.setattr(recompute, "computed_again", lambda *args: calls.append(1) or made(*args))
    learner, tasks = LEARNERS["sgd"](6), il.tasks.sinusoid()
    learner.backward(tasks.train.at(0, 0, 4))
    assert not calls
    il.fit(learner, tasks, steps=1, num_tasks=4, recompute=True, validate_every=0, quiet=True)
    assert learner.recompute is True and calls
