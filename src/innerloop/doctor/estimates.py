"""What each estimator of the outer gradient claims to compute, computed again in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from innerloop.core import BaseLearner, Meta, Task, batch_size
from innerloop.doctor.held_rules import HeldGradients, HeldSteps, Values, held_loss
from innerloop.doctor.other_estimates import first_part, from_the_solution, perturbed_losses
from innerloop.engine import gradient, take
from innerloop.engine.engine import weighted_mean
from innerloop.learners.gradient import GradientLearner, by_gradients
from innerloop.meta_gradients import ES, PES, Backprop, Implicit, Truncated
from innerloop.meta_gradients.solutions import FromSolutions
from innerloop.meta_learner.meta_learner import MetaLearner

INERT = 1e-12  # of the largest number in the gradient: what rounding leaves of a zero


@runtime_checkable
class OwnClaim(Protocol):
    """An estimator of something else than the gradient of the outer loss.

    Attributes:
        order: as of every estimator.
        says: of what, in words.
    """

    order: str
    says: str


@runtime_checkable
class OfAnotherLoss(OwnClaim, Protocol):
    """An estimator of the gradient of another loss than the outer one.

    Attributes:
        definition: that loss in words.
    """

    definition: str

    def minimised(self, meta: Meta, tasks: Task, outer_step: int) -> Tensor:
        """That loss, of all tasks."""
        ...


@runtime_checkable
class OfSolutions(OwnClaim, Protocol):
    """An estimator that is ``meta`` minus the mean of where the tasks' inner loops end.

    Attributes:
        definition: the same in words.
        learner: whose inner loops they are.
    """

    definition: str
    learner: GradientLearner

    def start(self, carry: Values, meta: Meta) -> Meta:
        """Where each inner loop begins."""
        ...


@dataclasses.dataclass(frozen=True)
class Claim:
    """What an estimator claims.

    Attributes:
        order: "second", "first" or "none".
        text: the same in words.
        definition: what exactly is computed, where that is not the gradient of the outer loss.
        loss: the function whose gradient it claims to be; None: it claims no such thing.
        vector: the estimate by its definition, in a plain loop over tasks; None where ``loss`` says it.
        parallel: tasks are run beside each other in training, so that loop and vmap can differ.
    """

    order: str
    text: str
    definition: str = ""
    loss: Callable[[Meta], Tensor] | None = None
    vector: Callable[[], Values] | None = None
    parallel: bool = True


def claim(learner: MetaLearner, tasks: Task, seeded: Callable[[], None]) -> Claim:
    """The claim of this learner's estimator on these tasks, at its present outer step.

    Args:
        learner: in float64.
        tasks: a checked batch, with noise.
        seeded: called before every evaluation, for models that draw from torch's global generator.
    """
    estimator, inner, step = learner.meta_gradient, learner.learner, learner.outer_step

    def mean_loss(meta: Meta, of: BaseLearner) -> Tensor:
        seeded()
        losses = [of.meta_loss(meta, take(tasks, i), step)[0] for i in range(batch_size(tasks))]
        return torch.stack(losses).mean()

    if isinstance(estimator, OwnClaim):
        return _own_claim(estimator, learner, tasks, seeded)
    if isinstance(estimator, Truncated) and estimator.order == "truncated" and by_gradients(inner):
        steps = estimator.steps
        text = f"truncated: through the last {steps} of {inner.inner_steps} inner steps; no gradient of the outer loss"
        definition = "the outer loss with what the earlier inner steps changed held constant"
        rule = HeldSteps(inner.rule, inner.inner_steps - steps)
        return Claim("truncated", text, definition, held_loss(inner, rule, learner.meta(), mean_loss))
    if isinstance(estimator, Implicit):
        exact = "" if estimator.damping == 0 else f", damped by {estimator.damping:g}"
        text = (
            f"implicit: by {estimator.cg_steps} steps of conjugate gradients{exact}; the gradient of the outer loss only where "
            "the inner problem is solved, without damping and with enough steps"
        )
        definition = "((1 + damping) I + H / strength) x = grad L_query solved by so many steps"
        return Claim("implicit", text, definition, vector=lambda: from_the_solution(estimator, learner.meta(), tasks))
    if isinstance(estimator, ES | PES):
        smoothed = f"the outer loss smoothed by noise of {estimator.sigma:g}"
        kind = "zeroth, random: from losses alone"
        if isinstance(estimator, ES):
            text = f"{kind}; its mean over noise is the gradient of {smoothed}, one estimate may be far from it"
            definition = "the differences of perturbed losses times this noise"
            return Claim(
                "zeroth", text, definition, vector=lambda: perturbed_losses(estimator, learner.meta(), tasks, step)
            )
        part = f"the mean query loss at the end of every {estimator.truncation} inner steps, smoothed by {estimator.sigma:g}"
        text = f"{kind}; its mean over noise and over an inner loop's parts is the gradient of {part}"
        if learner.carry:  # in the middle of an inner loop: the first part is what can be checked
            return Claim("zeroth", text)
        definition = "in an inner loop's first part, the differences of perturbed losses times this noise"
        return Claim("zeroth", text, definition, vector=lambda: first_part(estimator, learner.meta(), tasks, step))
    if isinstance(estimator, Backprop) and by_gradients(inner):
        until = estimator.first_order_until
        if estimator.first_order or step < until:
            later = "" if estimator.first_order else f" until outer step {until}, second from then on"
            text = f"first{later}: the inner gradients are held constant; no gradient of the outer loss"
            definition = "the query loss with the inner gradients held constant"
            return Claim(
                "first", text, definition, held_loss(inner, HeldGradients(inner.rule), learner.meta(), mean_loss)
            )
    if inner.held:
        return Claim(
            "first", f"first: {inner.held} are held constant, as the method says; no definition to check against"
        )
    if estimator.order == "second" and inner.at_a_look:
        text = "the gradient of the outer loss; adapting takes no gradients, so there are no second derivatives"
        return Claim("second", text, loss=lambda meta: mean_loss(meta, inner))
    if estimator.order == "second":
        text = "second: the gradient of the outer loss through the inner loop"
        return Claim("second", text, loss=lambda meta: mean_loss(meta, inner))
    return Claim(estimator.order, f"{estimator.order}: by an estimator without a definition to check against")


def _own_claim(estimator: OwnClaim, learner: MetaLearner, tasks: Task, seeded: Callable[[], None]) -> Claim:
    """The claim of an estimator that says itself what it is of."""
    if isinstance(estimator, OfAnotherLoss):

        def minimised(meta: Meta) -> Tensor:
            seeded()
            return estimator.minimised(meta, tasks, learner.outer_step)

        return Claim(estimator.order, estimator.says, estimator.definition, minimised, parallel=False)
    if isinstance(estimator, OfSolutions):
        solo = estimator.learner

        def moved() -> Values:
            seeded()
            meta = learner.meta()
            carry = learner.carry
            total = {name: torch.zeros_like(p) for name, p in (meta.params | meta.rule).items()}
            count = batch_size(tasks)
            with torch.no_grad():
                for i in range(count):
                    task, start = take(tasks, i), estimator.start(carry, meta)
                    fast = solo.init(start, task)
                    for k in range(solo.inner_steps):
                        fast = solo.step(start, fast, solo.batch(task, k), k)
                    for name, value in fast.params.items():
                        total[name] += (meta.params[name] - value) / count
                    if isinstance(estimator, FromSolutions):
                        carry = estimator.next_carry(carry, fast.state)
            return total

        return Claim(estimator.order, estimator.says, estimator.definition, vector=moved)
    return Claim(estimator.order, estimator.says, parallel=False)


def loop_gradient(learner: MetaLearner, tasks: Task, first_order: bool) -> Values | None:
    """Backpropagation through the inner loop in a plain loop over tasks, exact or first order; None where there is no such
    thing (a learner that adapts otherwise, a model without second derivatives, values that are not finite)."""
    inner = learner.learner
    if not by_gradients(inner):
        return None
    inner = dataclasses.replace(inner, first_order=first_order)
    count = batch_size(tasks)
    parts = (gradient(inner, learner.meta(), take(tasks, i), learner.outer_step)[:2] for i in range(count))
    try:
        params, rule = weighted_mean((1 / count, part) for part in parts)
    except (RuntimeError, NotImplementedError):  # a model without second derivatives
        return None
    found = {**params, **rule}
    return found if all(bool(torch.isfinite(g).all()) for g in found.values()) else None


def without_effect(learner: MetaLearner, tasks: Task) -> set[str]:
    """Parameters that the loss at the initial weights does not depend on but for rounding, though its graph holds them."""
    inner, meta = learner.learner, learner.meta()
    if not by_gradients(inner):
        return set()
    grads, _, _ = gradient(dataclasses.replace(inner, inner_steps=0), meta, take(tasks, 0), learner.outer_step)
    tops = {name: float(g.abs().max()) for name, g in grads.items() if g.numel()}
    return {name for name, top in tops.items() if 0 < top <= INERT * max(tops.values())}
