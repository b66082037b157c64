"""How a run's outer steps are taken: one by one, or many at a time by a compiled step; and the plan that says so."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from innerloop.core import Task
from innerloop.engine import Plan, deciding
from innerloop.engine.compiling import CompileFailed, Pending, StepTooLarge
from innerloop.engine.plan import fastest
from innerloop.errors import InnerloopError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training.distributed import Group, Part
from innerloop.training.optimizer import clip
from innerloop.training.shared_step import shared_backward
from innerloop.training.whole_step import WholeStep, is_plain
from innerloop.waiting import waiting


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
    _pending: Pending[tuple[WholeStep | None, float]] | None = None
    _example: tuple[Task, int] | None = None  # what it is compiled for
    _sure: bool = False  # what is being compiled will be taken, however fast it is
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
                tasks = self.learner.experience(draw(), outer_step=step)
                left = sys.maxsize if steps is None else steps - step
                plan = self._measured(tasks, step, threads, left)
                if plan.threads is not None:
                    torch.set_num_threads(plan.threads)  # compiled code keeps the number that it was compiled with
                facts = deciding.within_time(self.facts(tasks, left), plan)
                self.plan = self._begun(plan, tasks, step, facts, say)
        self.plan = self.group.same(self.plan)
        assert self.plan is not None
        return self.follow(self.plan)

    def facts(self, tasks: Task, steps: int) -> deciding.Facts:
        """What is known here that decides how these steps are run; see `engine.deciding`."""
        return dataclasses.replace(
            self.learner.facts(tasks),
            convolves=any(isinstance(part, nn.modules.conv._ConvNd) for part in self.learner.model.modules()),
            plain_optimizer=is_plain(self.optimizer),
            passes=self.passes,
            processes=self.group.size,
            steps=steps,
            seconds=self.seconds,
        )

    def again(self, plan: Plan, draw: Callable[[], Task], step: int, say: Callable[[str], None]) -> Plan:
        """Take up the plan of an earlier sitting, so that the run goes on as it began."""
        if (plan.strategy == "compiled" or plan.compile_at is not None) and self.group.size == 1:
            if plan.threads is not None:
                torch.set_num_threads(plan.threads)
            try:
                say("compiling the outer step again")
                tasks = self.learner.experience(draw(), outer_step=step)
                facts = dataclasses.replace(self.facts(tasks, 0), following=Plan("compiled"))
                self._pending = self._compiling(tasks, step, deciding.compiling(facts))
                self._sure = plan.strategy == "compiled"  # it was found to be faster then
                if plan.compile_at is not None and step < plan.compile_at:
                    plan = dataclasses.replace(plan, strategy=plan.before or plan.strategy, before="")
                elif self._sure:
                    self._whole, _ = self._pending.wait()
                    self._pending = None
            except CompileFailed as error:
                left = Plan(plan.before) if plan.before else deciding.beneath(plan, self.learner.engine.facts)
                plan = dataclasses.replace(
                    plan, strategy=left.strategy, compile_at=None, before="", why="could not be compiled again"
                )
                say(f"note: {error}; going on {plan.label}, to the same result but for rounding")
        return self.follow(plan)

    def follow(self, plan: Plan) -> Plan:
        """Run all steps to come by this plan."""
        self.plan = plan
        if plan.threads is not None:
            torch.set_num_threads(plan.threads)
        self.at_once = deciding.steps_at_once(plan, self._whole is not None)
        return plan

    def _measured(self, tasks: Task, step: int, threads: int | None, steps: int) -> Plan:
        if not deciding.measures(self.facts(tasks, steps)):
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
        return deciding.threads(plan, single)

    def _begun(self, plan: Plan, tasks: Task, step: int, facts: deciding.Facts, say: Callable[[str], None]) -> Plan:
        """The plan with the step being compiled while steps are taken, where that is worth it; where it was asked for, with
        the step compiled."""
        chosen = deciding.compiling(facts, plan)
        if chosen.what == deciding.NOTHING:
            return plan
        asked = facts.strategy == "compiled"
        say("compiling the outer step" if asked else f"compiling the outer step ({plan}; {facts.steps} steps to go)")
        try:
            self._pending = self._compiling(tasks, step, chosen)
        except CompileFailed as error:
            return deciding.failed(plan, str(error))
        return self._changed(plan) if asked else deciding.meanwhile(facts, plan, self._pending.nodes, step)

    def _compiling(self, tasks: Task, step: int, chosen: deciding.Compiling) -> Pending[tuple[WholeStep | None, float]]:
        """The compiled step, None where the learner compiles its meta-gradient alone, and the seconds that one takes.

        Raises:
            CompileFailed: see `compiling.begin`.
        """
        if chosen.what == deciding.NOTHING:
            raise CompileFailed(chosen.why_not)
        self._example = tasks, step
        if chosen.what == deciding.WHOLE_STEP:
            whole = WholeStep(self.learner, self.optimizer, self.clip_norm, self.rule_clip_norm)
            # For a graph it may be too large, but cut into phases it may not.
            with contextlib.suppress(StepTooLarge):
                begun = whole.begin(tasks, step, chosen.limits)
                return begun.then(lambda whole: (whole, whole.seconds(tasks, step)))
        return self.learner.begin_compiling(tasks, step, chosen.limits).then(lambda seconds: (None, seconds))

    def _changed(self, plan: Plan) -> Plan:
        """The plan once what is being compiled is there."""
        assert self._pending is not None
        pending, self._pending = self._pending, None
        try:
            with waiting("compiling the outer step"):
                whole, seconds = pending.wait()
        except CompileFailed as error:
            return deciding.failed(plan, str(error))
        facts = self.learner.engine.facts
        if self._sure:
            facts = dataclasses.replace(facts, strategy="compiled")
        elif facts.strategy != "compiled":  # the machine may be busier than when the plan was made
            plan = dataclasses.replace(plan, milliseconds={**plan.milliseconds, plan.label: self._milliseconds(plan)})
        found = deciding.compiled(facts, plan, seconds)
        self._whole = whole if found.strategy == "compiled" else None
        return found

    def _milliseconds(self, plan: Plan) -> float:
        """What the meta-gradient takes now by this plan; nothing changes."""
        assert self._example is not None
        tasks, step = self._example
        tasks, learner = self.learner.ready(tasks, step), self.learner

        def work() -> None:
            learner.meta_gradient(learner.carry, learner.meta(), tasks, step, None)

        with torch.random.fork_rng(devices=[]), learner.engine.forced(plan):
            return round(fastest(work) * 1e3, 4)

    def settle(self) -> None:
        """Wait for what is being compiled, and go on by it where it is faster."""
        if self._pending is not None:
            assert self.plan is not None
            self.follow(self._changed(self.plan))

    def close(self) -> None:
        """No more steps are taken."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

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
        assert self.plan is not None
        if first_step >= (self.plan.compile_at or 0):
            self.settle()
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
