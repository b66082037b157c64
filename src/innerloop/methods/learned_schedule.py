"""Learned schedules: the hyperparameters of a known optimizer, a value for each step of the run and each tensor of the network.

The rule and the factory. Learned in log space with a floor: rates that were learned without one became negative.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import BaseLearner, UpdateRule
from innerloop.errors import ConfigError, expect_above_zero, nearest
from innerloop.meta_learner.learned_optimizer import LearnedOptimizer
from innerloop.meta_learner.outer import Outer
from innerloop.methods.learned_optimizer import estimator, expect_goal
from innerloop.methods.pairing import expect_choice
from innerloop.rules.learned import LearnedRule, progress, sane
from innerloop.rules.tuned import BASE_RULES, Hyper, base_update, begin_base

_WAYS = {
    "lr": ("lr",), "betas": ("beta1", "beta2"), "momentum": ("momentum",), "weight_decay": ("weight_decay",)
}  # fmt: skip
_MOST_ROWS = 200  # longer runs share rows


@dataclasses.dataclass(frozen=True)
class Schedule(LearnedRule):
    """A base rule whose hyperparameters are looked up by step and tensor.

    What is above 0 is ``floor + exp(learned)``, what lies between 0 and 1 ``sigmoid(learned)``.

    Args:
        base: "sgd", "momentum" or "adam".
        learn: names of hyperparameters that are learned.
        by_step, by_tensor: whether there is a value for each.
        start: all hyperparameters where they begin, or stay.
        floor: of rates and of the decay of weights.
        rows: how many steps have values of their own; a longer run passes through them evenly.
        tensors: how many tensors.
    """

    base: str
    learn: tuple[str, ...]
    by_step: bool
    by_tensor: bool
    start: tuple[tuple[str, float], ...]
    floor: float
    rows: int = 1
    tensors: int = 1

    coordinate_wise = False

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        del params, generator
        start, shape = dict(self.start), (self.rows if self.by_step else 1, self.tensors if self.by_tensor else 1)
        return {name: torch.full(shape, self._free(name, start[name])) for name in self.learn}

    def _free(self, name: str, value: float) -> float:
        if _between(name):
            return math.log(value / (1 - value))
        return math.log(max(value - self.floor, 0.01 * self.floor))

    def values(self, meta: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "rows tensors"]]:
        """The learned hyperparameters themselves."""
        return {n: meta[n].sigmoid() if _between(n) else self.floor + meta[n].exp() for n in self.learn}

    def begin(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        del meta
        return {"steps": steps, **begin_base(self.base, params)}

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
        like = next(iter(params.values()))
        known: dict[str, Any] = dict(self.start)
        for name, value in self.values(meta).items():
            rows = value.shape[0]
            at = (progress(state, step, like) * (rows - 1)).round().long()
            row = value[0] if rows == 1 else (value * (torch.arange(rows, device=value.device) == at)[:, None]).sum(0)
            known[name] = row  # (tensors,) or (1,)
        each = {
            name: Hyper(**{k: v[i if len(v) > 1 else 0] if isinstance(v, Tensor) else v for k, v in known.items()})
            for i, name in enumerate(params)
        }
        kept = {kind: value for kind, value in state.items() if kind != "steps"}
        new, kept = base_update(self.base, sane(grads, params), kept, params, each)
        return new, {"steps": state["steps"], **kept}

    def parted(self, state: Mapping[str, Any], params: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        return {name: {kind: state[kind][name] for kind in state if kind != "steps"} for name in params}

    def joined(self, parts: Mapping[str, Mapping[str, Tensor]], steps: Tensor) -> dict[str, Any]:
        kinds = next(iter(parts.values()))
        return {"steps": steps, **{kind: {name: part[kind] for name, part in parts.items()} for kind in kinds}}


def _between(name: str) -> bool:
    """Whether a hyperparameter lies between 0 and 1, the other ones being above 0."""
    return name in ("beta1", "beta2", "momentum")


class LearnedSchedule(LearnedOptimizer):
    """A `LearnedOptimizer` whose parameters have the shape of the first runs that it meets.

    Attributes:
        tensors: shapes of the network's tensors, in order; None: no run was met yet.
    """

    tensors: tuple[tuple[int, ...], ...] | None = None

    @property
    def schedule(self) -> Schedule:
        """The rule, its length and number of tensors as they are."""
        assert isinstance(self.rule_of_runs, Schedule)
        return self.rule_of_runs

    def values(self) -> dict[str, Float[Tensor, "rows tensors"]]:
        """What was learned: {hyperparameter: (steps, tensors)}, 1 where there is one value for all."""
        return self.schedule.values({name: p.detach() for name, p in self.model.named_parameters()})

    def suit(self, params: Mapping[str, Tensor], steps: int) -> None:
        shapes = tuple(tuple(p.shape) for p in params.values())
        if self.tensors is None:
            self.take_shape(shapes, steps)
        elif self.schedule.by_tensor and shapes != self.tensors:
            raise ConfigError(
                f"the schedule expected the tensors that it was learned for, {_said(self.tensors)}, got {_said(shapes)}; use it "
                'for the same network, or learn one with per=["step"]'
            )
        super().suit(params, steps)

    def take_shape(self, shapes: Sequence[Sequence[int]], steps: int) -> None:
        """Rows for runs of so many steps and columns for tensors of these shapes, all as they begin."""
        rows = min(steps, _MOST_ROWS)
        rule = dataclasses.replace(self.schedule, rows=rows, tensors=len(shapes))
        for name, value in rule.init_meta({}, None).items():
            p = self.model.get_parameter(name)
            p.data, p.grad = value.to(p), None
        self.rule_of_runs: UpdateRule = rule
        self.learner: BaseLearner = dataclasses.replace(self.learner, rule=rule)  # type: ignore[type-var, call-arg]
        self.meta_gradient.learner = self.learner  # type: ignore[attr-defined]
        self.tensors = tuple(tuple(shape) for shape in shapes)
        self.made_by(self.name, {**self.options, "tensors": [list(shape) for shape in self.tensors], "rows": rows})


def _said(shapes: Sequence[Sequence[int]]) -> str:
    few = [str(tuple(shape)) for shape in shapes[:4]]
    return ", ".join(few) + (f" and {len(shapes) - 4} more" if len(shapes) > 4 else "")


def learned_schedule(
    base: Literal["sgd", "momentum", "adam"] = "adam",
    *,
    learn: Sequence[str] = ("lr",),
    per: Sequence[str] = ("step", "tensor"),
    lr: float | None = None,
    betas: Sequence[float] = (0.9, 0.999),
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    floor: float = 1e-6,
    estimate: Literal["unrolled", "pes", "es", "backprop"] = "backprop",
    truncation: int = 20,
    goal: Literal["curve", "end", "log"] = "curve",
    sigma: float = 0.1,
    num_pairs: int = 2,
    first_order: bool = False,
    rows: int | None = None,
    tensors: Sequence[Sequence[int]] | None = None,
) -> LearnedSchedule:
    """SGD, momentum or Adam with learned hyperparameters, a value for each step and each tensor.

    It is learned for one network, whose tensors it knows by order and shape (with ``per=["step"]`` for any), and for a length of
    runs; another length passes through the same values more slowly or quickly.

    Args:
        base: "sgd", "momentum" or "adam".
        learn: of "lr", "betas" (Adam), "momentum" (momentum) and "weight_decay" (decoupled).
        per: "step", "tensor", both, or none: one value for all.
        lr: rate where it begins; None: 0.01 for Adam, 0.1 for SGD and momentum.
        betas, momentum, weight_decay: where they begin; those that are not learned stay, but that there is no decay then.
        floor: of rates and decay, above 0.
        estimate: of the outer gradient, as of `il.learned_optimizer`; for runs of many hundred steps "unrolled" or "pes".
        truncation, sigma, num_pairs, goal: likewise; ``sigma`` is in the logarithm of a rate.
        first_order: drop the derivative of gradients by weights in the outer gradient.
        rows, tensors: steps and shapes of the network that it is for; None: of the first jobs that it meets. A file has them.

    Raises:
        ConfigError: an unknown word, or a number out of range.

    Example:
        >>> import innerloop as il
        >>> il.learned_schedule("adam", learn=["lr", "betas"], per=["step"]).schedule.learn
        ('lr', 'beta1', 'beta2')
    """
    expect_choice("base", base, tuple(BASE_RULES))
    lr = (0.01 if base == "adam" else 0.1) if lr is None else lr
    for name, number in (("lr", lr), ("weight_decay", weight_decay), ("floor", floor)):
        expect_above_zero(name, number)
    for name, number in (("betas[0]", betas[0]), ("betas[1]", betas[-1]), ("momentum", momentum)):
        if not 0 < number < 1:
            raise ConfigError(f"{name} expected a number between 0 and 1, got {number!r}")
    learned = _learned(base, learn)
    unknown = [word for word in per if word not in ("step", "tensor")]
    if isinstance(per, str) or unknown:
        raise ConfigError(f'per expected a list of "step" and "tensor", got {per!r}')
    start = {"lr": lr, "beta1": betas[0], "beta2": betas[-1], "momentum": momentum}
    start["weight_decay"] = weight_decay if "weight_decay" in learned else 0.0
    rule = Schedule(base, learned, "step" in per, "tensor" in per, tuple(start.items()), floor)
    options: dict[str, Any] = {
        "base": base, "learn": list(learn), "per": list(per), "lr": lr, "betas": list(betas), "momentum": momentum,
        "weight_decay": weight_decay, "floor": floor, "estimate": estimate, "truncation": truncation, "goal": goal,
        "sigma": sigma, "num_pairs": num_pairs, "first_order": first_order, "rows": None, "tensors": None,
    }  # fmt: skip
    made = LearnedSchedule(
        rule,
        *estimator(estimate, truncation, sigma, num_pairs),
        first_order=first_order,
        goal=expect_goal(goal),
        outer=Outer(lr=0.03, num_tasks=16, clip_norm=1.0),
    )
    made.made_by("learned_schedule", options)
    if (rows is None) != (tensors is None):
        raise ConfigError("expected rows and tensors together, or neither; leave both out to take those of the jobs")
    if rows is not None and tensors is not None:
        made.take_shape(tensors, rows)
    return made


learned_schedule.flags = ("base",)  # type: ignore[attr-defined]  # on the command line too


def _learned(base: str, learn: Collection[str]) -> tuple[str, ...]:
    """The names of what is learned."""
    has = {"sgd": ("lr", "weight_decay"), "momentum": ("lr", "momentum", "weight_decay")}
    known = has.get(base, ("lr", "betas", "weight_decay"))
    if isinstance(learn, str) or not learn:
        raise ConfigError(f"learn expected a list of {', '.join(known)}, got {learn!r}")
    for word in learn:
        if word not in known:
            raise ConfigError(f"learn: {base} has no {word!r}: {nearest(word, known)}")
    return tuple(name for word in dict.fromkeys(learn) for name in _WAYS[word])
