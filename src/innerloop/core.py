"""The nouns of innerloop: records and interfaces, nothing else. Read this file first.

A method is a pairing, not a class tree: ``MetaLearner = BaseLearner x UpdateRule x MetaGradient``, on any
`TaskDistribution`. Code is written for ONE task, as pure functions of what it is given; the engine runs it over many
tasks. Names used everywhere: ``meta`` is what is learned across tasks (the outer parameters), ``fast`` what is adapted to
one task, ``support`` the examples a task adapts to, ``query`` those it is judged on.

Axis names in types: tasks, support, query, ways, shots, features, channels, height, width, time; ``examples`` stands for
either side of a task.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils import _pytree

from innerloop import keys as random_keys
from innerloop.errors import ConfigError
from innerloop.records import record, shared, static

_NO_DISTRIBUTION = (
    "expected a method that predicts a distribution, as a neural process does, got one without; use predict"
)
_JUDGED = 15  # keeps the key of the outer loss apart from what else is drawn from a task's key
_BLOCK_NUMBERS = 1 << 17  # how many numbers `batches` draws ahead at most: half a megabyte of floats


@record
class Examples:
    """Labelled examples of one task, or of many with a leading ``tasks`` axis.

    Attributes:
        x: inputs, shape (examples, *input_shape); floating point, or integers for a model that embeds them; or a pytree of such
            tensors for a model that takes one.
        y: targets, (examples,) integers for classification or (examples, outputs) floats for regression.
        mask: (examples,) booleans, False for padding that must not count; None when every example counts.
    """

    x: Any
    y: Tensor
    mask: Tensor | None = None


Apply = Callable[..., Any]  # the adapted model: inputs -> outputs


class Objective(ABC):
    """What a task's data mean: the only thing that knows. Pure, and without tensors of its own.

    A side of a task is any pytree of tensors: labelled examples, rollouts, an ordered stream, a key and row numbers into
    `Task.shared`. The functions below get ONE side of ONE task, without a tasks axis, and run inside vmap and grad: no Python
    branch on a tensor's value, no writing in place. ``key`` is a 64-bit key, (), new for each inner step (see `keys`): what
    is drawn is a function of it. ``apply`` is the model at the parameters in question; it takes what the model's ``forward``
    takes (and ``mask=``, (examples,) booleans, for norm layers).
    """

    # What `measure` gives, and whether higher is better; the first is the one reported.
    metrics: Mapping[str, bool] = {}
    draws: bool = True  # it uses ``key``

    @property
    def name(self) -> str:
        """How files call it."""
        return type(self).__name__

    def check(self, task: Task) -> None:
        """Raise InputError or ShapeError for a batch of tasks that cannot be judged; all its tensors are finite already."""
        del task

    @abstractmethod
    def loss(self, apply: Apply, data: Any, key: Tensor | None) -> Tensor:
        """What an inner step descends on the support side, and the outer step on the query side; a scalar."""

    @abstractmethod
    def measure(self, apply: Apply, data: Any, key: Tensor | None) -> dict[str, Tensor]:
        """How well the model does on one side: a scalar for each of `metrics`."""

    def data(self, side: Any, shared: Any) -> Any:
        """What `loss` and `measure` are given of a side: itself, and what all tasks share beside it where there is such."""
        return side if shared is None else (side, shared)

    def examples(self, data: Any) -> int:
        """How many examples a side holds, for estimates of size: the length of its first tensor."""
        return length(data)

    def __repr__(self) -> str:
        return self.name


@record
class Task:
    """A task, or a batch of them: the same record with a leading ``tasks`` axis on every tensor.

    Attributes:
        support: what the learner adapts to: `Examples`, or any pytree of tensors that the objective knows.
        query: what it is judged on, likewise; disjoint from the support set.
        objective: an `Objective`; or its short form for `Examples`: a name of `innerloop.objectives.losses.OBJECTIVES` or
            ``loss(prediction, y) -> scalar``; None: by the targets' dtype.
        class_ids: (ways,) global class numbers of the local labels 0..ways-1, so that pooled pretraining is honest.
        num_classes: how many global classes there are.
        noise: a 64-bit key, (); all randomness that can only be drawn while adapting comes from it (see `keys`).
        shared: what all tasks have in common, such as the table that row numbers point into: a pytree without a tasks axis,
            there once however many tasks there are.
    """

    support: Any
    query: Any
    objective: str | Callable[[Tensor, Tensor], Tensor] | Objective | None = static(None)
    class_ids: Tensor | None = None
    num_classes: int | None = static(None)
    noise: Tensor | None = None
    shared: Any = shared()


def batch_size(tasks: Any) -> int:
    """How many tasks a batch holds: the length of the leading axis, which all its tensors share."""
    return next(leaf.shape[0] for leaf in _pytree.tree_leaves(tasks) if isinstance(leaf, Tensor))


def length(side: Any, axis: int = 0) -> int:
    """How many entries a side has along an axis, read from its first tensor; 1 where it has no such axis."""
    first = next((leaf for leaf in _pytree.tree_leaves(side) if isinstance(leaf, Tensor)), None)
    return 1 if first is None or first.ndim <= axis else first.shape[axis]


def examples_of(tasks: Task) -> int:
    """How many examples each task of a batch has, support and query together."""
    objective = tasks.objective if isinstance(tasks.objective, Objective) else None
    if objective is None:
        return length(tasks.support, 1) + length(tasks.query, 1)
    first = _pytree.tree_map(lambda v: v[0], tasks)
    return objective.examples(first.support) + objective.examples(first.query)


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """What a family of tasks is: made from a distribution's plain attributes, and kept with learners, runs and task files.

    Attributes:
        name: of the family.
        objective: an `Objective` or its short form; a text that names one in a file.
        metrics: names, the first is the one reported; empty: the objective's.
        input_shape: of one example; None where it is not known.
        output_size: numbers in an output; 0 where it is not known.
        preprocessing: how a user's files become inputs; None: they are plain numbers.
        problem: the family's registered name and options, which make it again; None: not known.
    """

    name: str = ""
    objective: Any = None
    metrics: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    output_size: int = 0
    preprocessing: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None


class TaskDistribution(ABC):
    """A source of tasks: one split (train, valid or test) of one problem.

    A task is a pure function of its 64-bit key, and its key is a function of (seed, split, step, index): so results do not
    depend on how many tasks are drawn at once, by how many processes, or after which interruption.
    """

    name: str = ""
    split: str = "train"
    objective: Any = "cross_entropy"  # a name of innerloop.objectives.losses.OBJECTIVES, or an Objective
    metrics: Any = None  # names, the first is the one reported; None: the objective's own
    input_shape: tuple[int, ...] = ()
    output_size: int = 0
    num_classes: int | None = None
    preprocessing: Mapping[str, Any] | None = None  # how a user's files become inputs; JSON values, kept with the run
    scaled_by_support: bool = False  # a task's inputs are scaled by its own support set
    target_scale: Sequence[float] | None = None  # of each output: values times this are in the user's unit
    target_offset: Sequence[float] | None = None  # of each output: those plus this are what the user has
    item_columns: int = 0  # so many numbers at the beginning of an input name items and measure nothing
    size: int | None = None  # how many distinct tasks there are, where that is a number: see `which` and `each`
    one_draw: bool = False  # every draw of a distinct task shows the same rows
    alike: int | None = None  # held-out tasks have one structure so many in a row, then another; None: all have one
    beside: tuple[
        str, ...
    ] = ()  # what ``measure_beside(name, tasks, keys)`` measures; "bound_..." knows what learners do not
    at_once: int = 50  # tasks that are evaluated at once, at most
    on_device: bool = False  # `from_keys` makes tasks on the keys' device, an accelerator too

    @property
    def spec(self) -> TaskSpec:
        """What the family is, in one record."""
        return TaskSpec(
            name=self.name,
            objective=self.objective,
            metrics=tuple(self.metrics or ()),
            input_shape=tuple(self.input_shape),
            output_size=self.output_size,
            preprocessing=None if self.preprocessing is None else dict(self.preprocessing),
        )

    @abstractmethod
    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The batch of tasks that belong to these keys."""

    @abstractmethod
    def default_model(self) -> nn.Module:
        """A fresh model that suits the problem (the one of the paper where there is one)."""

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"] | None:
        """Which of the `size` distinct tasks each key draws from, 0 to size - 1; None where every key is a task of its own."""
        del keys
        return None

    def each(self, keys: Int64[Tensor, " tasks"], numbers: Int64[Tensor, " tasks"]) -> Task:
        """Draws of the distinct tasks of these numbers, where there is a `size`: the keys say which rows of them are shown."""
        del keys, numbers
        raise ConfigError(f"{self.name} expected a finite number of distinct tasks, got tasks without end")

    def sample(self, num_tasks: int, generator: torch.Generator | None = None) -> Task:
        """``num_tasks`` tasks, drawn with a torch generator."""
        return self.from_keys(torch.randint(-(2**63), 2**63 - 1, (num_tasks,), generator=generator))

    def at(
        self, seed: int, step: int, num_tasks: int, start: int = 0, device: torch.device | str | None = None
    ) -> Task:
        """Tasks number ``start`` to ``start + num_tasks`` of outer step ``step`` of the run with this seed.

        They are drawn on ``device`` (None: the CPU), and are the same tasks on every device.
        """
        return self.from_keys(random_keys.task_keys(seed, self.split, step, start, num_tasks).to(device))

    def batches(
        self,
        num_tasks: int,
        seed: int = 0,
        start: int = 0,
        *,
        first: int = 0,
        device: torch.device | str | None = None,
    ) -> Iterator[Task]:
        """Batched tasks without end, from outer step ``start`` on: tasks ``first`` to ``first + num_tasks`` of each step.

        Small tasks are drawn many steps at a time: drawing is a few dozen small tensor operations, whatever the number.
        """
        step = start
        block = 1
        while True:
            keys = [random_keys.task_keys(seed, self.split, s, first, num_tasks) for s in range(step, step + block)]
            drawn = self.from_keys(torch.cat(keys).to(device))
            for i in range(block):
                yield _pytree.tree_map(lambda v, i=i: v[i * num_tasks : (i + 1) * num_tasks], drawn)
            step += block
            numbers = sum(v.numel() for v in _pytree.tree_leaves(drawn)) // block
            block = max(1, min(64, _BLOCK_NUMBERS // max(numbers, 1)))

    def resized(self, ways: int, shots: int, queries: int) -> TaskDistribution:
        """This split with tasks of other sizes; regression has no ``ways``.

        Raises:
            InputError: more than the split has.
            ConfigError: tasks of fixed sizes.
        """
        del ways, shots, queries
        raise ConfigError(f"{self.name} expected tasks whose sizes can be chosen, got such of fixed sizes")


class TaskFamily(NamedTuple):
    """The three splits of a problem; what `il.tasks.NAME()` returns."""

    name: str
    train: TaskDistribution
    valid: TaskDistribution
    test: TaskDistribution
    options: Mapping[str, Any]  # the arguments that make it again

    @classmethod
    def by_split(
        cls, name: str, distribution: Callable[[str], TaskDistribution], options: Mapping[str, Any]
    ) -> TaskFamily:
        """The family whose splits are what ``distribution`` makes of their names."""
        return cls(name, distribution("train"), distribution("valid"), distribution("test"), options)


class Meta(NamedTuple):
    """The outer parameters, as plain tensors.

    Attributes:
        params: the model's own parameters, by name.
        rule: parameters of the update rule and of the method (learned rates, per-step scales, global heads), by name.
        buffers: what is carried but not differentiated (running statistics), by name.
    """

    params: dict[str, Tensor]
    rule: dict[str, Tensor]
    buffers: dict[str, Tensor]


class UpdateRule(ABC):
    """How a gradient changes the fast parameters: SGD, Adam, learned rates, a learned optimizer. Pure."""

    def init_meta(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """The rule's own learned parameters, given those it will adapt; none by default."""
        return {}

    @abstractmethod
    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Any:
        """The rule's state before the first step (momentum buffers and so on)."""

    @abstractmethod
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
        """(new fast parameters, new state) after inner step number ``step`` (from 0; a tensor where tasks are not in step)."""


def inner_loop(
    step: Callable[[Any, Any, int], Any],
    state: Any,
    given: Any,
    steps: int,
    observe: Callable[[Any, int], None] | None = None,
) -> Any:
    """``state`` after ``state = step(state, given, i)`` for i = 0, 1, ... ``steps - 1``; ``observe``, if given, watches."""
    if observe is not None:  # it sees the state and the number of steps done, at the beginning and after every step
        observe(state, 0)
    for i in range(steps):
        state = step(state, given, i)
        if observe is not None:
            observe(state, i + 1)
    return state


# The last one runs the inner loop: the engine puts its own on top (`engine.recompute`, `engine.phases`).
inner_loops: list[Callable[..., Any]] = [inner_loop]


class BaseLearner(ABC):
    """The learner of one task: frozen hyperparameters and pure functions. ``fast`` is whatever the method needs."""

    inner_steps: int  # in meta-training
    eval_steps: int  # when adapting to a new task
    any_ways: bool = False  # predictions have one column for each class of the task, however many
    held: str = ""  # what of the adapting the outer gradient takes as given, where the method says so
    predicts_distribution: bool = False  # `predict_std` and `log_density` have answers
    any_data: bool = False  # takes tasks of any data, through their objective alone; else of labelled `Examples`
    absorbs: bool = False  # `absorb` takes more data at constant cost

    adapts_by_gradients: bool = False  # has all that a `learners.GradientLearner` has, whatever its class
    proximal: bool = False  # likewise a `learners.ProximalLearner`: steps are pulled back to where they began
    at_a_look: bool = False  # looking at the support set once is all its adapting, and takes no gradients

    @property
    def judged_at_end(self) -> bool:
        """Whether the outer loss is the query loss after the last inner step and nothing else; False where it does not say."""
        return False

    @property
    def truncates(self) -> bool:
        """Whether its outer gradient goes back through the last ``backprop_steps`` inner steps alone where it has that field."""
        return False

    @property
    def gathers(self) -> bool:
        """Whether `experience` goes out for data before an outer step; else the tasks are taken as they come."""
        return type(self).experience is not BaseLearner.experience

    def admit(self, tasks: Task) -> Task:
        """A batch as this learner takes it, completed where traced code could not; InputError where it cannot take it."""
        return tasks

    def tried(self, meta: Meta, task: Task) -> bool:
        """Whether it has tried its model out on one task by itself, where the objective cannot call the model alone."""
        return False

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a prediction for as many examples as the model was given, whose output has shape ``of_model``."""
        return of_model

    def init_rule(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """Learned parameters beyond the model's own; they become `Meta.rule`."""
        del params, generator
        return {}

    def widened_rule(self, rule: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Those of its learned parameters that have a row for each global class (`rows_for`), and fewer, all made anew."""
        return {}

    def rows_for(self, tasks: Task) -> int | None:
        """How many rows `widened_rule` is asked for in training on such tasks; None: they stay."""
        return tasks.num_classes

    def init_buffers(self) -> dict[str, Tensor]:
        """Values carried from step to step without a gradient; they become `Meta.buffers`."""
        return {}

    @abstractmethod
    def init(self, meta: Meta, task: Task) -> Any:
        """What is adapted, before the first step."""

    @abstractmethod
    def step(self, meta: Meta, fast: Any, batch: Any, i: int | Tensor) -> Any:
        """One inner step on ``batch``."""

    @abstractmethod
    def predict(self, meta: Meta, fast: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The adapted model's outputs, (examples, output_size)."""

    def as_model(self, meta: Meta, fast: Any) -> Apply:
        """The adapted model as an objective calls it."""
        return lambda x, mask=None: self.predict(meta, fast, x, mask)

    def predict_std(self, meta: Meta, fast: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standard deviations of the predicted distributions of floating targets, in the shape of `predict`."""
        raise ConfigError(_NO_DISTRIBUTION)

    def log_density(self, meta: Meta, fast: Any, query: Examples) -> Tensor:
        """The log density (labels: log probability) of each query's target under its prediction, (queries,), in nats."""
        raise ConfigError(_NO_DISTRIBUTION)

    def experience(self, meta: Meta, tasks: Task, key: Tensor) -> Task:
        """The tasks with the data that an outer step is taken on; themselves by default.

        Called once before an outer step, on a whole batch and without a graph. Where data have to be stored (a world outside
        of torch, several passes over one draw), all tasks are rolled out here, before and after adapting.
        """
        return tasks

    def absorb(self, meta: Meta, fast: Any, data: Any) -> Any:
        """``fast`` after more data of the same task, as if they had been in the support set; see `absorbs`."""
        raise ConfigError(f"{type(self).__name__} takes no more data once it has adapted; adapt again on all of it")

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """The outer loss of one task, and ``aux``: ``metrics`` (scalars) and, where there are any, ``buffers``.

        By default the objective on the query side, once adapted.
        """
        del outer_step
        fast = self.adapt(meta, task, self.inner_steps)
        assert isinstance(task.objective, Objective)  # the boundary has seen to it
        key = None if task.noise is None else random_keys.fold(task.noise, _JUDGED)
        query = task.objective.data(task.query, task.shared)
        loss = task.objective.loss(self.as_model(meta, fast), query, key)
        return loss, {"metrics": {"loss": loss.detach()}}

    def in_evaluation(self) -> BaseLearner:
        """This learner for new tasks: no noise, no statistics recorded."""
        return self

    def counted(self, fast: Any, count: Tensor | None) -> Any:
        """``fast`` with so many steps taken, a tensor (), whatever it has counted itself; None: none."""
        del count
        return fast

    def batch(self, task: Task, i: int | Tensor) -> Any:
        """What inner step ``i`` sees: the whole support side unless a learner draws mini-batches."""
        del i
        return task.support

    def adapt(
        self,
        meta: Meta,
        task: Task,
        steps: int,
        observe: Callable[[Any, int], None] | None = None,
        *,
        fast: Any = None,
        first: int | Tensor = 0,
    ) -> Any:
        """The inner loop, written once.

        Args:
            meta: the outer parameters.
            task: one task.
            steps: inner steps.
            observe: called with ``fast`` and the number of steps taken here, 0, 1, ... ``steps``.
            fast: where to go on from; None: from `init`.
            first: the number of the first step; a tensor, (), where tasks of a batch are at different places.
        """

        def step(fast: Any, given: tuple[Meta, Task, int | Tensor], i: int) -> Any:
            meta, task, first = given
            return self.step(meta, fast, self.batch(task, first + i), first + i)

        begin = self.init(meta, task) if fast is None else fast
        return inner_loops[-1](step, begin, (meta, task, first), steps, observe)


class OuterGradient(NamedTuple):
    """What a MetaGradient returns: gradients in the shape of (params, rule), new buffers, its carry, metrics."""

    params: dict[str, Tensor]
    rule: dict[str, Tensor]
    buffers: dict[str, Tensor]
    carry: dict[str, Tensor]
    metrics: dict[str, Tensor]


class MetaGradient(ABC):
    """How the outer gradient is estimated: backprop through the inner loop, first order, displacement, ..."""

    order: str  # "second", "first", "truncated", "implicit", "zeroth" or "none": what `innerloop doctor` reports
    # Whether the result for a batch, its carry too, is the mean of the results for its parts, weighted by their numbers of
    # tasks: then processes may share the tasks out. Where not, one process takes them all.
    shardable: bool = True
    # Whether it estimates the gradient of the learner's mean outer loss, so that another estimate of it may take its place.
    of_outer_loss: bool = True
    of_mean_gradient: bool = False  # all that it computes is `Engine.mean_gradient`
    # Whether its steps are one and the same computation, tensors in and tensors out, so that a compiler may have them.
    compilable: bool = True

    def init(self, meta: Meta) -> dict[str, Tensor]:
        """The carry: what outlives an outer step (truncated states, running means). Empty by default."""
        del meta
        return {}

    def phase(self, outer_step: int) -> Any:
        """Which of its computations this step is: within a phase only numbers change. One for all of training by default."""
        return 0

    def check(self, learner: BaseLearner) -> None:
        """Raise ConfigError when this estimator cannot be paired with ``learner``."""
        del learner

    @abstractmethod
    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        """The gradient of the mean outer loss over ``tasks`` (a batch)."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One metric over the tasks of an evaluation.

    Attributes:
        mean: over the tasks where it can be judged; NaN where there is none.
        ci95: half-width of the 95 % interval, as in `Report`.
        num_tasks: on how many tasks it can be judged (the area under a ROC curve needs both labels).
        higher_is_better: its direction.
    """

    mean: float
    ci95: float
    num_tasks: int
    higher_is_better: bool


@dataclasses.dataclass(frozen=True)
class Beside(Measured):
    """A baseline on the tasks of an evaluation.

    Attributes:
        lead, lead_ci95: mean and 95 % interval of how much better the learner is, task by task; below 0: it is worse.
    """

    lead: float
    lead_ci95: float


@dataclasses.dataclass(frozen=True)
class Report:
    """The frozen result of an evaluation.

    Attributes:
        metric: its name; accuracy is a fraction.
        mean, ci95: over tasks, and the half-width of its 95 % interval, 1.96 sd / sqrt(n).
        per_task: one value a task, in task order.
        num_tasks, seed, split: which tasks.
        distinct: of how many distinct tasks they are draws, over which the interval is then taken; None: all are distinct.
        transductive: whether a query's prediction could depend on the other queries.
        curve, curve_ci95: mean of the metric after 0, 1, ... inner steps and its half-widths; empty when not asked for.
        higher_is_better: whether a higher value of the metric is a better one.
        metrics: every metric that was measured, by name, the reported one first.
        baselines: the reported metric of the simplest predictors on the same tasks, by name; empty where none suits.
        ece: expected calibration error of class probabilities (`innerloop.evaluation.confidence`); None: not measured.
        config: the learner's and the problem's settings.
        commit, environment: of the code that ran, when known; versions, machine, threads.
        wall_seconds: of the evaluation.
    """

    metric: str
    mean: float
    ci95: float
    per_task: tuple[float, ...]
    num_tasks: int
    seed: int
    split: str
    transductive: bool
    curve: tuple[float, ...] = ()
    curve_ci95: tuple[float, ...] = ()
    higher_is_better: bool = True
    metrics: Mapping[str, Measured] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Beside] = dataclasses.field(default_factory=dict)
    ece: float | None = None
    distinct: int | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str = ""
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wall_seconds: float = 0.0

    def __repr__(self) -> str:
        """The metric with its interval and on which tasks; the other metrics in a second line."""
        side = "transductive" if self.transductive else "inductive"
        tasks = f"{self.num_tasks} {self.split} tasks, seed {self.seed}, {side}"
        line = f"{self.metric} {_with_interval(self.mean, self.ci95)} ({tasks})"
        others = {name: m for name, m in self.metrics.items() if name != self.metric and m.num_tasks}
        rest = [f"{name} {_with_interval(m.mean, m.ci95)}" for name, m in others.items()]
        rest += [] if self.ece is None else [f"calibration error {self.ece:.3f}"]
        return "\n".join(part for part in (line, ", ".join(rest), self.beside) if part)

    @property
    def beside(self) -> str:
        """What the simplest predictors reach on the same tasks; first, whether the learner is better."""
        known = {name: b for name, b in self.baselines.items() if math.isfinite(b.lead)}
        rivals = {name: b for name, b in known.items() if not name.startswith("bound")}
        if not rivals:
            return ""
        name, hardest = min(rivals.items(), key=lambda item: item[1].lead)
        verdict = "better than every baseline"
        if hardest.lead < -hardest.lead_ci95:
            verdict = f"LOSES to {name}, which needs no training: train longer, try another method, or use {name}"
        elif not hardest.lead > hardest.lead_ci95:  # nor where one task alone has no interval
            verdict = f"not clearly better than {name}, which needs no training"
        return f"{verdict} ({', '.join(f'{name} {_with_interval(b.mean, b.ci95)}' for name, b in known.items())})"


def _with_interval(mean: float, ci95: float) -> str:
    """Three decimals, more where the interval is narrower than that and fewer where it is wide."""
    digits = 3
    if math.isfinite(ci95) and ci95 > 0:
        first = -math.floor(math.log10(ci95))  # of the interval's first digit
        digits = first if first > 3 else max(0, min(3, first + 2))
    return f"{mean:.{digits}f} ± {ci95:.{digits}f}"
