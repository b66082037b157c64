"""The one outer loop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from innerloop.core import Report, Task, TaskFamily, batch_size
from innerloop.errors import ConfigError, DivergedError, InputError
from innerloop.evaluation.evaluate import evaluate, in_batches
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.models import MODELS
from innerloop.objectives import losses
from innerloop.objectives.rollouts import PLAYED
from innerloop.tracebacks import shortened
from innerloop.training.budget import Budget
from innerloop.training.checkpoint import Progress, RunDirectory, describe, load_weights, weights
from innerloop.training.config import TrainConfig, make_config
from innerloop.training.distributed import Group, joined
from innerloop.training.interrupt import Interrupted, on_interrupt
from innerloop.training.metrics_log import MetricsLog
from innerloop.training.optimizer import CUSTOM, make_optimizer
from innerloop.training.optimizer_options import options_of
from innerloop.training.placement import resolved, settle
from innerloop.training.progress import Display
from innerloop.training.schedules import floor, rate
from innerloop.training.shared_step import own_part
from innerloop.training.stepping import Stepper
from innerloop.waiting import waiting

# Validation tasks are the same for every run, whatever its seed, so that checkpoints and runs compare.
_VALIDATION_SEED = 12345

Ending = Literal["finished", "early", "interrupted"]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """How a training run ended.

    Attributes:
        steps: outer steps done, earlier sittings included.
        best_step: the step whose weights are in the learner now.
        best_value: its validation metric; None when nothing was validated.
        metric: its name.
        wall_seconds: of training, earlier sittings included.
        stopped: "finished", "early" (no new best for ``patience`` validations) or "interrupted" (Ctrl-C).
        baselines: the same metric of the simplest predictors on the same validation tasks, by name; empty where none suits.
    """

    steps: int
    best_step: int
    best_value: float | None
    metric: str
    wall_seconds: float
    stopped: Ending
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)


def fit(
    learner: MetaLearner,
    tasks: TaskFamily,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    quiet: bool = False,
    command: str = "",
    **settings: Any,
) -> FitResult:
    """Meta-train ``learner`` on ``tasks.train``; it ends with the best weights by ``tasks.valid``.

    Under torchrun the tasks of each outer step and the validation tasks are shared out over its processes, the learner
    starts from process 0's weights and ends the same on all, and process 0 alone writes ``out`` and shows progress. After
    torchrun has restarted its processes, the run that they began in ``out`` goes on from its last checkpoint.

    Args:
        learner: changed in place.
        tasks: a family of tasks.
        out: run directory for checkpoints, metrics and configuration; None: nothing is written.
        resume: go on from the checkpoint in ``out``; the result is bit for bit that of an uninterrupted run.
        force: overwrite an earlier run in ``out``.
        quiet: no progress on stderr.
        command: recorded in the run's configuration.
        **settings: fields of `TrainConfig`: steps, seed, num_tasks, outer_lr, ...

    Raises:
        ConfigError: an unknown or impossible setting, or one that differs between processes.
        InputError: ``out`` is in use.
        CheckpointError: nothing to resume, or of another model.
        DivergedError: a loss or gradient that is not finite; names the last good checkpoint.
        ProcessLost: another process of the run has ended.
    """
    with shortened(), joined() as group:
        with group.together():
            run = _Run(learner, tasks, make_config(settings), group, quiet or not group.leads)
        run.begin(Path(out) if out is not None else None, resume, force, command)
        return run.train()


def _expect_items(learner: MetaLearner, tasks: TaskFamily) -> None:
    """Raise ConfigError where a net of ours would take the numbers of items for quantities."""
    spec = learner.model_spec
    if tasks.train.item_columns and spec is not None and spec["name"] in MODELS and "items" not in spec["arguments"]:
        raise ConfigError(
            f"{tasks.name}: expected a model that knows items, as item_column names such, got {spec['name']}, which would take "
            "their numbers for quantities; use tasks.train.default_model()"
        )


class _Run:
    """One training run under way, as one of its processes sees it."""

    def __init__(self, learner: MetaLearner, tasks: TaskFamily, config: TrainConfig, group: Group, quiet: bool) -> None:
        if not isinstance(tasks, TaskFamily):
            raise InputError(f"fit expected a family of tasks such as il.tasks.sinusoid(), got {type(tasks).__name__}")
        config = dataclasses.replace(config, device=resolved(config.device))
        self.learner, self.tasks, self.config, self.group, self.quiet = learner, tasks, config, group, quiet
        _expect_items(learner, tasks)
        settle(learner, config)
        problem = {"name": tasks.name, "options": dict(tasks.options)}
        learner.spec = dataclasses.replace(tasks.train.spec, problem=problem)
        learner.ready(tasks.train.at(config.seed, 0, 1), 0)  # bad pairings show before anything is written
        outer = learner.outer
        self.schedule = config.schedule or outer.schedule
        self.lr = outer.lr if config.outer_lr is None else config.outer_lr
        self.min_lr = outer.min_lr if config.min_lr is None else config.min_lr
        options = options_of(config.outer_optimizer_options)
        self.optimizer = make_optimizer(
            config.outer_optimizer or outer.optimizer, learner, self.lr, config.rule_lr, options
        )
        self.optimizer.zero_grad(set_to_none=True)  # what is left from before is not of this run
        self.part = own_part(group, learner, config.num_tasks or outer.num_tasks)
        self.stepper = Stepper(
            learner,
            self.optimizer,
            outer.clip_norm if config.clip_norm is None else config.clip_norm,
            group,
            self.part,
            passes=config.outer_passes or outer.passes,
            rule_clip_norm=config.rule_clip_norm,
        )
        asked = tasks.valid.metrics if config.valid_metric is None else [config.valid_metric]
        self.metric, self.higher = next(iter(losses.metrics_of(tasks.valid.objective, asked).items()))
        if self.metric in losses.DISTRIBUTION_METRICS and not learner.learner.predicts_distribution:
            raise ConfigError(f"valid_metric expected one that {learner.name} has an answer to, got {self.metric!r}")
        self.directory: RunDirectory | None = None  # of the process that leads, where anything is written
        self.log = MetricsLog(None, 0)
        self.progress = Progress()
        self.budget: Budget | None = None  # of wall-clock time
        self.best: dict[str, Tensor] | None = None  # where nothing is written
        self.baselines: dict[str, float] | None = None  # judged at the first validation
        self.stopped: Ending = "finished"
        self.note = ""

    # ---- before the first step -------------------------------------------------------------------------------------
    def begin(self, out: Path | None, resume: bool, force: bool, command: str) -> None:
        """Make or reopen the run directory, and start all processes from the same state."""
        group, learner = self.group, self.learner
        with group.together():
            if resume and out is None:
                raise ConfigError("resume expected the run directory as out=, got none")
            shapes = {name: (*value.shape, str(value.dtype)) for name, value in learner.state_dict().items()}
            group.expect_equal({"weights": shapes, **describe(learner, self.tasks, self.config)})
        checkpoint = None
        with group.together():
            if out is not None and group.leads:
                directory = RunDirectory(out)
                again = not resume and directory.begun_here(learner, self.tasks, self.config)
                if resume or (again and directory.checkpoint_file.exists()):
                    self._expect_optimizer(directory.read_config()["training"].get("outer_optimizer"))
                    checkpoint = directory.read_checkpoint()
                else:
                    directory.create(force or again)
                    directory.write_config(learner, self.tasks, self.config, command)
                self.directory = directory
        # Process 0 reads and the others receive: their machines need not see its disk.
        checkpoint = group.same(checkpoint)
        if checkpoint is None:
            self._take_state_of_first()
        else:
            with group.together():
                place = RunDirectory(out if out is not None else "")
                self.progress = place.restore(learner, self.optimizer, checkpoint)
        if self.directory is not None:
            self.log = MetricsLog(self.directory.metrics_file, self.progress.step)

    def _expect_optimizer(self, begun: str | None) -> None:
        """Refuse another outer optimizer than the run was begun with, whose state it would not understand."""
        own = self.config.as_dict()["outer_optimizer"] or self.learner.outer.optimizer
        begun = begun or self.learner.outer.optimizer
        if own == begun or (own.startswith(CUSTOM) and begun.startswith(CUSTOM)):
            return
        what = f"{begun.removeprefix(CUSTOM)} itself, which no file holds" if begun.startswith(CUSTOM) else repr(begun)
        raise ConfigError(
            f"outer_optimizer expected that of the run, {what}, got {own!r}; give it again: "
            "il.fit(learner, tasks, out=RUN, resume=True, outer_optimizer=...)"
        )

    def _take_state_of_first(self) -> None:
        """Process 0's weights and carry, on every process."""
        if self.group.size > 1:
            own = self.learner
            found, carry = self.group.same((weights(own), own.carry) if self.group.leads else None)
            load_weights(own, found, Path("process 0"))
            own.carry = {name: value.to(own.device) for name, value in carry.items()}

    # ---- the loop --------------------------------------------------------------------------------------------------
    def train(self) -> FitResult:
        """All outer steps that are left, and the best weights in the end."""
        progress, config = self.progress, self.config
        self.base_seconds, self.started, self.first = progress.seconds, time.perf_counter(), progress.step
        if config.minutes is not None:
            if progress.step == 0:  # features that were computed for it are a part of the run
                self.base_seconds += getattr(self.tasks.train, "preparation_seconds", 0.0)
            self.budget = Budget(60 * config.minutes, self.base_seconds)
        self.played = float(self.learner.carry.get(PLAYED, 0.0))  # in earlier sittings
        title = f"{self.learner.name} on {self.tasks.name}"
        if config.patience is not None and progress.validations_since_best >= config.patience:
            self.stopped = "early"  # an earlier sitting ended so
        with on_interrupt() as interrupt, Display(title, config.steps, progress.step, self.quiet) as self.display:
            for text in self.learner.notes:
                self.display.say(f"note: {text}")
            try:
                batches = self._batches()
                if self._goes_on() and self._takes_a_step_first():
                    self._advance(batches, interrupt)
                if self._goes_on():
                    self._plan()
                    self._time_validation()
                while self._goes_on():
                    self._advance(batches, interrupt)
            except DivergedError as error:
                error.args = (f"{error}; {self.group.same(self._last_good())}",)
                raise
            finally:
                self.stepper.close()
                self.log.close()
        self._take_best()
        best_step = progress.best_step if progress.best_value is not None else progress.step
        return FitResult(
            progress.step,
            best_step,
            progress.best_value,
            self.metric,
            progress.seconds,
            self.stopped,
            self.baselines or {},
        )

    def _over(self) -> bool:
        """Whether all steps are done, or the time is up."""
        progress, config = self.progress, self.config
        if config.steps is not None and progress.step >= config.steps:
            return True
        return config.minutes is not None and progress.ended_minutes >= config.minutes

    def _goes_on(self) -> bool:
        return self.stopped == "finished" and not self._over()

    def _batches(self) -> Iterator[Task]:
        """This process's part of each step's tasks."""
        if not self.part.count:
            return iter(())
        # Drawn where they are used, by index; a problem that cannot do that is drawn on the CPU and sent.
        there = self.learner.device if self.tasks.train.on_device else None
        step, part = self.progress.step, self.part
        return self.tasks.train.batches(part.count, self.config.seed, step, first=part.first, device=there)

    def _takes_a_step_first(self) -> bool:
        """Whether the first step comes before it is decided how steps are taken: what is wrong with it shows at once."""
        config = self.config
        new = self.directory is None or self.directory.read_plan() is None
        if self.group.size > 1 or config.strategy != "auto" or not new or config.steps == 1:
            return False
        self.stepper.follow(self.learner.engine.rule(next(self._batches())))
        return True

    def _plan(self) -> None:
        """Decide how steps are taken, or go on as an earlier sitting did."""
        progress, config = self.progress, self.config
        if self.budget is not None:
            self.stepper.seconds = max(0.0, self.budget.for_steps - progress.seconds)
        kept = self.group.same(None if self.directory is None else self.directory.read_plan())
        if kept is not None:
            self.stepper.again(kept, lambda: next(self._batches()), progress.step, self.display.say)
            return
        with waiting("measuring how a step is run best"):
            self.stepper.decide(
                lambda: next(self._batches()), progress.step, config.steps, config.threads, self.display.say
            )
        self._tell_plan()

    def _tell_plan(self) -> None:
        plan = self.stepper.plan
        assert plan is not None
        if self.directory is not None:
            self.directory.write_plan(plan)
        self.display.say(f"plan: {plan}")

    def _time_validation(self) -> None:
        """Find out on its first tasks what a validation takes, so that the last one lies within the budget."""
        if self.budget is None or self.config.validate_every == 0:
            return
        whole = self.config.valid_tasks
        few = batch_size(next(in_batches(self.tasks.valid, whole, seed=_VALIDATION_SEED)))
        took = math.inf
        for _ in range(2):  # the first has more to do
            began = time.perf_counter()
            self._judged(few)
            took = min(took, time.perf_counter() - began)
        self.budget.validation = took * whole / few

    def _advance(self, batches: Iterator[Task], interrupt: Interrupted) -> None:
        """One outer step or some, and what is due after them."""
        progress, config = self.progress, self.config
        # At the end of the run everything is due.
        due = [n for n in map(config.every, ("log_every", "validate_every", "checkpoint_every")) if n]
        free = min([self.stepper.at_once, *(n - progress.step % n for n in due)])
        if config.steps is not None:
            free = min(free, config.steps - progress.step)
        if self.budget is not None:
            self._clock()
        rates = [
            [
                rate(
                    self.schedule,
                    step,
                    config.steps or 1,
                    group["peak_lr"],
                    floor(self.min_lr, group["peak_lr"], self.lr),
                    self._done(step),
                )
                for group in self.optimizer.param_groups
            ]
            for step in range(progress.step, progress.step + free)
        ]
        began = time.perf_counter()
        plan = self.stepper.plan
        losses, asked = self.stepper.run(batches, progress.step, rates, lambda: interrupt.asked)
        if plan is not self.stepper.plan:
            self._tell_plan()
        if self.budget is not None:
            self.budget.took(time.perf_counter() - began, len(losses))
        for loss in losses:
            progress.loss_sum += loss
        progress.step += len(losses)
        progress.loss_count += len(losses)
        self._clock()
        if self.budget is not None and self.budget.over(progress.seconds):
            progress.ended_minutes = config.minutes or 0.0
        last = self._over()
        if self._due("log_every") or last:
            self._log_loss()
        validates = config.validate_every != 0 and (self._due("validate_every") or last)
        if validates:
            self._validate()
        # Several processes have to stop at the same step: what came after they last spoke counts at the next.
        if asked or (self.group.size == 1 and interrupt.asked):
            self.stopped = "interrupted"
        keep = self._due("checkpoint_every") or (validates and self.budget is not None)
        if self.directory is not None and (keep or last or self.stopped != "finished"):
            began = time.perf_counter()
            self.directory.save(self.learner, self.optimizer, progress)
            if self.budget is not None:
                self.budget.checkpoint = time.perf_counter() - began

    def _done(self, step: int) -> float | None:
        """How far the run will be at this step, by steps or by time, whichever is further; None: by steps alone."""
        if self.budget is None:
            return None
        by_time = self.budget.share(self.progress.seconds, step - self.progress.step)
        return by_time if self.config.steps is None else max(by_time, min(step / self.config.steps, 1.0))

    def _due(self, name: str) -> bool:
        """Whether the number of steps of this setting has come round, or its time where it has none."""
        every = self.config.every(name)
        if every:
            return self.progress.step % every == 0
        if self.budget is None or getattr(self.config, name) is not None:
            return False
        return self.budget.due(name, self.progress.seconds)

    def _clock(self) -> None:
        """The seconds so far; where they decide something, process 0's on all."""
        seconds = self.base_seconds + time.perf_counter() - self.started
        if self.budget is not None:
            seconds, self.budget.measured = self.group.same((seconds, self.budget.measured))
        self.progress.seconds = seconds

    def _log_loss(self) -> None:
        progress = self.progress
        mean = progress.loss_sum / progress.loss_count
        played, taken = self.learner.carry.get(PLAYED), time.perf_counter() - self.started
        found = {"loss": mean} if played is None else {"loss": mean, PLAYED: float(played)}
        self.log.write(progress.step, "train", found, progress.seconds)
        progress.loss_sum, progress.loss_count = 0.0, 0
        speed = (progress.step - self.first) / max(taken, 1e-9)
        steps = self.config.steps
        if self.budget is not None:
            in_time = progress.step + int(speed * max(0.0, self.budget.for_steps - progress.seconds))
            steps = in_time if steps is None else min(steps, in_time)
        note = self.note
        if played is not None:  # steps in worlds, of which an outer step takes thousands
            number = float(played)
            note = f"{number:.3g} environment steps, {(number - self.played) / max(taken, 1e-9):.3g}/s {note}"
        self.display.advance(progress.step, steps, speed, f"loss {mean:.4g} {note}")

    def _judged(self, num_tasks: int, baselines: bool = False) -> Report:
        """The weights as they are, on so many of the fixed validation tasks."""
        return evaluate(
            self.learner,
            self.tasks.valid,
            num_tasks=num_tasks,
            seed=_VALIDATION_SEED,
            allow_diverged=True,
            group=self.group,
            metric=self.metric,
            baselines=baselines,
        )

    def _validate(self) -> None:
        """Judge the weights on the fixed validation tasks; keep them when they are the best so far."""
        progress, config = self.progress, self.config
        began = time.perf_counter()
        first = self.baselines is None  # they do not change: once is enough
        report = self._judged(config.valid_tasks, baselines=first)
        if first:
            self.baselines = {name: b.mean for name, b in report.baselines.items() if math.isfinite(b.mean)}
            if self.baselines:
                known = ", ".join(f"{name} {value:.4g}" for name, value in self.baselines.items())
                self.display.say(f"baselines on the validation tasks, {self.metric}: {known}")
        if self.budget is not None:
            self.budget.validation = time.perf_counter() - began
        sign = 1.0 if self.higher else -1.0
        progress.validations_since_best += 1
        if progress.best_value is None or sign * report.mean > sign * progress.best_value:
            progress.best_value, progress.best_step = report.mean, progress.step
            progress.validations_since_best = 0
            if self.directory is not None:
                self.directory.save_best(self.learner, progress)
            elif self.group.leads:  # the others are given them in the end
                self.best = weights(self.learner)
        self._clock()
        self.log.write(progress.step, "valid", {self.metric: report.mean, "ci95": report.ci95}, progress.seconds)
        self.note = f"valid {self.metric} {report.mean:.4g}"
        if self.display.bar is None:
            of = "" if config.steps is None else f"/{config.steps}"
            at = f"step {progress.step}{of}"
            self.display.say(f"{at}: {self.note} ± {report.ci95:.2g} ({progress.seconds:.0f} s)")
        if config.patience is not None and progress.validations_since_best >= config.patience:
            self.stopped = "early"

    # ---- after the last step ---------------------------------------------------------------------------------------
    def _take_best(self) -> None:
        """The best validated weights, those of an earlier sitting too, on every process."""
        with self.group.together():
            if self.directory is not None:
                self.directory.load_best(self.learner)
            elif self.best is not None:
                load_weights(self.learner, self.best, Path("the best weights"))
        self._take_state_of_first()

    def _last_good(self) -> str:
        """Which checkpoint a diverged run leaves."""
        if self.directory is not None and self.directory.checkpoint_file.exists():
            return f"the last good checkpoint is {self.directory.checkpoint_file}"
        if self.directory is not None:
            self.directory.remove_unstarted()
        return "no checkpoint was written"
