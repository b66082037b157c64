"""Learned optimizers: small networks that are shown each number's gradient and say how it moves, one network for all numbers.

The rules and the factory. LSTM: Andrychowicz et al. 2016, arXiv:1606.04474; RNNprop: Lv, Jiang and Li 2017, arXiv:1703.03633;
MLP: Metz et al. 2020, arXiv:2009.11243.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import expect_above_zero, expect_whole
from innerloop.meta_learner.learned_optimizer import ESTIMATES, LearnedOptimizer
from innerloop.meta_learner.outer import Outer
from innerloop.methods.lstm_metalearner import preprocess
from innerloop.methods.pairing import expect_choice
from innerloop.rules.learned import CoordinateRule, as_tensors, in_a_row, progress, sane

_EPS = 1e-10  # below the second moment of a gradient that is worth following
_LEAST = 1e-12  # of a mean square whose logarithm is taken
_MOMENTA = (0.0, 0.5, 0.9, 0.99)
_SECOND = (0.9, 0.999)
_TIMES = (1.0, 10.0, 100.0, 1000.0)  # of the time features tanh(step / time - 1)
_SEEN = [len(_MOMENTA) + 3, 8, 2 + len(_TIMES)]  # by the perceptron: of a number, of its tensor, of the time


def _layer(inputs: int, outputs: int, generator: torch.Generator | None, scale: float = 1.0) -> dict[str, Tensor]:
    """Uniform within scale / sqrt(inputs), biases zero."""
    spread = scale / math.sqrt(inputs)
    drawn = torch.rand(outputs, inputs, generator=generator, dtype=torch.float64)
    return {"weight": (spread * (2 * drawn - 1)).to(torch.get_default_dtype()), "bias": torch.zeros(outputs)}


def _named(layers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{layer}/{kind}": value for layer, kinds in layers.items() for kind, value in kinds.items()}


def _through(meta: Mapping[str, Tensor], layer: str, x: Float[Tensor, "numbers inputs"]) -> Tensor:
    return torch.nn.functional.linear(x, meta[f"{layer}/weight"], meta[f"{layer}/bias"])


@dataclasses.dataclass(frozen=True)
class CoordinateLSTM(CoordinateRule):
    """``w <- w + scale * output(LSTM(LSTM(seen)))``, a state for each number.

    Args:
        hidden: of both layers (the paper's 20).
        scale: of the output (the paper's 0.1).
        adam_like: see Adam's normalised gradient and momentum, and squash the output, as RNNprop; else log and sign of the
            gradient.
        p: of the preprocessing (the paper's 10).
    """

    hidden: int = 20
    scale: float = 0.1
    adam_like: bool = False
    p: float = 10.0

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params
        made = {}
        for i, inputs in enumerate((2, self.hidden)):
            made[f"lstm{i}"] = _layer(inputs + self.hidden, 4 * self.hidden, generator)
        return _named({**made, "output": _layer(self.hidden, 1, generator, 0.1)})

    def begin(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        del meta
        like, number = next(iter(params.values())), sum(p.numel() for p in params.values())
        names = ("hidden0", "cell0", "hidden1", "cell1")
        state = {"steps": steps, **{name: like.new_zeros(number, self.hidden) for name in names}}
        return state | ({"m": like.new_zeros(number, 1), "v": like.new_zeros(number, 1)} if self.adam_like else {})

    def update(
        self,
        meta: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: Any,
        params: Mapping[str, Tensor],
        *,
        loss: Tensor,
        step: int | Tensor,
    ) -> tuple[dict[str, Tensor], Any]:
        del loss
        grad, after = in_a_row(sane(grads, params)), dict(state)
        if self.adam_like:
            count = torch.as_tensor(step, device=grad.device).to(grad.dtype) + 1
            after["m"], m = _averaged(state["m"], (0.95,), grad, count)  # the paper's decays
            after["v"], v = _averaged(state["v"], (0.95,), grad.square(), count)
            root = (v[0] + _EPS).sqrt()
            x = torch.stack([grad / root, m[0] / root], -1)
        else:
            x = preprocess(grad, self.p).T
        for i in range(2):
            both = torch.cat([x, state[f"hidden{i}"]], -1)
            write, keep, read, value = _through(meta, f"lstm{i}", both).chunk(4, -1)
            cell = (keep + 1).sigmoid() * state[f"cell{i}"] + write.sigmoid() * value.tanh()
            x = read.sigmoid() * cell.tanh()
            after |= {f"hidden{i}": x, f"cell{i}": cell}
        moved = _through(meta, "output", x)[:, 0]
        moved = as_tensors(self.scale * (moved.tanh() if self.adam_like else moved), params)
        return {name: p + moved[name] for name, p in params.items()}, after


@functools.cache
def _of_shapes(shapes: tuple[tuple[int, ...], ...]) -> Float[Tensor, "four tensors"]:
    """What a rule sees of tensors of these shapes, in the order of the network: logarithm of the numbers that go into a unit,
    whether it is a vector, its place, and how many tensors there are; all of size 1 or so."""
    number = len(shapes)
    rows = [
        (math.log(math.prod(s[1:])), float(len(s) < 2), i / max(1, number - 1), math.log(number))
        for i, s in enumerate(shapes)
    ]
    middle, spread = torch.tensor([3.0, 0.5, 0.5, 1.5]), torch.tensor([1.5, 0.5, 0.5, 0.5])
    return ((torch.tensor(rows) - middle) / spread).T


@dataclasses.dataclass(frozen=True)
class CoordinateMLP(CoordinateRule):
    """``w <- w - scale * exp(size) * (m / sqrt(v) + direction)``, size and direction from a perceptron.

    It sees

    - of each number: the gradient and three momenta over the root of the second moment v; a fast second moment beside v; v beside
      the mean of its tensor; the number beside the root mean square of its tensor,
    - of its tensor: logarithms of the root mean squares of gradients and numbers, and of how steady gradients are (momenta over
      the root of v); inputs of a unit, vector or not, place in the network, how many tensors the network has,
    - of time: how far the run is and how long, and four saturating counts of steps.

    Its last layer begins near zero, so it begins near Adam with a rate of ``scale``.

    Args:
        hidden: width of both hidden layers.
        scale: rate where it begins.
    """

    hidden: int = 16
    scale: float = 0.03

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params
        inputs = sum(_SEEN)
        first, second = _layer(inputs, self.hidden, generator), _layer(self.hidden, self.hidden, generator)
        return _named({"first": first, "second": second, "output": _layer(self.hidden, 2, generator, 0.1)})

    def begin(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        del meta
        like, number = next(iter(params.values())), sum(p.numel() for p in params.values())
        return {"steps": steps, "m": like.new_zeros(number, len(_MOMENTA)), "v": like.new_zeros(number, len(_SECOND))}

    def update(
        self,
        meta: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: Any,
        params: Mapping[str, Tensor],
        *,
        loss: Tensor,
        step: int | Tensor,
    ) -> tuple[dict[str, Tensor], Any]:
        del loss
        grad, row = in_a_row(sane(grads, params)), in_a_row(params)
        parts = [p.numel() for p in params.values()]
        count = torch.as_tensor(step, device=grad.device).to(grad.dtype) + 1
        # Kinds first, numbers last: what follows is then done along rows.
        after, m = _averaged(state["m"], _MOMENTA, grad, count)
        kept, v = _averaged(state["v"], _SECOND, grad.square(), count)
        v = v + _EPS
        directions, logs = m * v[1].rsqrt(), 0.5 * v.log()

        def means(x: Tensor) -> Tensor:  # (kinds, numbers) -> (kinds, tensors)
            return torch.stack([part.mean(-1) for part in x.split(parts, -1)], -1)

        squares = torch.cat([v[1:], row.square()[None], directions[-2:].square()])
        grads_log, row_log, *steady = 0.5 * (means(squares) + _LEAST).log()
        seen = torch.cat(
            [
                directions.clamp(-5, 5),
                0.5 * (logs[:1] - logs[1]).clamp(-2, 2),
                0.3 * (logs[1:] - _spread(grads_log, parts)).clamp(-4, 2),
                0.5 * (row * _spread(-row_log, parts).exp()).clamp(-4, 4)[None],
            ]
        )
        shapes = _of_shapes(tuple(tuple(p.shape) for p in params.values())).to(grad)
        lively = torch.stack([(grads_log + 6) / 2, row_log + 2, steady[0] + 1.5, steady[1] + 2])
        of_tensor = 0.2 * torch.cat([lively, shapes]).clamp(-4, 4)
        length = 0.3 * (state["steps"].to(grad.dtype).log() - 4.8)
        times = [progress(state, step, grad), length, *(torch.tanh((count - 1) / time - 1) for time in _TIMES)]
        # A tensor and the time are the same for many numbers: their shares of the first layer are computed once.
        weights, tensor_weights, time_weights = meta["first/weight"].split(_SEEN, -1)
        shared = tensor_weights @ of_tensor + (meta["first/bias"] + time_weights @ torch.stack(times))[:, None]
        pieces = [torch.addmm(shared[:, i : i + 1], weights, part) for i, part in enumerate(seen.split(parts, -1))]
        x = torch.relu(torch.cat(pieces, -1))
        x = torch.relu(torch.addmm(meta["second/bias"][:, None], meta["second/weight"], x))
        direction, size = torch.addmm(meta["output/bias"][:, None], meta["output/weight"], x)
        adam = directions[_MOMENTA.index(0.9)]
        moved = as_tensors(self.scale * size.clamp(-12, 6).exp() * (adam + direction), params)
        new = {name: p - moved[name] for name, p in params.items()}
        return new, {"steps": state["steps"], "m": after, "v": kept}


def _averaged(
    before: Float[Tensor, "numbers kinds"], decays: tuple[float, ...], value: Float[Tensor, " numbers"], count: Tensor
) -> tuple[Float[Tensor, "numbers kinds"], Float[Tensor, "kinds numbers"]]:
    """Running means of a value with several decays: as they are kept, and without their bias to zero, transposed."""
    decay = torch.tensor(decays, dtype=value.dtype, device=value.device)[:, None]
    now = decay * before.mT + (1 - decay) * value
    return now.mT, now / (1 - decay**count)


def _spread(values: Float[Tensor, " tensors"], parts: list[int]) -> Float[Tensor, " numbers"]:
    """A value of each tensor for each of its numbers."""
    return torch.cat([value.expand(part) for value, part in zip(values, parts, strict=True)])


RULES: dict[str, type[CoordinateRule]] = {"mlp": CoordinateMLP, "lstm": CoordinateLSTM, "rnnprop": CoordinateLSTM}
_USUAL_RATES = {"mlp": 2.5e-3, "lstm": 3e-3, "rnnprop": 1e-3}


def learned_optimizer(
    kind: Literal["mlp", "lstm", "rnnprop"] = "mlp",
    *,
    estimate: Literal["unrolled", "pes", "es", "backprop"] = "unrolled",
    truncation: int = 20,
    goal: Literal["curve", "end", "log"] = "curve",
    hidden: int | None = None,
    scale: float | None = None,
    sigma: float = 0.01,
    num_pairs: int = 2,
    first_order: bool | None = None,
) -> LearnedOptimizer:
    """A learned optimizer, the same small network for every number of whatever network it trains.

    Train it on training jobs: ``il.fit(il.learned_optimizer("mlp"), il.tasks.training_jobs(make_model, (x, y)), steps=400)``;
    use it: ``il.Optimizer(learner, model.parameters(), num_steps=500)``.

    Args:
        kind: "mlp": a perceptron on momenta, second moments and time (after Metz 2020; it also knows how long the run is, and
            begins near Adam); "lstm": two layers of LSTM on log and sign of the gradient (Andrychowicz 2016); "rnnprop": the same
            on Adam's normalised gradient and momentum, its output squashed (Lv 2017, without its scaling of coordinates).
        estimate: of the outer gradient: "unrolled": backpropagation through ``truncation`` steps at a time (`Unrolled`); "pes":
            persistent evolution strategies (`StaggeredPES`); "es": evolution strategies on whole runs; "backprop": through whole
            runs.
        truncation: steps in a part, of "unrolled" and "pes" (20 in Andrychowicz 2016).
        goal: "curve": the mean of the losses along the run, as in the papers; "log": of their logarithms, so that a percent
            counts as much late as early; "end": late losses weigh more (with "unrolled" the early steps then learn little).
        hidden: width; None: 16 for the perceptron, 20 for the LSTMs.
        scale: of the step; None: 0.03 for the perceptron (the rate of Adam that it begins near), 0.1 for the LSTMs.
        sigma, num_pairs: of "pes" and "es": deviation of the perturbations, and pairs for each run.
        first_order: the derivative of gradients by weights is dropped in the outer gradient, as in Andrychowicz 2016; None: for
            the LSTMs, while the perceptron, which is trained at hardly any more cost with it, needs it.

    Raises:
        ConfigError: an unknown word, or a number out of range.

    Example:
        >>> import innerloop as il
        >>> il.learned_optimizer("mlp")
        LearnedOptimizer(learned_optimizer, 658 learned numbers, runs of up to 100 steps)
    """
    expect_choice("kind", kind, tuple(RULES))
    given: dict[str, Any] = {}
    if hidden is not None:
        expect_whole("hidden", hidden)
        given["hidden"] = hidden
    if scale is not None:
        expect_above_zero("scale", scale)
        given["scale"] = scale
    first_order = kind != "mlp" if first_order is None else first_order
    rule = RULES[kind](**given, **({"adam_like": True} if kind == "rnnprop" else {}))
    options = {
        "kind": kind, "estimate": estimate, "truncation": truncation, "goal": goal, "hidden": hidden, "scale": scale,
        "sigma": sigma, "num_pairs": num_pairs, "first_order": first_order,
    }  # fmt: skip
    made = LearnedOptimizer(
        rule,
        *estimator(estimate, truncation, sigma, num_pairs),
        first_order=first_order,
        goal=expect_goal(goal),
        outer=Outer(lr=_USUAL_RATES[kind], num_tasks=16, clip_norm=1.0),
    )
    made.made_by("learned_optimizer", options)
    return made


learned_optimizer.flags = ("kind",)  # type: ignore[attr-defined]  # on the command line too


def estimator(estimate: str, truncation: int, sigma: float, num_pairs: int) -> tuple[str, dict[str, Any]]:
    """(its name, its settings)."""
    expect_choice("estimate", estimate, tuple(ESTIMATES))
    settings: dict[str, Any] = {"truncation": truncation} if estimate in ("unrolled", "pes") else {}
    return estimate, settings | ({"sigma": sigma, "num_pairs": num_pairs} if estimate in ("pes", "es") else {})


def expect_goal(goal: Any) -> str:
    """ConfigError for another than "curve", "end" and "log"."""
    expect_choice("goal", goal, ("curve", "end", "log"))
    return goal
