"""The one outer loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from innerloop import losses
from innerloop.core import Task, TaskFamily
from innerloop.errors import ConfigError, DivergedError, InputError
from innerloop.evaluation.evaluate import evaluate
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training.checkpoint import Progress, RunDirectory, describe, load_weights, weights
from innerloop.training.config import TrainConfig, make_config
from innerloop.training.distributed import Group, joined
from innerloop.training.interrupt import Interrupted, on_interrupt
from innerloop.training.metrics_log import MetricsLog
from innerloop.training.optimizer import make_optimizer
from innerloop.training.placement import settle
from innerloop.training.progress import Display
from innerloop.training.schedules import floor, rate
from innerloop.training.shared_step import own_part
from innerloop.training.stepping import Stepper

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
    """

    steps: int
    best_step: int
    best_value: float | None
    metric: str
    wall_seconds: float
    stopped: Ending


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
    with joined() as group:
        with group.together():
            run = _Run(learner, tasks, make_config(settings), group, quiet or not group.leads)
        run.begin(Path(out) if out is not None else None, resume, force, command)
        return run.train()


class _Run:
    """One training run under way, as one of its processes sees it."""

    def __init__(self, learner: MetaLearner, tasks: TaskFamily, config: TrainConfig, group: Group, quiet: bool) -> None:
        if not isinstance(tasks, TaskFamily):
            raise InputError(f"fit expected a family of tasks such as il.tasks.sinusoid(), got {type(tasks).__name__}")
        self.learner, self.tasks, self.config, self.group, self.quiet = learner, tasks, config, group, quiet
        settle(learner, config)
        learner.task_objective, learner.input_shape = tasks.train.objective, tuple(tasks.train.input_shape)
        learner.preprocessing = None if tasks.train.preprocessing is None else dict(tasks.train.preprocessing)
        learner.problem = {"name": tasks.name, "options": dict(tasks.options)}
        learner.prepare(tasks.train.num_classes)
        learner.check(tasks.train.at(config.seed, 0, 1))  # bad pairings show before anything is written
        outer = learner.outer
        self.schedule = config.schedule or outer.schedule
        self.lr = outer.lr if config.outer_lr is None else config.outer_lr
        self.min_lr = outer.min_lr if config.min_lr is None else config.min_lr
        self.optimizer = make_optimizer(config.outer_optimizer or outer.optimizer, learner, self.lr, config.rule_lr)
        self.optimizer.zero_grad(set_to_none=True)  # what is left from before is not of this run
        self.part = own_part(group, learner, config.num_tasks or outer.num_tasks)
        self.stepper = Stepper(learner, self.optimizer, config.clip_norm, group, self.part)
        self.metric = config.valid_metric or tasks.valid.metrics[0]
        if self.metric in losses.DISTRIBUTION_METRICS and not learner.learner.predicts_distribution:
            raise ConfigError(f"valid_metric expected one that {learner.name} has an answer to, got {self.metric!r}")
        self.directory: RunDirectory | None = None  # of the process that leads, where anything is written
        self.log = MetricsLog(None, 0)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
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
            group.expect_equal({**describe(learner, self.tasks, self.config), "weights": shapes})
        checkpoint = None
        with group.together():
            if out is not None and group.leads:
                directory = RunDirectory(out)
                again = not resume and directory.begun_here(learner, self.tasks, self.config)
                if resume or (again and directory.checkpoint_file.exists()):
                    directory.read_config()
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
        title = f"{self.learner.name} on {self.tasks.name}"
        if config.patience is not None and progress.validations_since_best >= config.patience:
            self.stopped = "early"  # an earlier sitting ended so
        with on_interrupt() as interrupt, Display(title, config.steps, progress.step, self.quiet) as self.display:
            for text in self.learner.notes:
                self.display.say(f"note: {text}")
            try:
                self._plan()
                batches = self._batches()
                while progress.step < config.steps and self.stopped == "finished":
                    self._advance(batches, interrupt)
            except DivergedError as error:
                error.args = (f"{error}; {self.group.same(self._last_good())}",)
                raise
            finally:
                self.log.close()
        self._take_best()
        best_step = progress.best_step if progress.best_value is not None else progress.step
        return FitResult(progress.step, best_step, progress.best_value, self.metric, progress.seconds, self.stopped)

    def _batches(self) -> Iterator[Task]:
        """This process's part of each step's tasks."""
        if not self.part.count:
            return iter(())
        # Drawn where they are used, by index; a problem that cannot do that is drawn on the CPU and sent.
        there = self.learner.device if self.tasks.train.on_device else None
        step, part = self.progress.step, self.part
        return self.tasks.train.batches(part.count, self.config.seed, step, first=part.first, device=there)

    def _plan(self) -> None:
        """Decide how steps are taken, or go on as an earlier sitting did."""
        progress, config = self.progress, self.config
        if progress.step >= config.steps or self.stopped != "finished":
            return
        kept = self.group.same(None if self.directory is None else self.directory.read_plan())
        if kept is not None:
            self.stepper.again(kept, lambda: next(self._batches()), progress.step, self.display.say)
            return
        plan = self.stepper.decide(
            lambda: next(self._batches()), progress.step, config.steps, config.threads, self.display.say
        )
        if self.directory is not None:
            self.directory.write_plan(plan)
        self.display.say(f"plan: {plan}")

    def _advance(self, batches: Iterator[Task], interrupt: Interrupted) -> None:
        """One outer step or some, and what is due after them."""
        progress, config = self.progress, self.config
        # At the end of the run everything is due.
        due = [n for n in map(config.every, ("log_every", "validate_every", "checkpoint_every")) if n]
        free = min(config.steps - progress.step, *(n - progress.step % n for n in due))
        rates = [
            [
                rate(self.schedule, step, config.steps, group["peak_lr"], floor(self.min_lr, group["peak_lr"], self.lr))
                for group in self.optimizer.param_groups
            ]
            for step in range(progress.step, progress.step + min(free, self.stepper.at_once))
        ]
        losses, asked = self.stepper.run(batches, progress.step, rates, lambda: interrupt.asked)
        for loss in losses:
            progress.loss_sum += loss
        progress.step += len(losses)
        progress.loss_count += len(losses)
        self._clock()
        last = progress.step == config.steps
        if progress.step % config.every("log_every") == 0 or last:
            self._log_loss()
        validate_every = config.every("validate_every")
        if validate_every and (progress.step % validate_every == 0 or last):
            self._validate()
        # Several processes have to stop at the same step: what came after they last spoke counts at the next.
        if asked or (self.group.size == 1 and interrupt.asked):
            self.stopped = "interrupted"
        keep = progress.step % config.every("checkpoint_every") == 0
        if self.directory is not None and (keep or last or self.stopped != "finished"):
            self.directory.save(self.learner, self.optimizer, progress)

    def _clock(self) -> None:
        self.progress.seconds = self.base_seconds + time.perf_counter() - self.started

    def _log_loss(self) -> None:
        progress = self.progress
        mean = progress.loss_sum / progress.loss_count
        self.log.write(progress.step, "train", {"loss": mean}, progress.seconds)
        progress.loss_sum, progress.loss_count = 0.0, 0
        speed = (progress.step - self.first) / max(time.perf_counter() - self.started, 1e-9)
        self.display.advance(progress.step, speed, f"loss {mean:.4g} {self.note}")

    def _validate(self) -> None:
        """Judge the weights on the fixed validation tasks; keep them when they are the best so far."""
        progress, config = self.progress, self.config
        report = evaluate(
            self.learner,
            self.tasks.valid,
            num_tasks=config.valid_tasks,
            seed=_VALIDATION_SEED,
            allow_diverged=True,
            group=self.group,
            metric=self.metric,
        )
        sign = 1.0 if losses.HIGHER_IS_BETTER[self.metric] else -1.0
        progress.validations_since_best += 1
        if progress.best_value is None or sign * report.mean > sign * progress.best_value:
            progress.best_value, progress.best_step = report.mean, progress.step
            progress.validations_since_best = 0
            self.best = weights(self.learner)
            if self.directory is not None:
                self.directory.save_best(self.learner, progress)
        self._clock()
        self.log.write(progress.step, "valid", {self.metric: report.mean, "ci95": report.ci95}, progress.seconds)
        self.note = f"valid {self.metric} {report.mean:.4g}"
        if self.display.bar is None:
            at = f"step {progress.step}/{config.steps}"
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
