"""Every contender that can be imported here takes the same step; counted arithmetic; missing ones say so."""

import numpy as np
import pytest
import torch

from benchmarks.speed import arithmetic
from benchmarks.speed.contenders import CONTENDERS, GRADIENT, make
from benchmarks.speed.nets import ConvNet
from benchmarks.speed.problem import picture_problem, sine_problem

NET = ConvNet(channels=1, size=16, filters=4, outputs=3)


def pictures(net=NET, **changes):
    sizes = {"num_tasks": 2, "ways": 3, "shots": 1, "queries": 2, "inner_steps": 2} | changes
    return picture_problem("tiny", net, **sizes)


@pytest.fixture(scope="module", params=["sine", "pictures"])
def problem(request):
    return sine_problem(3, 2, (8, 8)) if request.param == "sine" else pictures()


# What compiles, or tries to ("ours" chooses by itself), takes half a minute; compiling has the engine's own tests.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if n in {"ours", "ours_compiled"} else []) for n in GRADIENT]
)
def test_same_meta_gradient_as_the_plain_loop_and_the_same_step(name, problem):
    contender = make([name])[0]
    reason = contender.available() or contender.refuses(problem)
    if reason:
        pytest.skip(reason)
    truth = arithmetic.truth(problem)
    contender.prepare(problem)
    error = truth.least_error(contender)
    if name == "torch_func" and problem.loss == "cross_entropy":
        assert error > 1e-3  # vmap through batch norm; the rows say so
        return
    assert error <= truth.tolerance
    contender.run(2)
    if name != "plain_loop":
        return
    # Adam's first step moves every weight that has a gradient by the rate; so does a whole step of the contender.
    fresh = make([name])[0]
    fresh.prepare(problem)
    before = [w.detach().clone() for w in fresh.weights]
    fresh.run(1)
    for (weight, old), grad in zip(zip(fresh.weights, before, strict=True), truth.at(0).values(), strict=True):
        clear = torch.from_numpy(np.abs(grad) > 1e-3)
        assert torch.allclose((weight - old).abs()[clear], torch.full_like(old, 1e-3)[clear], rtol=1e-2)


@pytest.mark.parametrize("name", ["ours_vmapped", pytest.param("ours", marks=pytest.mark.long)])
def test_our_step_is_the_plain_loops(name):
    problem = sine_problem(3, 2, (8, 8))
    plain, ours = make(["plain_loop", name])
    for contender in (plain, ours):
        contender.prepare(problem)
        contender.run(3)
    for mine, other in zip(ours.learner.model.parameters(), plain.weights, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_no_contender_changes_its_weights_when_asked_for_the_gradient():
    problem = sine_problem(2, 1, (4,))
    for name in ("ours_vmapped", "plain_loop", "torch_func"):
        contender = make([name])[0]
        contender.prepare(problem)
        first, second = contender.meta_gradient(), contender.meta_gradient()
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_arithmetic_of_a_linear_net_by_hand():
    problem = sine_problem(1, 1, (4,), shots=10, queries=10)
    # One layer's product of (10, a) by (a, b) is 20ab. With W1 (1, 4) and W2 (4, 1), ab = 4 for both: 80 each.
    # The support pass has 2 products forward and 3 backward (W2, hidden, W1; the input needs none).
    support_only = 5 * 80
    total = arithmetic.flops(problem)
    assert total % 80 == 0
    assert total > 2 * support_only + 2 * 80  # the query's passes and the second-order ones besides
    assert arithmetic.flops(sine_problem(3, 1, (4,))) == 3 * total


def test_who_is_not_installed_says_so(monkeypatch):
    contender = make(["higher"])[0]
    monkeypatch.setattr(type(contender), "modules", ("no_such_library",))
    assert contender.available() == "not installed: no_such_library"


def test_prototypes_are_for_those_that_do_them():
    net = ConvNet(channels=1, size=16, filters=4, outputs=None, pool=True)
    problem = pictures(net, num_tasks=1, kind="prototypes")
    style, loop = make(["easyfsl_style", "plain_loop"])
    assert loop.refuses(problem) == "does not do prototypes"
    assert style.refuses(problem) is None and style.refuses(pictures()) is not None
    style.prepare(problem)
    before = style.meta_gradient()
    style.run(1)
    assert np.isfinite(before["0.weight"]).all() and np.abs(before["0.weight"]).max() > 0


def test_every_contender_is_known_under_its_own_name():
    for name, contender in zip(CONTENDERS, make(list(CONTENDERS)), strict=True):
        assert contender.name == name


def test_rounding_moves_the_gradient_a_little_and_sets_the_tolerance(monkeypatch):
    problem = sine_problem(2, 1, (4,))
    exact = arithmetic.truth(problem)
    assert 1e-9 < arithmetic.rounding(problem, exact.at(0)) < 1e-5 and exact.tolerance == 1e-4
    for change, tolerance in ((1e-3, 5e-3), (1.0, 1e-2)):
        monkeypatch.setattr(arithmetic, "rounding", lambda *_, change=change: change)
        assert arithmetic.truth(problem).tolerance == pytest.approx(tolerance)
