"""Methods for streams: what each step is, in closed form or by differences; a contract that all of them keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.lifelong import STREAM_METHODS
from innerloop.lifelong.memory import Reservoir
from innerloop.lifelong.methods.la_maml import clipped


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))


def examples(count: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=generator), torch.randint(4, (count,), generator=generator)


def made(name: str, **options) -> Any:
    return getattr(il.lifelong, name)(nn.Flatten() if name == "class_means" else net(), **options)


def flat(values) -> torch.Tensor:
    return torch.cat([v.flatten() for v in values.values()])


def test_online_is_sgd():
    learner, model, (x, y) = made("online", lr=0.1, glances=3), net(), examples()
    learner.learn(x, y)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(learner.predict(x), model(x).detach())


def test_replay_takes_some_of_the_memory_into_each_step():
    learner, model, (x, y) = made("replay", lr=0.1, memory=5, replayed=5), net(), examples(10)
    learner.learn(x[:5], y[:5])
    learner.learn(x[5:], y[5:])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for a, b in ((x[:5], y[:5]), (x, y)):  # the memory holds all five: the second step is on all ten
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    torch.testing.assert_close(learner.predict(x), model(x).detach())


@pytest.mark.parametrize("first_order", [True, False])
def test_la_maml_looks_ahead_by_the_gradient_of_its_outer_loss(first_order):
    """By differences of the outer loss; in first order of that loss with the inner gradients held."""
    learner, (x, y) = made("la_maml", inner_lr=0.2, first_order=first_order), examples(4)
    x, y = learner.checked(x, y)
    kept = examples(5, seed=3)
    grads, by_rate = learner.look_ahead(x, y, kept)
    start, rates = learner.params, learner.rates

    def inner(params):  # the gradients of the steps along the way
        fast, found = dict(params), []
        for i in range(len(x)):
            learner.params = fast
            found.append(learner.gradient(x[i : i + 1], y[i : i + 1]))
            fast = {n: p - rates[n].relu() * found[-1][n] for n, p in fast.items()}
        learner.params = start
        return found

    held = inner(start)

    def outer(params, rates):
        fast, total = dict(params), 0.0
        for i in range(len(x)):
            learner.params = fast
            g = held[i] if first_order else learner.gradient(x[i : i + 1], y[i : i + 1])
            fast = {n: p - rates[n].relu() * g[n] for n, p in fast.items()}
            learner.params = fast
            total += float(learner.loss(learner._outputs(torch.cat([x, kept[0]])), torch.cat([y, kept[1]]))) / len(x)
        learner.params = start
        return total

    way = {n: torch.randn_like(p) for n, p in start.items()}
    for what, found in (("params", grads), ("rates", by_rate)):
        ends = []
        for sign in (1, -1):
            moved = {n: v + sign * 1e-5 * way[n] for n, v in (start if what == "params" else rates).items()}
            ends.append(outer(moved, rates) if what == "params" else outer(start, moved))
        expected = (ends[0] - ends[1]) / 2e-5
        assert float(flat(found) @ flat(way)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_la_maml_moves_rates_first_and_weights_by_what_is_above_zero():
    learner, (x, y) = made("la_maml", inner_lr=0.05, rate_lr=5.0, glances=1, clip=None), examples(3)
    before = {n: p.clone() for n, p in learner.params.items()}
    order = torch.randperm(3, generator=torch.Generator().manual_seed(0))
    grads, by_rate = learner.look_ahead(*(v[order] for v in learner.checked(x, y)), None)
    learner.learn(x, y)
    assert any(bool((r < 0).any()) for r in learner.rates.values())
    for n, p in learner.params.items():
        torch.testing.assert_close(learner.rates[n], 0.05 - 5.0 * by_rate[n])
        torch.testing.assert_close(p, before[n] - learner.rates[n].relu() * grads[n])


def test_sync_and_c_maml_are_switches():
    x, y = examples()
    sync, c_maml = made("la_maml", sync=True, outer_lr=0.1), made("la_maml", sync=True, learn_rates=False)
    for learner in (sync, c_maml):
        learner.learn(x, y)
    assert (flat(sync.rates) != 0.15).any() and (flat(c_maml.rates) == 0.15).all()
    with pytest.raises(il.ConfigError, match="sync=True"):
        made("la_maml", learn_rates=False)


def test_gradients_are_clipped_by_their_norm_over_all():
    found = clipped({"a": torch.full((3,), 2.0), "b": torch.full((1,), 2.0)}, 1.0)
    assert float(flat(found).norm()) == pytest.approx(1.0, rel=1e-5)
    assert clipped(found, 5.0)["a"].equal(found["a"])


def test_ewc_holds_what_was_learned_by_its_fisher_information():
    """After one part, the held optimum of a linear regression is the minimum of loss + strength / 2 F (w - w*)^2."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    learner = il.lifelong.ewc(model, lr=0.05, strength=3.0)
    x, y = torch.tensor([[1.0]]), torch.tensor([[3.0]])
    learner.learn(x, y)
    learner.end_part()
    star = float(learner.params["weight"])
    fisher = (2 * (star - 3.0)) ** 2  # the derivative of (w - 3)^2, squared
    for _ in range(3000):
        learner.learn(torch.tensor([[1.0]]), torch.tensor([[-1.0]]))
    expected = (2 * -1.0 + 3.0 * fisher * star) / (2 + 3.0 * fisher)
    assert float(learner.params["weight"]) == pytest.approx(expected, rel=1e-6)


def test_class_means_are_the_means():
    x, y = examples(20)
    learner = made("class_means")
    for a, b in zip(x, y, strict=True):
        learner.learn_one(a, int(b))
    means = torch.stack([x[y == c].mean(0) for c in range(4)])
    torch.testing.assert_close(learner.predict(x), -(torch.cdist(x, means) ** 2))


def test_a_reservoir_keeps_each_with_the_same_probability():
    hits = torch.zeros(20)
    for seed in range(2000):
        memory = Reservoir(4, torch.Generator().manual_seed(seed))
        for a in range(0, 20, 5):
            memory.add(torch.arange(a, a + 5.0)[:, None], torch.arange(a, a + 5))
        assert memory.x is not None
        hits[memory.x[:, 0].long()] += 1
    # 4 / 20 of 2000, with a deviation of 17.9
    assert float((hits - 400).abs().max()) < 5 * 17.9


@pytest.mark.parametrize("name", STREAM_METHODS)
class TestContract:
    def test_one_by_one_is_a_batch_of_one(self, name):
        x, y = examples()
        one, batch = made(name), made(name)
        one.learn_one(x[0], int(y[0]))
        batch.learn(x[:1], y[:1])
        assert one.predict(x).equal(batch.predict(x)) and one.predict_one(x[0]) == int(one.predict(x[:1]).argmax())

    def test_equal_seeds_are_equal_bits_and_a_file_goes_on(self, name, tmp_path):
        x, y = examples(30)
        whole, first, second = made(name), made(name), made(name)
        for learner in (whole, first):
            for a in range(0, 15, 3):
                learner.learn(x[a : a + 3], y[a : a + 3])
        first.save(tmp_path / "learner.safetensors")
        second.load(tmp_path / "learner.safetensors")
        for learner in (whole, second):
            for a in range(15, 30, 3):
                learner.learn(x[a : a + 3], y[a : a + 3])
            learner.end_part()
            learner.learn(x[:3], y[:3])
        assert whole.predict(x).equal(second.predict(x))
        assert all(v.equal(second.tensors()[n]) for n, v in whole.tensors().items())

    def test_what_cannot_be_learned_from_changes_nothing(self, name):
        x, y = examples()
        learner = made(name)
        learner.learn(x, y)
        before = {n: v.clone() for n, v in learner.tensors().items()}
        nan = x.clone()
        nan[2, 1] = float("nan")
        bad = [
            (nan, y, "x of example 2 expected finite"),
            (x[:, :2], y, "as before"),
            (x[:0], y[:0], "at least one"),
            (x, -y - 1, "labels expected"),
            (x, y.double(), "learned a classification before|expected labels"),
        ]
        for a, b, said in bad:
            with pytest.raises(il.InputError, match=said):
                learner.learn(a, b)
        assert all(v.equal(before[n]) for n, v in learner.tensors().items())

    def test_a_copy_learns_apart(self, name):
        x, y = examples()
        learner = made(name)
        learner.learn(x, y)
        before = {n: v.clone() for n, v in learner.tensors().items()}
        other = learner.restarted()
        other.learn(x + 1, y)
        other.end_part()
        assert all(v.equal(before[n]) for n, v in learner.tensors().items())
        assert not other.predict(x).equal(learner.predict(x))


@pytest.mark.parametrize("name", ["online", "replay", "ewc", "la_maml"])
def test_a_rate_that_diverges_leaves_all_as_it_was(name):
    learner, (x, y) = made(name), examples()
    learner.learn(x, y)
    before = {n: v.clone() for n, v in learner.tensors().items()}
    setattr(learner, "rate_lr" if name == "la_maml" else "lr", float("inf"))
    with pytest.raises(il.InputError, match="Choose a lower rate"):
        learner.learn(x, y)
    after = learner.tensors()
    assert after.keys() == before.keys() and all(v.equal(after[n]) for n, v in before.items())


def test_bytes_are_numbers_in_learning_and_asking():
    x, y = torch.randint(255, (4, 3), dtype=torch.uint8), torch.arange(4)
    learner, other = made("online"), made("online")
    learner.learn(x, y)
    other.learn(x.double(), y)
    assert learner.predict(x).equal(other.predict(x.double()))


def test_other_models_and_settings_are_refused(tmp_path):
    with pytest.raises(il.ConfigError, match="without batch norm"):
        il.la_maml(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    with pytest.raises(il.ConfigError, match=r"il\.lifelong\.online"):
        made("replay", memory=0)
    with pytest.raises(il.ConfigError, match="lr expected"):
        made("online", lr=0.0)
    learner = made("la_maml")
    learner.save(tmp_path / "a.safetensors")
    with pytest.raises(il.ConfigError, match="as it was made then"):
        made("la_maml", inner_lr=0.2).load(tmp_path / "a.safetensors")
    with pytest.raises(il.InputError, match="expected labels, got values"):
        made("class_means").learn(torch.randn(2, 3), torch.randn(2))
