"""The outer step with any optimizer: by name, class or function; stored, resumed to the same bits, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.engine import compiling
from innerloop.storage import load_tensors
from innerloop.training.config import TrainConfig
from innerloop.training.optimizer import make_optimizer
from innerloop.training.whole_step import WholeStep, is_plain

SETTINGS = {
    "steps": 6, "num_tasks": 2, "checkpoint_every": 3, "validate_every": 0, "outer_lr": 1e-2, "rule_lr": 1e-3, "quiet": True,
    "strategy": "vmapped", "schedule": "cosine",
}  # fmt: skip


class Counting(torch.optim.Optimizer):
    """Descends by amounts that its state decides: numbers, whole-number and float64 tensors, lists and dictionaries."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr, "scale": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["scale"] *= 0.75
            for p in group["params"]:
                state = self.state[p]
                state["number"] = state.get("number", 0.1) * 1.1
                state["whole"] = state.get("whole", torch.zeros(2, dtype=torch.int64)) + 2**53 // 3
                state["past"] = [*state.get("past", []), (p.grad.double() / 3, {"a/b": None, 3: True})][-2:]
                size = group["lr"] * group["scale"] * state["number"] * (1 + state["whole"][0] / 2**60)
                p -= size * (p.grad + state["past"][0][0].to(p.dtype))


def with_momentum(groups, momentum=0.5):
    return torch.optim.SGD(groups, momentum=momentum)


def learner() -> il.MetaLearner:
    torch.manual_seed(1)
    return il.meta_sgd(il.models.mlp(1, 1, hidden=(4,)))


def tasks() -> il.TaskFamily:
    return il.tasks.sinusoid(shots=3, queries=3)


def ended(folder: Path) -> tuple[dict, dict]:
    return load_tensors(folder / "checkpoint.safetensors", "innerloop-checkpoint", 1)


def stored(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


def killed(one: il.MetaLearner, at: int) -> il.MetaLearner:
    backward = one.backward

    def stopping(batch, **options):
        if options["outer_step"] == at:
            raise RuntimeError("killed")
        return backward(batch, **options)

    one.backward = stopping
    return one


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {"amsgrad": True}),
        ("adamw", {"weight_decay": 0.1, "betas": (0.8, 0.9)}),
        ("rmsprop", {"momentum": 0.3, "centered": True}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("adagrad", None),
        ("NAdam", None),
        ("rprop", None),
        ("asgd", None),
        ("adafactor", None),
        (torch.optim.Adamax, None),
        (Counting, None),
        (with_momentum, {"momentum": 0.7}),
    ],
)
def test_resumed_bit_for_bit(tmp_path, optimizer, options):
    settings = {**SETTINGS, "outer_optimizer": optimizer, "outer_optimizer_options": options}
    whole = learner()
    il.fit(whole, tasks(), out=tmp_path / "whole", **settings)
    with pytest.raises(RuntimeError, match="killed"):
        il.fit(killed(learner(), 4), tasks(), out=tmp_path / "cut", **settings)
    assert ended(tmp_path / "cut")[1]["step"] == 3
    again = learner()
    il.fit(again, tasks(), out=tmp_path / "cut", resume=True, **settings)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    (a, one), (b, two) = ended(tmp_path / "whole"), ended(tmp_path / "cut")
    assert a.keys() == b.keys() and all(torch.equal(v, b[k]) and v.dtype == b[k].dtype for k, v in a.items())
    assert one.get("optimizer") == two.get("optimizer")
    assert any(name.startswith("optimizer/") for name in a)
    if optimizer is Counting:
        assert one["optimizer"].keys() == {"groups", "state"}
        assert a["optimizer/0/whole"].dtype == torch.int64


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "adamax"])
@pytest.mark.usefixtures("double")
def test_one_step_is_torchs_own_on_the_same_gradient(name):
    options = {"weight_decay": 0.3}
    one, other = learner().double(), learner().double()
    settings = {**SETTINGS, "steps": 1, "schedule": "constant", "precision": "float64"}
    il.fit(one, tasks(), outer_optimizer=name, outer_optimizer_options=options, **settings)
    other.backward(tasks().train.at(0, 0, 2))
    rule = {id(p) for p in other.rule.values()}
    for p in other.parameters():
        kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
        made = kind.get(name, torch.optim.Adamax)([p], lr=1e-3 if id(p) in rule else 1e-2, **options)
        made.step()
    start = learner().double()
    for mine, theirs, before in zip(one.parameters(), other.parameters(), start.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-15) and not torch.equal(mine, before)


def test_one_step_of_sgd_and_adamw_by_hand():
    grads, starts = [], [p.detach().clone() for p in learner().parameters()]
    plain = learner()
    plain.backward(tasks().train.at(0, 0, 2))
    grads = [p.grad for p in plain.parameters()]
    settings = {**SETTINGS, "steps": 1, "schedule": "constant", "rule_lr": None}
    for name, options in (("sgd", {"weight_decay": 0.5}), ("adamw", {"weight_decay": 0.5, "eps": 1e-12})):
        one = learner()
        il.fit(one, tasks(), outer_optimizer=name, outer_optimizer_options=options, **settings)
        for p, g, start in zip(one.parameters(), grads, starts, strict=True):
            # After one step Adam's moments are g and g squared, so it goes by the sign; its decay is of the weight alone.
            expected = start - 1e-2 * (g + 0.5 * start) if name == "sgd" else start * (1 - 0.5e-2) - 1e-2 * g.sign()
            assert torch.allclose(p, expected, rtol=1e-5, atol=1e-7)


def test_a_name_a_class_and_its_options_are_one_thing(tmp_path):
    found = []
    for i, (optimizer, options) in enumerate(
        (("adamw", {"weight_decay": 0.5}), ("AdamW", ["weight_decay=0.5"]), (torch.optim.AdamW, {"weight_decay": 0.5}))
    ):
        one = learner()
        settings = {**SETTINGS, "outer_optimizer": optimizer, "outer_optimizer_options": options}
        il.fit(one, tasks(), out=tmp_path / str(i), **settings)
        training = stored(tmp_path / str(i))
        assert (training["outer_optimizer"], training["outer_optimizer_options"]) == ("adamw", ["weight_decay=0.5"])
        found.append(one.state_dict())
    plain = learner()
    il.fit(plain, tasks(), **SETTINGS, outer_optimizer="adamw")
    assert all(torch.equal(v, found[1][k]) and torch.equal(v, found[2][k]) for k, v in found[0].items())
    assert not all(torch.equal(v, found[0][k]) for k, v in plain.state_dict().items())


def test_ones_own_gets_the_groups_their_rates_and_the_schedule():
    seen = []

    class Recording(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([(len(group["params"]), group["lr"]) for group in self.param_groups])

    il.fit(learner(), tasks(), **{**SETTINGS, "schedule": "linear", "steps": 2}, outer_optimizer=Recording)
    assert seen[0] == [(4, 1e-2), (4, 1e-3)] and seen[1] == [(4, 0.5e-2), (4, 0.5e-3)]
    made = make_optimizer(lambda groups: torch.optim.SGD(groups[1]["params"], lr=0.3), learner(), 0.1, 0.2)
    assert [(g["lr"], g["peak_lr"]) for g in made.param_groups] == [(0.3, 0.3)]  # groups of its own keep their own


@pytest.mark.parametrize("optimizer", [with_momentum, Counting])
def test_ones_own_is_stored_by_name_and_asked_for_again(tmp_path, capsys, optimizer):
    folder = tmp_path / "run"
    il.fit(learner(), tasks(), out=folder, **SETTINGS, outer_optimizer=optimizer)
    training = stored(folder)
    assert training["outer_optimizer"] == f"custom {__name__}.{optimizer.__name__}"
    message = rf"expected .*{optimizer.__name__} itself, which no file holds, got .*; give it again: il\.fit"
    for settings in (training, SETTINGS, {**SETTINGS, "outer_optimizer": "sgd"}):
        with pytest.raises(il.ConfigError, match=message):
            il.fit(learner(), tasks(), out=folder, resume=True, **settings)
    assert main(["train", "--resume", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "give it again" in told
    again = learner()
    il.fit(again, tasks(), out=folder, resume=True, **SETTINGS, outer_optimizer=optimizer)
    assert all(torch.equal(v, il.load(folder).state_dict()[k]) for k, v in again.state_dict().items())


def test_a_run_goes_on_with_its_own_optimizer_only(tmp_path):
    il.fit(learner(), tasks(), out=tmp_path, **SETTINGS, outer_optimizer="rmsprop")
    with pytest.raises(il.ConfigError, match="expected that of the run, 'rmsprop', got 'adam'; give it again"):
        il.fit(learner(), tasks(), out=tmp_path, resume=True, **SETTINGS)
    il.fit(learner(), tasks(), out=tmp_path, resume=True, **SETTINGS, outer_optimizer=torch.optim.RMSprop)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("adamx", None, "unknown outer_optimizer 'adamx': did you mean 'adam"),
        ("lbfgs", None, "dense gradient, got LBFGS, whose step needs a closure; use 'adam'"),
        (torch.optim.LBFGS, None, "dense gradient, got LBFGS, whose step needs a closure"),
        (lambda groups: torch.optim.LBFGS(groups[0]["params"]), None, "got LBFGS, whose step needs a closure"),
        ("SparseAdam", None, "dense gradient, got SparseAdam, which takes sparse gradients only; use 'adam'"),
        (torch.optim.Optimizer, None, "expected a name of a class in torch.optim, a class, or a function"),
        (3, None, "expected a name of a class in torch.optim, a class, or a function"),
        (lambda groups: groups, None, "to give a torch.optim.Optimizer, got list; return one"),
        ("adamw", {"weight_decy": 0.1}, "adamw has no argument 'weight_decy': did you mean 'weight_decay'"),
        (with_momentum, {"momentun": 0.1}, "with_momentum has no argument 'momentun': did you mean 'momentum'"),
        ("adamw", {"lr": 0.1}, "expected no 'lr', which is outer_lr"),
        ("adamw", {"weight_decay": -1.0}, "got adamw, which says: Invalid weight_decay value: -1.0; take another"),
        ("muon", None, "got muon, which says: Muon only supports 2D"),
        ("adamw", ["weight_decay"], "expected NAME=VALUE such as weight_decay=0.01, got 'weight_decay'"),
        ("adamw", {"weight_decay": object()}, "expected names with numbers, texts, true, false, none"),
        ("adamw", {"betas": (0.9,)}, "expected names with numbers, texts, true, false, none"),
    ],
)
def test_what_cannot_be_an_outer_optimizer(optimizer, options, message):
    with pytest.raises(il.ConfigError, match=message) as told:
        il.fit(learner(), tasks(), **SETTINGS, outer_optimizer=optimizer, outer_optimizer_options=options)
    assert "\n" not in str(told.value)


def test_options_are_read_as_they_are_written():
    given = {"betas": (0.8, 0.9), "eps": 1e-9, "nesterov": True, "foreach": None, "kind": "some", "steps": 5, "d": 1.0}
    config = TrainConfig(outer_optimizer="nadam", outer_optimizer_options=given)
    back = TrainConfig(**json.loads(json.dumps(config.as_dict()))).outer_optimizer_options
    assert back == given and {k: type(v) for k, v in back.items()} == {k: type(v) for k, v in given.items()}


def test_the_flags(tmp_path, capsys):
    line = ["train", "maml", "sinusoid", "--steps", "2", "--num-tasks", "2", "--quiet"]
    assert main([*line, "--outer-optimizer", "adamm", "--out", str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err == "innerloop: error: unknown outer_optimizer 'adamm': did you mean 'adam'?\n"
    more = ["--outer-optimizer", "AdamW", "--outer-optimizer-options", "weight_decay=0.1", "betas=0.8,0.9"]
    assert main([*line, *more, "--out", str(tmp_path / "one")]) == 0
    again = ["train", "maml", "sinusoid", "--quiet", "--config", str(tmp_path / "one" / "config.json")]
    assert main([*again, "--out", str(tmp_path / "two")]) == 0
    assert stored(tmp_path / "one") == stored(tmp_path / "two")
    assert stored(tmp_path / "one")["outer_optimizer_options"] == ["weight_decay=0.1", "betas=0.8,0.9"]
    assert main(["train", "--resume", str(tmp_path / "one"), "--quiet"]) == 0


def test_the_page_has_a_step_that_stays_in_its_region(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "outer-step.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    (code,) = [block for block in blocks if "class TrustRegion" in block]
    one = learner()
    before = [p.detach().clone() for p in one.parameters()]
    rule = [id(p) in {id(r) for r in one.rule.values()} for p in one.parameters()]
    seen = {"torch": torch, "learner": one, "tasks": tasks()}
    seen["il"] = type(
        "il", (), {"fit": lambda *given, out, **s: il.fit(*given, steps=1, validate_every=0, quiet=True, **s)}
    )
    exec(code, seen)
    for own in (True, False):
        moved = [
            p.detach() - old for p, old, of_rule in zip(one.parameters(), before, rule, strict=True) if of_rule is own
        ]
        assert torch.cat([m.reshape(-1) for m in moved]).norm() == pytest.approx(0.05, rel=1e-3)


# ---- beside the compiled step --------------------------------------------------------------------------------------
def hooked(groups):
    made = torch.optim.SGD(groups)
    made.register_step_post_hook(lambda *_: None)
    return made


class Halved(torch.optim.SGD):
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.grad *= 0.5
        return super().step(closure)


@pytest.mark.parametrize(
    ("optimizer", "options", "plain"),
    [
        ("adam", None, True),
        ("sgd", None, True),
        ("adam", {"weight_decay": 0.1}, False),
        ("adam", {"amsgrad": True}, False),
        ("sgd", {"momentum": 0.5}, False),
        ("sgd", {"maximize": True}, False),
        ("adamw", {"weight_decay": 0.0}, False),
        (hooked, None, False),
        (Halved, None, False),
    ],
)
def test_which_updates_are_compiled(optimizer, options, plain):
    assert is_plain(make_optimizer(optimizer, learner(), 0.1, None, options)) is plain


@pytest.mark.parametrize(("optimizer", "options"), [("adamw", {"weight_decay": 0.1}), (Halved, None)])
def test_others_step_outside_the_compiled_part(monkeypatch, tmp_path, optimizer, options):
    monkeypatch.setattr(compiling, "Attempt", Mock())
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, _: graph)
    monkeypatch.setattr(WholeStep, "run", lambda *_: pytest.fail("the update was compiled"))
    found = []
    for strategy in ("compiled", "vmapped"):
        one = learner()
        settings = {**SETTINGS, "steps": 24, "strategy": strategy, "precision": "float64", "outer_optimizer": optimizer}
        il.fit(one, tasks(), out=tmp_path / strategy, **settings, outer_optimizer_options=options)
        assert one.compiled.trouble == "" and bool(one.compiled._functions) is (strategy == "compiled")
        found.append(one)
    assert json.loads((tmp_path / "compiled" / "plan.json").read_text())["strategy"] == "compiled"
    for mine, theirs in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-11)
