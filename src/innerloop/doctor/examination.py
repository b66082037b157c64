"""One examination of a learner: a float64 copy of it, some tasks, and the comparisons that `innerloop.doctor` reports."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Meta, Task, batch_size
from innerloop.doctor.differences import Differences
from innerloop.doctor.estimates import INERT, Claim, Values, claim, loop_gradient, without_effect
from innerloop.doctor.norms import norm_errors, restore_norms
from innerloop.doctor.numbers import apart_by_parameter, norm, relative, size
from innerloop.doctor.report import Diagnosis
from innerloop.engine import take
from innerloop.errors import ConfigError, InnerloopError, first_line
from innerloop.learners.gradient import by_gradients
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.objectives import losses

_TASKS = 2  # of a larger batch, so that the cost does not grow with it
_SAME = 1e-7  # the same sums in another order: float64 leaves 1e-10 or less even after many inner steps
_LARGEST = 3  # tensors that get a direction of their own
_NAMED = 24  # tensors tried one by one when something is wrong


def seed_generators(learner: MetaLearner, seed: int) -> None:
    """Seed torch's global generators that a model on this device can draw from."""
    # Not torch.manual_seed: it would seed all devices, also those whose state nobody puts back.
    torch.default_generator.manual_seed(seed)
    if learner.device.type == "cuda":
        with torch.cuda.device(learner.device):
            torch.cuda.manual_seed(seed)


class Examination:
    """A float64 copy of a learner, some tasks, and what is asked of them."""

    seed: int
    tolerance: float

    def __init__(self, learner: MetaLearner, task: Task, seed: int, tolerance: float) -> None:
        self.seed, self.tolerance = seed, tolerance
        given = _duplicate(learner)
        asked = given.check(task)  # so that an error about float64 below is about float64
        self.learner: MetaLearner = given.cpu().double() if learner.device.type == "mps" else given.double()
        self.chosen: str = self.learner.engine.choose(asked)
        try:
            ready = self.learner.ready(take(task, slice(0, _TASKS)), self.learner.outer_step)
            self.tasks: Task = self.learner.experience(ready)  # one and the same for all that is compared
        except InnerloopError as error:
            raise ConfigError(
                f"the model or its loss expected to work in float64, got: {error}; hold constant tensors in buffers "
                "(register_buffer), so that .double() reaches them"
            ) from error
        self.generator: torch.Generator = torch.Generator().manual_seed(seed)
        self.claim: Claim = claim(self.learner, self.tasks, self._reseed)
        # Parameters without effect on the loss: an inner Adam turns what rounding leaves of their gradient into full steps.
        self.noise: set[str] = without_effect(self.learner, self.tasks) if self.claim.vector else set()
        self.problems: list[str] = []
        self.loss: float | None = None

    def _reseed(self) -> None:
        seed_generators(self.learner, self.seed)

    # ---- what backward gives -----------------------------------------------------------------------------------------
    def backward(self, strategy: str, learner: MetaLearner | None = None) -> Values:
        """The meta-gradient by this strategy, by name, as a call of ``backward`` on a fresh copy leaves it in ``.grad``."""
        made = _duplicate(learner or self.learner)
        made.strategy = strategy
        self._reseed()
        metrics = made.backward(self.tasks, outer_step=made.outer_step)
        if learner is None:
            self.loss = float(metrics["loss"])
        found = {name: p.grad for name, p in made.model.named_parameters()}
        found |= {made._rule_names[key]: p.grad for key, p in made.rule.items()}
        values = self.values()
        return {name: torch.zeros_like(values[name]) if g is None else g for name, g in found.items()}

    def values(self) -> Values:
        meta = self.learner.meta()
        return {**meta.params, **meta.rule}

    def frozen(self) -> set[str]:
        return {name for name, p in self.learner.model.named_parameters() if not p.requires_grad}

    # ---- the comparisons ---------------------------------------------------------------------------------------------
    def diagnosis(self, directions: int, begun: float) -> Diagnosis:
        looped = self.backward("looped")
        length = float(norm(looped))
        finite = all(bool(torch.isfinite(g).all()) for g in looped.values())
        if not finite:
            bad = [name for name, g in looped.items() if not bool(torch.isfinite(g).all())]
            self.problems.append(f"the meta-gradient is not finite in {', '.join(bad)}")
        apart, worst, skipped = self.against_vmap(looped)
        claimed = self.claim
        definition_error = differences_error = cosine = second_part = None
        wrong: list[str] = []
        tried = 0
        compared = None
        if finite and claimed.vector is not None:
            definition_error, name = apart_by_parameter(looped, claimed.vector(), self.noise)
            if definition_error > _SAME:
                self.problems.append(
                    f"the estimate is not {claimed.definition}: {definition_error:.1e} apart in {name} (relative)"
                )
        if finite and claimed.loss is not None:
            compared = self.differences(looped)
            differences_error, wrong, tried = self.against_differences(compared, looped, directions)
        if finite and claimed.order in ("first", "truncated", "implicit", "zeroth"):
            exact = loop_gradient(self.learner, self.tasks, first_order=False)
            if exact is not None and length > 0 and float(norm(exact)) > 0:
                cosine = float(sum((exact[n] * looped[n]).sum() for n in exact)) / length / float(norm(exact))
        if finite and claimed.order == "second" and length > 0:
            first = loop_gradient(self.learner, self.tasks, first_order=True)
            second_part = None if first is None else relative(first, looped)
        if claimed.loss is None and claimed.vector is None and claimed.order == "none" and length > 0:
            self.problems.append("the method has no meta-gradient, but backward left one that is not zero")
        lacking = self.without_gradient(looped, compared) if finite else {}
        by_norm = norm_errors(self.learner.model, self.generator)
        for name, error in by_norm.items():
            if error > _SAME:
                self.problems.append(f"the rewritten norm layer {name!r} is not torch's: {error:.1e} apart (relative)")
        return Diagnosis(
            ok=not self.problems,
            problems=tuple(self.problems),
            method=self.learner.name,
            num_tasks=batch_size(self.tasks),
            inner_steps=self.learner.inner_steps,
            order=claimed.order,
            estimate=claimed.text,
            loop_against_vmap=apart,
            loop_against_vmap_worst=worst,
            vmap_skipped=skipped,
            definition_error=definition_error,
            definition=claimed.definition,
            differences_error=differences_error,
            directions=tried,
            tolerance=self.tolerance,
            wrong_parameters=tuple(wrong),
            cosine_to_exact=cosine,
            second_order_part=second_part,
            no_gradient={reason: tuple(names) for reason, names in lacking.items()},
            parameters=size(self.values()),
            adapted=size({n: p for n, p in self.values().items() if n in adapted_names(self.learner)}),
            transductive=self.learner.transductive,
            conversions=tuple(self.learner.notes),
            norm_error=max(by_norm.values()) if by_norm else None,
            naive_vmap_error=self.naive_error() if claimed.order == "second" else None,
            loss=self.loss,
            gradient_norm=length,
            seconds=time.perf_counter() - begun,
        )

    def against_vmap(self, looped: Values) -> tuple[float | None, str, str]:
        """(relative difference, worst parameter, why it was not compared)."""
        if not self.claim.parallel:
            return None, "", "no task is adapted in training, so there is nothing to run in parallel"
        if self.learner.engine.needs_loop:
            names = ", ".join(dict.fromkeys(self.learner.engine.needs_loop))
            return None, "", f"vmap gets {names} wrong or refuses it; tasks are looped"
        try:
            vmapped = self.backward("vmapped")
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            reason = f"torch cannot run this model under vmap ({first_line(error)})"
            if self.chosen != "looped":
                self.problems.append(f"{reason}; set learner.strategy = 'looped'")
            return None, "", reason
        apart, worst = apart_by_parameter(looped, vmapped, self.noise)
        if not apart <= _SAME:
            self.problems.append(
                f"vmap computes another meta-gradient than the loop: {apart:.1e} apart in {worst} (relative); "
                "set learner.strategy = 'looped'"
            )
        return apart, worst, ""

    def differences(self, looped: Values) -> Differences:
        meta = self.learner.meta()

        @torch.no_grad()
        def loss(values: Mapping[str, Tensor]) -> float:
            params = {name: values[name] for name in meta.params}
            assert self.claim.loss is not None
            return float(self.claim.loss(Meta(params, {name: values[name] for name in meta.rule}, meta.buffers)))

        return Differences(loss, self.values(), looped, self.tolerance, self.frozen(), self.generator)

    def against_differences(
        self, compared: Differences, looped: Values, directions: int
    ) -> tuple[float | None, list[str], int]:
        """(worst relative disagreement, tensors that disagree, directions tried)."""
        if not compared.free:
            return None, [], 0
        slopes = [compared.along_all() for _ in range(directions)]
        by_size = sorted(compared.free, key=lambda name: -looped[name].numel())
        alone = {name: compared.along(name) for name in by_size[:_LARGEST]}
        slopes += alone.values()
        worst = max(slope.error for slope in slopes)
        wrong: list[str] = []
        if worst > self.tolerance:
            alone |= {name: compared.along(name) for name in by_size[_LARGEST:_NAMED]}
            wrong = [name for name, slope in alone.items() if slope.error > self.tolerance]
            what = self.claim.definition or "the outer loss"
            where = f" along {', '.join(wrong)}" if wrong else ""
            self.problems.append(
                f"the meta-gradient is not the gradient of {what}: finite differences contradict it{where} "
                f"(worst {worst:.1e}, relative)"
            )
        return worst, wrong, len(slopes)

    def without_gradient(self, looped: Values, compared: Differences | None) -> dict[str, list[str]]:
        """Reason -> names of the parameters that get no meta-gradient."""
        largest = max(float(g.abs().max()) for g in looped.values() if g.numel())
        if self.claim.loss is None and self.claim.vector is None:
            return {}
        reached = self.reached()
        found: dict[str, list[str]] = {}
        for name, g in looped.items():
            top = float(g.abs().max()) if g.numel() else 0.0
            reason = ""
            if name in self.frozen():
                reason = "frozen"
                if top > 0:
                    self.problems.append(
                        f"{name} is frozen, but backward leaves a gradient there; an optimizer that holds it will change it"
                    )
            elif top == 0:
                cut = compared is not None and compared.along(name).error > self.tolerance
                if cut:
                    self.problems.append(
                        f"{name} changes the loss but gets no meta-gradient: it is cut out of the graph"
                    )
                if self.claim.vector is not None and name not in adapted_names(self.learner):
                    reason = "unmoved"
                elif cut:
                    reason = "cut"
                elif name not in reached:
                    reason = "unused"
                else:
                    reason = "silent" if self.claim.parallel else "outside"
            elif name in self.noise:
                reason = "noise"
            elif top <= INERT * largest:
                reason = "inert"
            if reason:
                found.setdefault(reason, []).append(name)
        if largest == 0:
            self.problems.append("no parameter gets a meta-gradient on these tasks")
        return found

    def reached(self) -> set[str]:
        """Parameters that the model's outputs depend on where the objective calls it on one support side, as far as autograd
        knows; the method's own besides."""
        meta, one = self.learner.meta(), take(self.tasks, 0)
        if self.learner.learner.tried(meta, one):  # the objective cannot call its model alone
            return {*meta.params, *meta.rule}
        params = {name: p.detach().requires_grad_() for name, p in meta.params.items()}
        outputs: list[Tensor] = []

        def apply(*x: Any, mask: Tensor | None = None) -> Any:
            output = self.learner.pure.apply(params, meta.buffers, *x, mask=mask, training=True)[0]
            outputs.extend(v for v in pytree.tree_leaves(output) if isinstance(v, Tensor) and v.requires_grad)
            return output

        self._reseed()
        objective = losses.as_objective(one.objective)
        data = objective.data(one.support, one.shared)
        if isinstance(data, Examples):
            apply(data.x)
        else:
            objective.loss(apply, data, one.noise)
        if not outputs:
            return set(meta.rule)
        total = torch.stack([output.sum() for output in outputs]).sum()
        grads = torch.autograd.grad(total, list(params.values()), allow_unused=True)
        return {name for name, g in zip(params, grads, strict=True) if g is not None} | set(meta.rule)

    def naive_error(self) -> float | None:
        """See `naive_vmap_error`."""
        plain = _duplicate(self.learner)
        if self.learner.engine.needs_loop or not restore_norms(plain.model):
            return None
        try:
            return relative(self.backward("vmapped", plain), self.backward("looped", plain))
        except (
            RuntimeError,
            ValueError,
            NotImplementedError,
        ):  # loud, not wrong: one example alone, or no batching rule
            return None


def adapted_names(learner: MetaLearner) -> tuple[str, ...]:
    """What the inner loop changes, a learner's own or that of its ``tuner``; empty for a learner that adapts otherwise."""
    inner = getattr(learner.learner, "tuner", learner.learner)
    return inner.adapted if by_gradients(inner) else ()


def _duplicate(learner: MetaLearner) -> MetaLearner:
    """A deep copy with no gradients."""
    made = copy.deepcopy(learner)
    made.zero_grad(set_to_none=True)
    return made
