"""The one outer loop."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from innerloop import losses
from innerloop.core import TaskFamily
from innerloop.errors import ConfigError, DivergedError, InputError, nearest
from innerloop.evaluation.evaluate import evaluate
from innerloop.meta_learner import MetaLearner
from innerloop.training.checkpoint import Progress, RunDirectory, load_weights, weights
from innerloop.training.config import TrainConfig
from innerloop.training.distributed import processes
from innerloop.training.interrupt import on_interrupt
from innerloop.training.metrics_log import MetricsLog
from innerloop.training.progress import Display
from innerloop.training.schedules import rate

# Validation tasks are the same for every run, whatever its seed, so that checkpoints and runs compare.
_VALIDATION_SEED = 12345


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
    stopped: Literal["finished", "early", "interrupted"]


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
        ConfigError: an unknown or impossible setting.
        InputError: ``out`` is in use.
        CheckpointError: nothing to resume, or of another model.
        DivergedError: a loss or gradient that is not finite; names the last good checkpoint.
    """
    config = make_config(settings)
    if not isinstance(tasks, TaskFamily):
        raise InputError(f"fit expected a family of tasks such as il.tasks.sinusoid(), got {type(tasks).__name__}")
    if processes() > 1:
        raise ConfigError(
            "fit runs in one process; with several, keep your own loop and call il.sync_gradients after backward"
        )
    _settle(learner, config)
    learner.task_objective, learner.input_shape = tasks.train.objective, tuple(tasks.train.input_shape)
    learner.prepare(tasks.train.num_classes)
    learner.check(tasks.train.at(config.seed, 0, 1))  # bad pairings show before anything is written
    outer = learner.outer
    schedule = config.schedule or outer.schedule
    lr = outer.lr if config.outer_lr is None else config.outer_lr
    min_lr = config.min_lr or (outer.min_lr if schedule == "cosine" else 0.0)
    num_tasks = config.num_tasks or outer.num_tasks
    optimizer = make_optimizer(config.outer_optimizer or outer.optimizer, learner, lr, config.rule_lr)
    directory = RunDirectory(out) if out is not None else None
    progress = Progress()
    best: dict[str, Tensor] | None = None
    if directory is not None and resume:
        directory.read_config()
        progress = directory.restore(learner, optimizer)
    elif directory is not None:
        directory.create(force)
        directory.write_config(learner, tasks, config, command)
    elif resume:
        raise ConfigError("resume expected the run directory as out=, got none")
    metric = tasks.valid.metrics[0]
    sign = 1.0 if losses.HIGHER_IS_BETTER[metric] else -1.0
    validate_every, log_every = config.every("validate_every"), config.every("log_every")
    checkpoint_every = config.every("checkpoint_every")
    log = MetricsLog(directory.metrics_file if directory else None, progress.step)
    stopped: Literal["finished", "early", "interrupted"] = "finished"
    base_seconds, started, first = progress.seconds, time.perf_counter(), progress.step
    parameters = [p for p in learner.parameters() if p.requires_grad]
    note = ""

    with (
        on_interrupt() as interrupt,
        Display(f"{learner.name} on {tasks.name}", config.steps, progress.step, quiet) as display,
    ):
        for text in learner.notes:
            display.say(f"note: {text}")
        try:
            for batch in tasks.train.batches(num_tasks, config.seed, progress.step):
                if progress.step >= config.steps or stopped != "finished":
                    break
                for group in optimizer.param_groups:
                    group["lr"] = rate(schedule, progress.step, config.steps, group["peak_lr"], min_lr)
                metrics = learner.backward(batch, outer_step=progress.step)
                clip(parameters, config.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                progress.step += 1
                progress.loss_sum += float(metrics["loss"])
                progress.loss_count += 1
                progress.seconds = base_seconds + time.perf_counter() - started
                last = progress.step == config.steps
                if progress.step % log_every == 0 or last:
                    mean = progress.loss_sum / progress.loss_count
                    log.write(progress.step, "train", {"loss": mean}, progress.seconds)
                    progress.loss_sum, progress.loss_count = 0.0, 0
                    speed = (progress.step - first) / max(time.perf_counter() - started, 1e-9)
                    display.advance(progress.step, speed, f"loss {mean:.4g} {note}")
                if validate_every and (progress.step % validate_every == 0 or last):
                    report = evaluate(
                        learner, tasks.valid, num_tasks=config.valid_tasks, seed=_VALIDATION_SEED, allow_diverged=True
                    )
                    progress.validations_since_best += 1
                    if progress.best_value is None or sign * report.mean > sign * progress.best_value:
                        progress.best_value, progress.best_step = report.mean, progress.step
                        progress.validations_since_best = 0
                        best = weights(learner)
                        if directory is not None:
                            directory.save_best(learner, progress)
                    progress.seconds = base_seconds + time.perf_counter() - started
                    log.write(progress.step, "valid", {metric: report.mean, "ci95": report.ci95}, progress.seconds)
                    note = f"valid {metric} {report.mean:.4g}"
                    if display.bar is None:
                        display.say(
                            f"step {progress.step}/{config.steps}: {note} ± {report.ci95:.2g} ({progress.seconds:.0f} s)"
                        )
                    if config.patience is not None and progress.validations_since_best >= config.patience:
                        stopped = "early"
                if interrupt.asked:
                    stopped = "interrupted"
                if directory is not None and (progress.step % checkpoint_every == 0 or last or stopped != "finished"):
                    directory.save(learner, optimizer, progress)
        except DivergedError as error:
            where = "no checkpoint was written"
            if directory is not None and directory.checkpoint_file.exists():
                where = f"the last good checkpoint is {directory.checkpoint_file}"
            elif directory is not None:
                directory.remove_unstarted()
            raise DivergedError(f"{error}; {where}") from None
        finally:
            log.close()
    if directory is not None:
        directory.load_best(learner)
    elif best is not None:
        load_weights(learner, best, Path("the best weights"))
    return FitResult(
        progress.step,
        progress.best_step if progress.best_value is not None else progress.step,
        progress.best_value,
        metric,
        progress.seconds,
        stopped,
    )


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A TrainConfig from keyword arguments; an unknown one is a ConfigError that shows the nearest."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"fit has no setting {name!r}: {nearest(name, known)}")
    return TrainConfig(**settings)


def make_optimizer(name: str, learner: MetaLearner, lr: float, rule_lr: float | None = None) -> torch.optim.Optimizer:
    """The outer optimizer; one object for the whole run, never shared with the inner loop.

    Each group keeps the top of its schedule as ``peak_lr``.
    """
    rule = {id(p) for p in learner.rule.values()}
    trained = [p for p in learner.parameters() if p.requires_grad]
    peak = lr if rule_lr is None else rule_lr
    groups = [
        {"params": [p for p in trained if id(p) not in rule], "lr": lr, "peak_lr": lr},
        {"params": [p for p in trained if id(p) in rule], "lr": peak, "peak_lr": peak},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=lr) if name == "sgd" else torch.optim.Adam(groups, lr=lr, fused=True)


def clip(parameters: list[torch.nn.Parameter], largest: float | None) -> None:
    """Clip the meta-gradient's norm; `MetaLearner.backward` has seen to it that it is finite."""
    if largest is not None:
        torch.nn.utils.clip_grad_norm_(parameters, largest)


def _settle(learner: MetaLearner, config: TrainConfig) -> None:
    """Device, precision, threads and strategy of the run."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        device = torch.device(config.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device {config.device!r} is not available here; use device='cpu'")
    except RuntimeError:
        raise ConfigError(f"device expected 'cpu', 'cuda' or 'cuda:N', got {config.device!r}") from None
    learner.to(device=device, dtype=getattr(torch, config.precision) if config.precision else None)
    learner.strategy = config.strategy
    learner.chunk_size = config.chunk_size
