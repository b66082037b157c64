"""How a run's outer steps are taken: one by one, or many at a time by a compiled step; and the plan that says so."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from innerloop.core import BaseLearner, Task
from innerloop.engine import Plan
from innerloop.engine.compiling import STANDARD, CompileFailed, Limits
from innerloop.errors import InnerloopError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training.distributed import Group, Part
from innerloop.training.optimizer import clip
from innerloop.training.shared_step import shared_backward
from innerloop.training.whole_step import WholeStep, is_plain

# Compiled steps taken between two looks at Ctrl-C, and at most for so many seconds.
_AT_ONCE, _SECONDS_AT_ONCE = 64, 0.2
# Compiling takes this many seconds, and this many more for each operation of the step (one core, no cache); it has to save
# this many times as much. Of a batched step's time, a compiled one saves this share.
_BASE_SECONDS, _SECONDS_A_NODE, _WORTH, _SAVED = 10.0, 0.03, 1.5, 0.8
_SAVED_CONVOLUTIONS = 0.3  # whose kernels stay the same
_FEW_STEPS = 20  # take less time than measuring does
# Fewer threads are taken unless more are clearly faster: a thread is another run's, or another process's.
_MORE_THREADS_PAY = 0.9


@dataclasses.dataclass
class Stepper:
    """Takes outer steps.

    Args:
        learner: what is trained.
        optimizer: over its parameters.
        clip_norm, rule_clip_norm: largest norms of the meta-gradient; see `clipped_together`.
        group, part: the processes of the run, and the tasks of a step that this one takes.
        passes: how often the optimizer steps on the tasks of one draw.

    Attributes:
        plan: what was decided.
        at_once: the most steps that a call of `run` takes.
        seconds: how long training may still take, compiling included.
    """

    learner: MetaLearner
    optimizer: torch.optim.Optimizer
    clip_norm: float | None
    group: Group
    part: Part
    passes: int = 1
    rule_clip_norm: float | None = None
    plan: Plan | None = None
    _whole: WholeStep | None = None
    at_once: int = 1
    seconds: float = math.inf

    # ---- the plan --------------------------------------------------------------------------------------------------
    def decide(
        self, draw: Callable[[], Task], step: int, steps: int | None, threads: int | None, say: Callable[[str], None]
    ) -> Plan:
        """Measure how steps are best taken, on tasks that are drawn for it; process 0 decides for all.

        Args:
            draw: gives a batch such as the run's.
            step, steps: the run's step and how many it has; None: as many as there is time for.
            threads: the number asked for; None: what is fastest.
            say: told what takes a while.
        """
        with self.group.together():
            if self.group.leads and self.part.count:
                tasks = draw()
                left = sys.maxsize if steps is None else steps - step
                plan = self._measured(tasks, step, threads, left)
                if plan.threads is not None:
                    torch.set_num_threads(plan.threads)  # compiled code keeps the number that it was compiled with
                if math.isfinite(self.seconds) and plan.milliseconds:
                    left = min(left, int(1e3 * self.seconds / plan.milliseconds[plan.label]))
                if self._pays(plan, left) and tasks.shared is None:
                    plan = self._compiled(plan, tasks, step, left, say)
                self.plan = plan
        self.plan = self.group.same(self.plan)
        assert self.plan is not None
        return self.follow(self.plan)

    def again(self, plan: Plan, draw: Callable[[], Task], step: int, say: Callable[[str], None]) -> Plan:
        """Take up the plan of an earlier sitting, so that the run goes on as it began."""
        if plan.strategy == "compiled" and self.group.size == 1:
            if plan.threads is not None:
                torch.set_num_threads(plan.threads)
            try:
                say("compiling the outer step again")
                self._whole, _ = self._compile(draw(), step, self._most())
            except CompileFailed as error:
                plan = dataclasses.replace(self.learner.engine.beneath(plan), why="could not be compiled again")
                say(f"note: {error}; going on {plan.label}, to the same result but for rounding")
        return self.follow(plan)

    def follow(self, plan: Plan) -> Plan:
        """Run all steps to come by this plan."""
        self.plan = plan
        if plan.threads is not None:
            torch.set_num_threads(plan.threads)
        seconds = plan.milliseconds.get("compiled", 1.0) / 1e3
        self.at_once = max(1, min(_AT_ONCE, int(_SECONDS_AT_ONCE / max(seconds, 1e-6)))) if self._whole else 1
        return plan

    def _measured(self, tasks: Task, step: int, threads: int | None, steps: int) -> Plan:
        if steps < _FEW_STEPS:
            return self.learner.engine.rule(tasks)
        many = torch.get_num_threads()
        plan = dataclasses.replace(self.learner.plan(tasks, step), threads=many)
        if threads is not None or many == 1 or not plan.milliseconds:
            return plan
        torch.set_num_threads(1)
        try:
            single = dataclasses.replace(self.learner.plan(tasks, step), threads=1)
        finally:
            torch.set_num_threads(many)
        pays = plan.milliseconds[plan.label] < _MORE_THREADS_PAY * single.milliseconds[single.label]
        return plan if pays else single

    def _pays(self, plan: Plan, steps: int) -> bool:
        """Whether compiling the whole step may be worth its time."""
        if self.learner.recompute:
            return False  # a compiler would see that a segment is computed twice, and keep it
        if self.learner.engine.needs_loop or self.group.size > 1 or not self.learner.meta_gradient.compilable:
            return False
        if self.learner.strategy == "compiled":
            return True
        return self.learner.strategy == "auto" and bool(plan.milliseconds) and self._limits(plan, steps).nodes > 0

    def _limits(self, plan: Plan, steps: int) -> Limits:
        """How long compiling may take, and how many operations a step may have, for it to pay."""
        convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in self.learner.model.modules())
        share = _SAVED_CONVOLUTIONS if convolves else _SAVED
        worth = steps * self.passes * plan.milliseconds[plan.label] / 1e3 * share / _WORTH
        nodes = int((worth - _BASE_SECONDS) / _SECONDS_A_NODE)
        return Limits(min(STANDARD.seconds, worth), min(STANDARD.nodes, nodes))

    def _most(self) -> Limits:
        """How long compiling may take where it was asked for: half of the time that is left."""
        return STANDARD._replace(seconds=min(STANDARD.seconds, self.seconds / 2))

    def _compiled(self, plan: Plan, tasks: Task, step: int, steps: int, say: Callable[[str], None]) -> Plan:
        asked = self.learner.strategy == "compiled"
        say("compiling the outer step" if asked else f"compiling the outer step ({plan}; {steps} steps to go)")
        try:
            whole, seconds = self._compile(tasks, step, self._most() if asked else self._limits(plan, steps))
        except CompileFailed as error:
            return dataclasses.replace(plan, why=f"{plan.why}; not compiled: {error}")
        times = {**plan.milliseconds, "compiled": round(seconds * 1e3, 4)}
        if not asked and times["compiled"] > plan.milliseconds[plan.label]:
            return dataclasses.replace(plan, milliseconds=times)
        self._whole = whole
        return dataclasses.replace(plan, strategy="compiled", milliseconds=times)

    def _fits_whole(self) -> bool:
        """Whether the compiled step may hold the optimizer's update too; else the optimizer steps outside of it.

        The one place that decides.
        """
        # What a learner goes out to see before a step is no part of it.
        stays = type(self.learner.learner).experience is BaseLearner.experience
        return stays and not self.learner.engine.convolutional and self.passes == 1 and is_plain(self.optimizer)

    def _compile(self, tasks: Task, step: int, limits: Limits) -> tuple[WholeStep | None, float]:
        """The compiled step, None where the learner compiles its meta-gradient alone, and the seconds that one takes.

        Raises:
            CompileFailed: see `compile_function`.
        """
        if self._fits_whole():
            whole = WholeStep(self.learner, self.optimizer, self.clip_norm, self.rule_clip_norm)
            whole.compile(tasks, step, limits)
            return whole, whole.seconds(tasks, step)
        return None, self.learner.compile(tasks, step, limits)

    # ---- the steps -------------------------------------------------------------------------------------------------
    def run(
        self,
        batches: Iterator[Task],
        first_step: int,
        rates: Sequence[Sequence[float]],
        interrupted: Callable[[], bool],
    ) -> tuple[list[float], bool]:
        """One or more of the next steps, at most one for each entry of ``rates``.

        Args:
            batches: this process's tasks, step by step.
            first_step: number of the first step.
            rates: for each step, the rates of the optimizer's groups.
            interrupted: says whether this process was asked to stop.

        Returns:
            The mean outer loss of each step taken, and whether any process was asked to stop. Of several passes it is the loss of
            the first, to which the tasks are new.

        Raises:
            DivergedError, InputError: on all processes when on one.
        """
        if self._whole is None:
            return self._one(lambda: next(batches), first_step, rates[0], interrupted)
        fitting: list[list[Tensor]] = []
        other: Task | None = None  # of another shape, or of another phase of the method
        trouble: InnerloopError | None = None
        try:
            for step in range(first_step, first_step + min(self.at_once, len(rates))):
                tasks = self.learner.ready(next(batches), step)
                leaves = self._whole.leaves(tasks, step)
                if leaves is None:
                    other = tasks
                    break
                fitting.append(leaves)
        except InnerloopError as error:  # what came before it has to be done first
            trouble = error
        done = len(fitting)
        losses = self._whole.run(fitting, first_step, rates[:done]) if fitting else []
        asked = False
        if other is not None:
            more, asked = self._one(lambda: other, first_step + done, rates[done], interrupted)
            losses += more
        if trouble is not None:
            raise trouble
        return losses, asked or interrupted()

    def _one(
        self, draw: Callable[[], Task], step: int, rates: Sequence[float], interrupted: Callable[[], bool]
    ) -> tuple[list[float], bool]:
        for settings, rate in zip(self.optimizer.param_groups, rates, strict=True):
            settings["lr"] = rate
        assert self.plan is not None
        learner = self.learner

        @functools.cache
        def tasks() -> Task:
            """Drawn once, with what the learner goes out to see of them; all passes share it."""
            return learner.experience(draw(), outer_step=step)

        carry, counted = learner.carry, learner.outer_step
        losses, stops = [], []
        for _ in range(self.passes):
            # Each pass begins where the first did, but for the parameters.
            learner.carry, learner.outer_step = carry, counted
            with learner.engine.forced(self.plan):
                loss, asked = shared_backward(self.group, learner, tasks, self.part, step, interrupted)
            clip(learner, self.clip_norm, self.rule_clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss)
            stops.append(asked)
        return losses[:1], any(stops)
