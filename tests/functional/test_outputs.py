"""Models that return a dictionary, a dataclass or a tuple: ``output=`` picks, and files remember what."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Examples, Task

Pair = namedtuple("Pair", ["features", "logits"])


@dataclasses.dataclass
class Returned:
    logits: Tensor
    loss: Any = None


class ModelOutput(OrderedDict):
    """As transformers has them: a dictionary whose parts are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


KINDS = {
    "dict": (lambda h, z: {"hidden": h, "logits": z}, "logits"),
    "hugging face": (lambda h, z: ModelOutput(logits=z, hidden_states=(h, h)), "logits"),
    "dataclass": (lambda h, z: Returned(z), "logits"),
    "dataclass by index": (lambda h, z: Returned(z), 0),
    "namedtuple": (lambda h, z: Pair(h, z), "logits"),
    "tuple": (lambda h, z: (z, h), 0),
    "list": (lambda h, z: [h, z], -1),
    "dict by index": (lambda h, z: {"hidden": h, "logits": z}, 1),
}


class Net(nn.Module):
    def __init__(self, kind: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.kind = nn.Linear(3, 4), nn.Linear(4, 2), kind

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.body(x))
        return KINDS[self.kind][0](h, self.head(h)) if self.kind else self.head(h)


def tasks(num_tasks: int = 5) -> Task:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, num_tasks, 6, 3, generator=generator)
    y = (torch.arange(6) % 2).expand(num_tasks, -1)
    return Task(Examples(x[0], y), Examples(x[1], y))


def numbers(learner: il.MetaLearner) -> list[Tensor]:
    learner.backward(tasks())
    return [*(p.grad for p in learner.parameters() if p.grad is not None), learner.predict_queries(tasks())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [il.maml, il.protonet, il.matching], ids=lambda m: m.__name__)
def test_a_part_is_picked(method, kind: str) -> None:
    expected = numbers(method(Net()))
    assert all(
        torch.equal(a, b) for a, b in zip(expected, numbers(method(Net(kind), output=KINDS[kind][1])), strict=True)
    )


def test_by_a_function_and_in_a_pairing_of_ones_own() -> None:
    parts = {
        "rule": il.rules.SGD(0.1),
        "learner": lambda pure, rule: il.learners.GradientLearner(pure, rule),
        "meta_gradient": il.meta_gradients.Backprop,
    }
    expected = numbers(il.maml(Net(), inner_lr=0.1))
    for learner in (
        il.maml(Net("hugging face"), inner_lr=0.1, output=lambda out: out.logits),
        il.MetaLearner.of(Net("hugging face"), output="logits", **parts),
    ):
        assert all(torch.equal(a, b) for a, b in zip(expected, numbers(learner), strict=True))


@pytest.mark.parametrize(
    ("kind", "output", "said"),
    [
        ("dict", None, "returns a dict of hidden, logits; choose its output, one tensor: output='logits'"),
        ("dataclass", None, "returns a Returned of logits, loss; choose its output, one tensor: output='logits'"),
        ("tuple", None, "returns a tuple of 2 parts; choose its output, one tensor: output=0"),
        ("dict", "logit", "output='logit' is no part of a dict of hidden, logits: did you mean 'logits'"),
        ("tuple", 2, "output=2 is no part of a tuple of 2 parts"),
        ("dataclass", "loss", "output='loss' expected to pick a tensor of a Returned of logits, loss, got NoneType"),
        ("dict", 1.5, "output expected a name, an index or a function, got float"),
    ],
)
def test_what_cannot_be_picked_is_one_line(kind: str, output: Any, said: str) -> None:
    for method in (il.maml, il.protonet, il.relation):
        with pytest.raises(il.ConfigError) as error:
            method(Net(kind), output=output).backward(tasks())
        assert said in str(error.value)


def test_files_remember_it(tmp_path) -> None:
    def logits(out: Any) -> Tensor:
        return out["logits"]

    x, y = tasks().support.x[0], tasks().support.y[0]
    for output in ("logits", 1, logits):
        learner = il.maml(Net("dict"), output=output)
        expected = learner.adapt(x, y).predict_proba(x)
        path = learner.adapt(x, y).save(tmp_path / "task.il")
        again = il.load(path, model=Net("dict"), **({"output": logits} if callable(output) else {}))
        assert torch.equal(again.predict_proba(x), expected)
        if callable(output):
            with pytest.raises(il.ConfigError, match=r"logits'; give it again: il.load\(path, output=...\)"):
                il.load(path, model=Net("dict")).predict(x)
    assert "output" not in il.maml(Net()).options


class WithAuxiliary(Net):
    """Returns another thing in training, as Inception does."""

    def forward(self, x: Tensor) -> Any:
        z = self.head(torch.tanh(self.body(x)))
        return {"pair": (z, z * z), "wide": torch.cat([z, z], 1), "one": z}[self.kind] if self.training else z


def with_kind(kind: str) -> Net:
    made = WithAuxiliary()
    made.kind = kind
    return made


def test_what_training_alone_returns_is_picked_too() -> None:
    for method in (il.maml, il.protonet):
        expected = numbers(method(with_kind("one")))
        assert all(
            torch.equal(a, b) for a, b in zip(expected, numbers(method(with_kind("pair"), output=0)), strict=True)
        )
        with pytest.raises(il.ConfigError, match="returns a tuple of 2 parts; choose its output, one tensor: output=0"):
            method(with_kind("pair")).backward(tasks())
        with pytest.raises(il.ShapeError, match=r"one shape, got \(6, 4\) in training and \(6, 2\) outside"):
            method(with_kind("wide")).backward(tasks())
        x, y = tasks().support.x[0], tasks().support.y[0]
        shown = [method(with_kind(k)).adapt(x, y).predict_proba(x) for k in ("one", "pair", "wide")]
        assert torch.equal(shown[0], shown[1]) and torch.equal(shown[0], shown[2])


class Ends(Net):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(super().forward(x))


@pytest.mark.parametrize("method", [il.maml, il.protonet], ids=lambda m: m.__name__)
def test_other_numbers_than_real_ones_are_one_line(method) -> None:
    for end in (lambda z: torch.complex(z, z), lambda z: z.argmax(1)):
        with pytest.raises(il.ConfigError, match=r"return real numbers, got torch.(complex64|int64)"):
            method(Ends(end)).backward(tasks())


def test_an_output_without_a_gradient_is_refused_where_there_is_one_to_follow() -> None:
    with pytest.raises(il.ConfigError, match=r"no gradient by its parameters.*torch.no_grad"):
        il.maml(Ends(Tensor.detach)).backward(tasks())
    il.protonet(Ends(Tensor.detach)).adapt(tasks().support.x[0], tasks().support.y[0])
