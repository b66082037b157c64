"""Everything that makes examples, over the registries: methods, problems without labels, denoisers."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop import keys, methods, models
from innerloop import tasks as problems
from innerloop.core import TaskFamily, batch_size
from innerloop.objectives.denoising import Denoising

# Options that make a problem small and need no data set.
SMALL = {"drawings": {"source": "glyphs", "shots": 2, "queries": 2, "size": 12}, "mixtures": {"shots": 4, "queries": 4}}
# The first argument of a denoiser: the shape of one example.
INPUTS = {"denoising_unet": (1, 8, 8), "denoising_mlp": 3}


def family(name: str) -> TaskFamily:
    return getattr(il.tasks, name)(**SMALL[name])


def test_there_is_a_small_one_of_each():
    assert set(SMALL) == set(problems.WITHOUT_LABELS) and set(INPUTS) == set(models.DENOISERS)


# ---- problems --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(problems.WITHOUT_LABELS))
def test_a_problem_is_a_function_of_its_keys(name):
    made = family(name)
    assert made.name == name and [one.split for one in (made.train, made.valid, made.test)] == [
        "train",
        "valid",
        "test",
    ]
    every = keys.task_keys(0, "train", 0, 0, 6)
    whole, part = made.train.from_keys(every), made.train.from_keys(every[2:4])
    assert batch_size(whole) == 6 and isinstance(whole.objective, Denoising)
    for side in ("support", "query"):
        assert torch.equal(getattr(whole, side)[2:4], getattr(part, side))
        assert getattr(whole, side).shape[2:] == torch.Size(made.train.input_shape)
    assert torch.equal(whole.noise[2:4], part.noise)
    again = getattr(il.tasks, name)(**made.options)
    assert again.options == made.options and torch.equal(again.test.at(0, 0, 2).query, made.test.at(0, 0, 2).query)
    assert again.train.objective == made.train.objective
    sides = whole.support[:, :, None], whole.query[:, None]  # disjoint
    assert not bool((sides[0] == sides[1]).flatten(3).all(3).any())


# ---- denoisers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(models.DENOISERS))
def test_a_denoiser_comes_back_from_its_spec_and_keeps_the_contract(name, double):
    torch.manual_seed(0)
    net = getattr(il.models, name)(INPUTS[name])
    with torch.no_grad():  # layers that begin at zero hide those behind them
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    spec = models.describe(net)
    assert spec is not None and spec["name"] == name
    again = models.build(spec["name"], spec["arguments"])
    again.load_state_dict(net.state_dict())
    shape = (INPUTS[name],) if isinstance(INPUTS[name], int) else INPUTS[name]
    x, sigma = torch.randn(4, *shape), torch.tensor([0.01, 0.3, 1.0, 30.0])
    support, counts = torch.randn(3, *shape), torch.tensor([1.0, 1.0, 0.0])
    found = net(x, sigma, support, counts)
    assert found.shape == x.shape and torch.equal(found, again(x, sigma, support, counts))
    assert torch.allclose(net(x[1:2], sigma[1:2], support, counts), found[1:2])  # each example by itself
    assert torch.allclose(net(x, sigma, support[:2].flip(0)), found)  # no order, and what is not shown is not read
    assert not torch.allclose(net(x, sigma), found, atol=1e-3)
    # With hardly any noise it gives back what it was given.
    assert torch.allclose(net(x, torch.full((4,), 1e-6), support), x, atol=1e-4)
    with pytest.raises(il.ShapeError, match="expected inputs of shape"):
        net(x[..., :-1], sigma)


# ---- methods ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("problem", sorted(problems.WITHOUT_LABELS))
@pytest.mark.parametrize("name", sorted(methods.GENERATIVE))
def test_a_method_trains_makes_examples_and_is_kept(name, problem, tmp_path):
    made = family(problem)
    torch.manual_seed(0)
    learner = getattr(il, name)(made.train.default_model())
    il.fit(learner, made, steps=2, num_tasks=2, valid_tasks=2, out=tmp_path / "run", quiet=True)
    few = made.test.at(0, 0, 1).support[0]
    report = il.evaluate(il.load(tmp_path / "run"), made.test, num_tasks=4, curve_steps=1)
    assert report.metric == "denoising" and len(report.curve) == 2
    fitted = il.load(tmp_path / "run").adapt(few)
    new = fitted.sample(3, steps=3)
    assert new.shape == (3, *made.train.input_shape) and bool(torch.isfinite(new).all())
    fitted.save(tmp_path / "task.il")
    assert torch.equal(il.load(tmp_path / "task.il").sample(3, steps=3), new)
    traits = getattr(il, name).traits
    assert not traits.regression and "inner" not in traits.sentence()


@pytest.mark.parametrize("name", sorted(methods.GENERATIVE))
def test_a_method_is_listed_and_made_by_its_name(name):
    made = methods.make(name, il.models.denoising_mlp(2), {})
    assert made.name == name and methods.make(name, il.models.denoising_mlp(2), made.options).options == made.options
