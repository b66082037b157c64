"""Update rules that do again what they did in a first run: the outer loss with a part of the inner loop held constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.core import BaseLearner, Meta, UpdateRule
from innerloop.learners.gradient import GradientLearner

Values = dict[str, Tensor]
MeanLoss = Callable[[Meta, BaseLearner], Tensor]


class HeldRule(UpdateRule):
    """A rule whose first run is on ``tape``; in every later one, begun by ``position = 0``, it takes from there."""

    def __init__(self, rule: UpdateRule) -> None:
        self.rule = rule
        self.tape: list[Any] = []
        self.position: int | None = None  # None: record

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Any:
        return self.rule.init(meta, params)

    def next(self) -> Any:
        """What is on the tape at this place of a later run."""
        assert self.position is not None
        self.position += 1
        return self.tape[self.position - 1]


class HeldGradients(HeldRule):
    """A rule that records the inner gradients of a first run and uses the same numbers in every later one.

    The outer loss computed with it is the function whose gradient a first-order method takes.
    """

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
        if self.position is None:
            held = {name: g.detach().clone() for name, g in grads.items()}
            self.tape.append(held)
        else:
            held = self.next()
        return self.rule.update(meta, held, state, params, loss=loss, step=step)


class HeldSteps(HeldRule):
    """A rule whose early steps go where they went in a first run, wherever they begin."""

    def __init__(self, rule: UpdateRule, early: int) -> None:
        super().__init__(rule)
        self.early = early

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
        if step >= self.early:
            return self.rule.update(meta, grads, state, params, loss=loss, step=step)
        if self.position is None:
            new, state = self.rule.update(meta, grads, state, params, loss=loss, step=step)
            self.tape.append(({name: p - params[name] for name, p in new.items()}, state))
            return new, state
        by, state = self.next()
        return {name: p + by[name] for name, p in params.items()}, state


def held_loss(inner: GradientLearner, rule: HeldRule, centre: Meta, mean_loss: MeanLoss) -> Callable[[Meta], Tensor]:
    """The outer loss as a function of meta by this rule, which is first run at ``centre``."""
    replay = dataclasses.replace(inner, rule=rule)
    with torch.no_grad():
        mean_loss(centre, replay)

    def loss(meta: Meta) -> Tensor:
        rule.position = 0
        return mean_loss(meta, replay)

    return loss
