"""Somebody's own model is differentiated once before it is trusted: an inner step, second derivatives, vmap against the loop.

All of it on a copy, in float64 where the model can, on a few examples; nothing that the model draws from or keeps is touched.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Examples, Meta, Task, batch_size
from innerloop.engine import take
from innerloop.errors import ConfigError, InnerloopError, first_line
from innerloop.functional import PureModel, inner_gradient
from innerloop.functional.curvature import APART, contradiction, culprit
from innerloop.functional.randomness import UNSEEDED, drawn, kept
from innerloop.learners import GradientLearner
from innerloop.learners.gradient import by_gradients
from innerloop.meta_learner.boundary import moved
from innerloop.meta_learner.trial import some_rows
from innerloop.objectives import losses

# How far vmap and the loop may be apart, relatively: a wrong batching rule of torch's leaves 3e-3 and more.
_SAME = {torch.float64: 1e-7}
_SAME_OTHERWISE = 1e-3


class Derivatives(NamedTuple):
    """What differentiating has shown.

    Attributes:
        random: it draws random numbers by itself.
        vmap: what vmap has against it; "": nothing.
        lacking: which function has no second derivative, or a wrong one; "": none, or nobody needs it.
        note: what its owner should know besides.
    """

    random: bool = False
    vmap: str = ""
    lacking: str = ""
    note: str = ""


def needs_second(learner: BaseLearner, order: str) -> bool:
    """Whether meta-training differentiates the model's gradient."""
    return by_gradients(learner) and not learner.first_order and order in ("second", "truncated", "implicit")


def try_derivatives(
    pure: PureModel, learner: BaseLearner, meta: Meta, batch: Task, *, training: bool, second: bool, loops: bool
) -> Derivatives:
    """Differentiate the support loss of a learner that descends one, the sum of the outputs of any other.

    Args:
        pure, learner, meta: as they are; not changed.
        batch: checked tasks with a key each.
        training: as in meta-training; else as on a new task.
        second: second derivatives are needed.
        loops: tasks are looped anyway, so vmap need not be tried.

    Raises:
        ConfigError: not even a first derivative.
    """
    with kept(pure.module):
        trial = _Trial(pure, learner if training else learner.in_evaluation(), meta, batch, training)
        random = trial.draws()
        trial.differentiate()
        lacking, note = trial.second_derivatives() if second else ("", "")
        return Derivatives(random, "" if loops or random else trial.under_vmap(second and not lacking), lacking, note)


def expect_derivatives(name: str, lacking: str) -> None:
    """Raise ConfigError where meta-training by the method ``name`` needs derivatives that the model has not."""
    if lacking:
        raise ConfigError(
            f"{name} needs second derivatives, and torch has no right one of {lacking}; use il.fomaml, which needs first ones "
            "alone, or write that part of the model from other functions"
        )


class _Trial:
    """A copy of a model and its learner, and two small tasks.

    Attributes:
        at: the parameters that train, in the order of ``names``.
        inner: which of them an inner step is a gradient by; none for a learner that takes no inner steps.
        exact: all of it is in float64.
    """

    def __init__(self, pure: PureModel, learner: BaseLearner, meta: Meta, batch: Task, training: bool) -> None:
        self.pure, self.training = pure.copied(), training
        self.learner = copy.copy(learner)
        self.steps = by_gradients(learner)
        self.labelled = isinstance(batch.support, Examples)
        if self.steps or not self.labelled:
            object.__setattr__(self.learner, "model", self.pure)
        whole = not self.labelled or (self.steps and type(learner).init is not GradientLearner.init)
        self.tasks = [take(batch, i) for i in (0, min(1, batch_size(batch) - 1))]
        trains = {n for n, p in self.pure.module.named_parameters() if p.requires_grad and p.is_floating_point()}
        self.names = [name for name in meta.params if name in trains]
        adapted = getattr(learner, "adapted", ()) if self.steps else ()
        self.inner = [i for i, name in enumerate(self.names) if name in adapted]
        self._in(meta)
        if not whole:
            all_rows = self.tasks
            self.tasks = [dataclasses.replace(task, support=some_rows(task.support)) for task in self.tasks]
            try:
                self.passed()
            except Exception:  # it may want all of them
                self.tasks = all_rows
        self.exact = self._in_float64(meta)

    def _in(self, meta: Meta, dtype: torch.dtype | None = None) -> None:
        buffers = {name: b for name, b in self.pure.module.named_buffers() if name not in meta.buffers}
        self.buffers = tuple(buffers)
        values = ({**buffers, **meta.params}, meta.rule, meta.buffers)
        kinds = {} if dtype is None else {True: torch.complex128, False: dtype}

        def cast(v: Tensor) -> Tensor:
            return v.to(kinds.get(v.is_complex())) if v.is_floating_point() or v.is_complex() else v

        self.meta = Meta(*(pytree.tree_map(cast, part) for part in values))
        self.at = [self.meta.params[name].detach() for name in self.names]

    def _in_float64(self, meta: Meta) -> bool:
        """Go over to float64 where the model can."""
        device = self.at[0].device if self.at else torch.device("cpu")
        before = self.meta, self.at, self.tasks
        try:
            self._in(meta, torch.float64)
            self.tasks = [moved(task, torch.float64, device) for task in self.tasks]
            if self.passed().dtype != torch.float64:
                raise TypeError
        except Exception:  # it holds constants in another type, or goes over to one: told where it matters
            self.meta, self.at, self.tasks = before
            return False
        return True

    # ---- what is differentiated --------------------------------------------------------------------------------------
    def value(self, at: Sequence[Tensor], task: Task) -> Tensor:
        """What an inner step descends; of a learner without inner steps the outputs, weighted."""
        params = dict(zip(self.names, at, strict=True))
        written = {name: self.meta.params[name].clone() for name in self.buffers}  # a pass may write what it is given
        meta = self.meta._replace(params={**self.meta.params, **written, **params})
        if not self.steps and not self.labelled:  # what it has adapted to is judged by the objective alone
            fast = self.learner.adapt(meta, task, self.learner.inner_steps)
            objective = losses.as_objective(task.objective)
            return objective.loss(
                self.learner.as_model(meta, fast), objective.data(task.query, task.shared), task.noise
            )
        if not self.steps:
            x = task.support.x
            output = self.pure.apply(meta.params, meta.buffers, x, training=self.training, noise=task.noise)[0]
            parts = [v for v in pytree.tree_leaves(output) if isinstance(v, Tensor) and v.is_floating_point()]
            weights = [
                torch.linspace(0.5, 1.5, v.numel(), dtype=v.dtype, device=v.device).reshape(v.shape) for v in parts
            ]
            return torch.stack([(v * w).sum() for v, w in zip(parts, weights, strict=True)]).sum()
        fast = self.learner.init(meta, task)  # type: ignore[attr-defined]
        return self.learner.support_loss(meta, fast, fast.params, self.learner.batch(task, 0))[0]  # type: ignore[attr-defined]

    def draws(self) -> bool:
        """Whether a pass moves a source of random numbers.

        Raises:
            ConfigError: it draws from one that cannot be found.
        """
        before = drawn(self.pure.module)
        first = self.passed()
        found = drawn(self.pure.module) != before
        if found:
            self.pure.draws_itself = self.pure.draws_noise = True
            first = self.passed()
        if not torch.allclose(first, self.passed(), rtol=1e-4, atol=1e-30, equal_nan=True):
            raise ConfigError(UNSEEDED)
        return found

    def passed(self) -> Tensor:
        with torch.no_grad():
            return self.value(self.at, self.tasks[0])

    def differentiate(self) -> None:
        """A first derivative."""
        at = [p.detach().requires_grad_() for p in self.at]
        try:
            with torch.enable_grad():
                value = self.value(at, self.tasks[0])
            drawn_anew = getattr(self.learner, "start", None) is not None
            if self.inner and not value.requires_grad and not drawn_anew:
                raise ConfigError(
                    "the model's output has no gradient by its parameters, so there is nothing to adapt by; leave torch.no_grad, "
                    ".detach and numpy out of its forward pass"
                )
            if value.requires_grad:
                torch.autograd.grad(value, at, allow_unused=True)
        except InnerloopError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the model's gradient cannot be taken: {first_line(error)}; mend its forward pass"
            ) from error

    def second_derivatives(self) -> tuple[str, str]:
        """(which function has none or a wrong one, what else there is to say)."""

        def value(at: Sequence[Tensor]) -> Tensor:
            return self.value(at, self.tasks[0])

        if not self.exact:
            try:
                self.outer(self.at, self.tasks[0], True)
            except (RuntimeError, NotImplementedError) as error:
                return first_line(error), ""
            return "", (
                "second derivatives were not compared with differences, for the model cannot compute in float64; hold constant "
                "tensors in buffers (register_buffer)"
            )
        try:
            if contradiction(value, self.at, self.inner) <= APART:
                return "", ""
            why = ""
        except (RuntimeError, NotImplementedError) as error:
            why = first_line(error)
        at = [p.detach().requires_grad_() for p in self.at]
        found = culprit(lambda: value(at))
        if found is None and not why:
            return "", (
                "the model's second derivatives are not the differences of its gradient: part of it is held constant (.detach(), "
                "torch.no_grad(), a straight-through estimator); il.check_meta_gradient shows what that changes"
            )
        if found is None:
            return why, ""
        function, reason, tensors = found
        names = [name for name, p in zip(self.names, at, strict=True) if any(p is t for t in tensors)]
        return f"{function}{f' ({names[0]})' if names else ''}: {why or reason}", ""

    # ---- vmap --------------------------------------------------------------------------------------------------------
    def outer(self, at: Sequence[Tensor], task: Task, second: bool) -> tuple[list[Tensor], Tensor]:
        """(inner gradient, a scalar of value and inner gradient whose derivative holds second ones)."""
        if not self.inner:
            value = self.value(at, task)
            return [], value

        def loss(adapted: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            value = self.value([adapted.get(name, p) for name, p in zip(self.names, at, strict=True)], task)
            return value, value

        here = {self.names[i]: at[i] for i in self.inner}
        grads, value = inner_gradient(loss, here, not second)
        if not second:
            return list(grads.values()), self.value(at, task)
        return list(grads.values()), value + torch.stack([(g * g).sum() for g in grads.values()]).sum()

    def under_vmap(self, second: bool) -> str:
        """What vmap has against the model; "" where it computes what the loop does."""
        apart = [
            [
                p,
                p
                + 1e-2
                * p.abs().mean()
                * torch.linspace(-1, 1, p.numel(), dtype=p.dtype, device=p.device).reshape(p.shape),
            ]
            for p in self.at
        ]
        both = [torch.stack(pair).detach().requires_grad_() for pair in apart]
        leaves = [[p[i].detach().requires_grad_() for p in both] for i in range(2)]
        looped = [
            self._gradients(lambda i=i: self.outer(leaves[i], self.tasks[i], second), leaves[i]) for i in range(2)
        ]
        tasks = pytree.tree_map(lambda *v: torch.stack(v), *self.tasks)

        def together() -> tuple[list[Tensor], Tensor]:
            slopes, values = torch.vmap(lambda at, task: self.outer(at, task, second))(both, tasks)
            return slopes, values.sum()

        try:
            slopes, products, value = self._gradients(together, both)
        except Exception as error:  # whatever it is, the loop goes
            return first_line(error)
        expected = [torch.stack(pair) for pair in zip(*(one[0] + one[1] for one in looped), strict=True)]
        expected.append(sum(one[2] for one in looped))  # type: ignore[arg-type]
        same = _SAME.get(value.dtype, _SAME_OTHERWISE)
        largest = max(float(e.abs().max()) for e in expected if e.numel())
        worst = max(
            float((e - f).abs().max()) for e, f in zip(expected, [*slopes, *products, value], strict=True) if e.numel()
        )
        return "" if worst <= same * largest else f"vmap and the loop are {worst / max(largest, 1e-300):.0e} apart"

    @staticmethod
    def _gradients(
        function: Callable[[], tuple[list[Tensor], Tensor]], at: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        with torch.enable_grad():
            slopes, value = function()
        products = [torch.zeros_like(p) for p in at]
        if value.requires_grad:
            products = list(torch.autograd.grad(value, list(at), allow_unused=True, materialize_grads=True))
        return [s.detach() for s in slopes], products, value.detach()
