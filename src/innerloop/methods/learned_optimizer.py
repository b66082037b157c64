"""Learned optimizers: small networks that are shown each number's gradient and say how it moves, one network for all numbers.

The rules and the factory. LSTM: Andrychowicz et al. 2016, arXiv:1606.04474; RNNprop: Lv, Jiang and Li 2017, arXiv:1703.03633;
MLP: Metz et al. 2020, arXiv:2009.11243.
"""

from __future__ import annotations

import dataclasses
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
_MOMENTA = (0.5, 0.9, 0.99, 0.999)
_SECOND = 0.999
_TIMES = (1.0, 10.0, 100.0, 1000.0)  # of the time features tanh(step / time - 1)


def _layer(inputs: int, outputs: int, generator: torch.Generator | None, scale: float = 1.0) -> dict[str, Tensor]:
    """Uniform within scale / sqrt(inputs), biases zero."""
    spread = scale / math.sqrt(inputs)
    drawn = torch.rand(outputs, inputs, generator=generator, dtype=torch.float64)
    return {"weight": (spread * (2 * drawn - 1)).to(torch.get_default_dtype()), "bias": torch.zeros(outputs)}


def _named(layers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{layer}/{kind}": value for layer, kinds in layers.items() for kind, value in kinds.items()}


def _through(meta: Mapping[str, Tensor], layer: str, x: Float[Tensor, "numbers inputs"]) -> Tensor:
    return torch.nn.functional.linear(x, meta[f"{layer}/weight"], meta[f"{layer}/bias"])


def _moments(
    grad: Float[Tensor, " numbers"], state: Mapping[str, Any], betas: tuple[float, ...], beta2: float, step: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(momenta (numbers, betas), second moment (numbers,), both as they are kept, then both without their bias to zero)."""
    decay = torch.tensor(betas, dtype=grad.dtype, device=grad.device)
    m = decay * state["m"] + (1 - decay) * grad[:, None]
    v = beta2 * state["v"] + (1 - beta2) * grad.square()
    count = torch.as_tensor(step, device=grad.device).to(grad.dtype) + 1
    return m, v, m / (1 - decay**count), v / (1 - beta2**count)


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
        return state | ({"m": like.new_zeros(number, 1), "v": like.new_zeros(number)} if self.adam_like else {})

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
            after["m"], after["v"], m, v = _moments(grad, state, (0.95,), 0.95, step)  # the paper's decays
            root = (v + _EPS).sqrt()
            x = torch.stack([grad / root, m[:, 0] / root], -1).detach()
        else:
            x = preprocess(grad, self.p).T.detach()
        for i in range(2):
            both = torch.cat([x, state[f"hidden{i}"]], -1)
            write, keep, read, value = _through(meta, f"lstm{i}", both).chunk(4, -1)
            cell = (keep + 1).sigmoid() * state[f"cell{i}"] + write.sigmoid() * value.tanh()
            x = read.sigmoid() * cell.tanh()
            after |= {f"hidden{i}": x, f"cell{i}": cell}
        moved = _through(meta, "output", x)[:, 0]
        moved = as_tensors(self.scale * (moved.tanh() if self.adam_like else moved), params)
        return {name: p + moved[name] for name, p in params.items()}, after


@dataclasses.dataclass(frozen=True)
class CoordinateMLP(CoordinateRule):
    """``w <- w - scale * exp(size) * (m / sqrt(v) + direction)``, size and direction from a perceptron.

    For each number it sees the gradient and four momenta over the root of the second moment, the logarithm of that root, the
    number beside the root mean square of its tensor, and the time: how far the run is, and four saturating counts of steps. Its
    last layer begins near zero, so it begins near Adam with a rate of ``scale``.

    Args:
        hidden: width of both hidden layers.
        scale: rate where it begins.
    """

    hidden: int = 16
    scale: float = 0.03

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params
        inputs = 1 + len(_MOMENTA) + 1 + 2 + 1 + len(_TIMES)
        first, second = _layer(inputs, self.hidden, generator), _layer(self.hidden, self.hidden, generator)
        return _named({"first": first, "second": second, "output": _layer(self.hidden, 2, generator, 0.1)})

    def begin(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        del meta
        like, number = next(iter(params.values())), sum(p.numel() for p in params.values())
        return {"steps": steps, "m": like.new_zeros(number, len(_MOMENTA)), "v": like.new_zeros(number)}

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
        grad, row = in_a_row(sane(grads, params)), in_a_row(params).detach()
        kept_m, kept_v, m, v = _moments(grad, state, _MOMENTA, _SECOND, step)
        root = (v + _EPS).sqrt()
        sizes = [p.detach().square().mean().sqrt().expand(p.numel()) for p in params.values()]
        size = torch.cat(sizes) + 1e-6
        number = [
            (grad / root)[:, None],
            m / root[:, None],
            (root.log() / 10)[:, None],
            (row / size)[:, None].clamp(-10, 10),
            (size.log() / 10)[:, None],
        ]
        seen = torch.cat(number, -1).detach()
        count = torch.as_tensor(step, device=grad.device).to(grad.dtype)
        times = torch.stack([progress(state, step, grad), *(torch.tanh(count / time - 1) for time in _TIMES)])
        # The time is the same for all numbers: its share of the first layer is computed once.
        weight, bias = meta["first/weight"], meta["first/bias"]
        of_number, of_time = weight.split([seen.shape[-1], len(times)], -1)
        x = torch.relu(torch.nn.functional.linear(seen, of_number, bias + of_time @ times))
        x = torch.relu(_through(meta, "second", x))
        direction, magnitude = _through(meta, "output", x).unbind(-1)
        adam = seen[:, 1 + _MOMENTA.index(0.9)]
        moved = as_tensors(self.scale * magnitude.clamp(-12, 6).exp() * (adam + direction), params)
        new = {name: p - moved[name] for name, p in params.items()}
        return new, {"steps": state["steps"], "m": kept_m, "v": kept_v}


RULES: dict[str, type[CoordinateRule]] = {"mlp": CoordinateMLP, "lstm": CoordinateLSTM, "rnnprop": CoordinateLSTM}
_USUAL_RATES = {"mlp": 5e-3, "lstm": 3e-3, "rnnprop": 1e-3}


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
    first_order: bool = True,
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
        first_order: as in the papers, the derivative of gradients by weights is dropped in the outer gradient.

    Raises:
        ConfigError: an unknown word, or a number out of range.

    Example:
        >>> import innerloop as il
        >>> il.learned_optimizer("mlp")
        LearnedOptimizer(learned_optimizer, 530 learned numbers, runs of up to 100 steps)
    """
    expect_choice("kind", kind, tuple(RULES))
    given: dict[str, Any] = {}
    if hidden is not None:
        expect_whole("hidden", hidden)
        given["hidden"] = hidden
    if scale is not None:
        expect_above_zero("scale", scale)
        given["scale"] = scale
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
