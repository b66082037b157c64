"""Everything that decides a training run besides the method and the problem: one frozen record.

A field that is None takes the method's recommendation (`MetaLearner.outer`) or is derived from ``steps``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from innerloop.errors import ConfigError, expect_whole, nearest
from innerloop.training.optimizer_options import options_of, written

Strategy = Literal["auto", "looped", "vmapped", "per_task", "compiled"]
Precision = Literal["float32", "float64", "bfloat16", "tf32"]
Schedule = Literal["constant", "linear", "cosine", "average", "halving"]


_STEPS = 1000  # where neither steps nor minutes are given
# The least whole number that a setting may be, where it is given.
_LEAST = {
    **dict.fromkeys(("steps", "num_tasks", "outer_passes", "valid_tasks", "patience"), 1),
    **dict.fromkeys(("checkpoint_every", "log_every", "chunk_size", "threads"), 1),
    "validate_every": 0,
}
_LEAST_APART = 25  # steps between validations that nobody asked for: of a short run they would take most of the time


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of meta-training.

    Attributes:
        steps: outer steps; None: 1,000, or with ``minutes`` as many as there is time for.
        minutes: of wall-clock time for the whole of the training, all sittings together, with the last validation and
            checkpoint: the schedule ends with the time or with ``steps``, whichever comes first. Such a run depends on the
            machine's speed; None: no limit.
        seed: of the tasks drawn, of the validation tasks and of all noise.
        num_tasks: tasks in an outer step (the meta-batch); None: the method's recommendation.
        outer_optimizer: a class of torch.optim by its name, such as "adam", "sgd" or "adamw"; in Python also the class itself, or
            a class or function ``groups -> Optimizer`` of one's own, which resuming needs again; None: the method's.
        outer_optimizer_options: its other arguments, each as NAME=VALUE, such as weight_decay=0.01 betas=0.9,0.99; in Python a
            dictionary.
        outer_lr: outer learning rate; None: the method's.
        rule_lr: outer learning rate of learned inner rates and other parameters of the method; None: ``outer_lr``.
        outer_passes: steps of the outer optimizer on the tasks of each draw, as policy gradients with a clipped ratio take them;
            together they are one outer step of ``steps`` and of the schedule; None: the method's, 1 for most.
        schedule: of the outer rate: "constant", "linear" (to 0), "cosine" (to min_lr), "average" (1/(step + 1)),
            "halving" (half of it every 2,000 steps); None: the method's.
        min_lr: where the cosine schedule ends; None: the method's. Parameters with a rate of their own (``rule_lr``) end in
            the same proportion: at ``min_lr * rule_lr / outer_lr``.
        clip_norm: largest norm of the meta-gradient; None: no clipping.
        rule_clip_norm: largest norm of its part for learned inner rates and other parameters of the method, which is then clipped
            by itself, while ``clip_norm`` is for the model's parameters; None: all are clipped together.
        validate_every: outer steps between validations; None: twenty in the run, at least 25 steps apart, or with ``minutes`` as
            many as take a tenth of the time; 0: never.
        valid_tasks: how many fixed validation tasks.
        valid_metric: what they are judged by: a metric of `evaluate`; None: the problem's first.
        patience: stop after this many validations without a new best; None: never.
        checkpoint_every: outer steps between checkpoints; None: at every validation.
        log_every: outer steps between lines of metrics; None: a hundred in the run.
        device: "auto" (a GPU where there is one, else the CPU), "cpu", "cuda", "cuda:1" or "mps". A run's configuration holds the
            one that was taken.
        precision: "float32" or "float64"; None: as the model is. "bfloat16": the model's products and convolutions in
            bfloat16, while its parameters, their updates, norm layers and losses stay float32. "tf32": as float32, with
            products on the tensor cores of a GPU.
        strategy: how the engine runs many tasks: "auto" (measured), "looped", "vmapped", "per_task" or "compiled".
        chunk_size: tasks held in memory at once; None: all of a batch.
        recompute: compute inner steps again in the outer backward pass: memory hardly grows with their number, and a step
            takes about twice as long.
        threads: CPU threads of torch; None: as the environment says.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    num_tasks: int | None = None
    outer_optimizer: str | Callable[..., Any] | None = None
    outer_optimizer_options: Mapping[str, Any] | Sequence[str] | None = None
    outer_lr: float | None = None
    rule_lr: float | None = None
    outer_passes: int | None = None
    schedule: Schedule | None = None
    min_lr: float | None = None
    clip_norm: float | None = None
    rule_clip_norm: float | None = None
    validate_every: int | None = None
    valid_tasks: int = 100
    valid_metric: str | None = None
    patience: int | None = None
    checkpoint_every: int | None = None
    log_every: int | None = None
    device: str = "auto"
    precision: Precision | None = None
    strategy: Strategy = "auto"
    chunk_size: int | None = None
    recompute: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            object.__setattr__(self, "steps", _STEPS)
        if self.minutes is not None and not (_finite(self.minutes) and self.minutes > 0):
            raise ConfigError(f"minutes expected a finite number above 0, got {self.minutes!r}")
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if value is not None:
                expect_whole(name, value, low)
        for name, choices in (("precision", Precision), ("schedule", Schedule)):
            value = getattr(self, name)
            if value is not None and value not in get_args(choices):
                raise ConfigError(f"{name} expected one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
        object.__setattr__(self, "outer_optimizer_options", options_of(self.outer_optimizer_options))
        if self.outer_optimizer not in (None, "adam", "sgd"):
            from innerloop.training.optimizer import known_optimizer  # with torch, which `--help` does not wait for

            object.__setattr__(self, "outer_optimizer", known_optimizer(self.outer_optimizer))
        for name in ("outer_lr", "rule_lr", "clip_norm", "rule_clip_norm", "min_lr"):
            value = getattr(self, name)
            if value is not None and not (_finite(value) and value >= 0):
                raise ConfigError(f"{name} expected a finite number of at least 0, got {value!r}")
        if not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**63:
            raise ConfigError(f"seed expected a 64-bit integer, got {self.seed}")

    def every(self, name: str) -> int:
        """The step interval of ``validate_every``, ``checkpoint_every`` or ``log_every``, derived where it is None.

        0: never, or where it is None by the clock of ``minutes``.
        """
        value = getattr(self, name)
        if value is not None:
            return value
        if self.minutes is not None or self.steps is None:
            return 0
        if name == "log_every":
            return max(1, self.steps // 100)
        if name == "checkpoint_every":
            return self.validate_every or max(1, self.steps // 20)
        return max(1, self.steps // 20, min(_LEAST_APART, self.steps))

    def as_dict(self) -> dict[str, Any]:
        """As JSON values: an optimizer of one's own by its name, and options as they are written on the command line."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if callable(self.outer_optimizer):
            from innerloop.training.optimizer import CUSTOM, name_of

            found["outer_optimizer"] = f"{CUSTOM}{name_of(self.outer_optimizer)}"
        if self.outer_optimizer_options is not None:
            found["outer_optimizer_options"] = written(options_of(self.outer_optimizer_options) or {})
        return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A TrainConfig from keyword arguments; an unknown one is a ConfigError that shows the nearest."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"fit has no setting {name!r}: {nearest(name, known)}")
    return TrainConfig(**settings)
