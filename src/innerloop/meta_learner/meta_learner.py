"""The module that owns what is learned across tasks, and holds learner, rule and meta-gradient together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import (
    BaseLearner,
    Meta,
    MetaGradient,
    Objective,
    OuterGradient,
    Task,
    TaskSpec,
    UpdateRule,
    batch_size,
)
from innerloop.engine import STRATEGIES, Engine, Plan, take
from innerloop.engine.compiling import STANDARD, CompileFailed, Limits, Pending
from innerloop.engine.deciding import CHANGES, NOTHING, Facts, compiling
from innerloop.engine.plan import fastest
from innerloop.engine.recompute import recomputing
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel, check_model, convert
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.outputs import Output, choosing
from innerloop.meta_gradients.compiled import CompiledGradients
from innerloop.meta_learner.agent import made_of_data
from innerloop.meta_learner.boundary import (
    accumulate,
    admitted,
    check_finite,
    check_labels,
    check_task,
    expect_finite,
    expect_steps,
    looked_up,
    moved,
)
from innerloop.meta_learner.derivative_trial import expect_derivatives, needs_second, try_derivatives
from innerloop.meta_learner.fitted import Fitted, adapted
from innerloop.meta_learner.fitted_data import data_objective, expect_shared, rows_of
from innerloop.meta_learner.outer import Outer
from innerloop.meta_learner.pairing import Pairing, own_pairing
from innerloop.meta_learner.query_predictions import query_measures, query_predictions
from innerloop.meta_learner.support_set import support_set, wanted_by
from innerloop.meta_learner.trial import Trial, needs_of, try_loss, try_objective, try_out
from innerloop.models import MODELS, describe, printed
from innerloop.objectives import losses
from innerloop.tracebacks import shortened


class MetaLearner(nn.Module):
    """What a factory such as `il.maml` returns.

    ``parameters()`` begins with the model's own parameters, in its own order and shapes; learned rates and other parameters
    of the method come after. The given module is copied, not changed.

    Args:
        name: the method's registry name.
        options: the factory's arguments, JSON-able, to make it again.
        model: any nn.Module; `Parts` where the method brings networks of its own.
        pair: makes the learner and the meta-gradient from the pure model and the engine.
        outer: the recommended outer loop.
        loss: the factory's ``loss=``.
        batch_norm: policy of BatchNorm layers.
        inductive: predict queries one at a time beside the support set when evaluating, where the model mixes examples.
        norm_rows: inner steps + 1, for per-step statistics.
    """

    name: str
    options: dict[str, Any]
    made_of: str
    model: nn.Module
    notes: list[str]
    learner: BaseLearner
    meta_gradient: MetaGradient

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        model: nn.Module,
        pair: Pairing,
        *,
        outer: Outer,
        loss: str | losses.Loss | None = None,
        batch_norm: BatchNormPolicy = "batch",
        inductive: bool = False,
        norm_rows: int = 1,
    ) -> None:
        super().__init__()
        self.outer = outer
        self.loss = loss
        self.inductive = inductive
        given = model.model if isinstance(model, Parts) else model
        self.model_spec: dict[str, Any] | None = describe(given)
        self.model_class: str = f"{type(given).__module__}.{type(given).__qualname__}"
        self.model_record: dict[str, Any] = self.model_spec or {"custom": self.model_class, "printed": printed(given)}
        self.model, self.notes = convert(model, batch_norm, norm_rows)
        self.pure: PureModel = PureModel(self.model, batch_norm)
        self.engine: Engine = Engine()
        self.learner, self.meta_gradient = pair(self.pure, self.engine)
        self.engine.convolutional = self._adapts_convolutions()
        if self.learner.adapts_by_gradients and self.learner.inner_steps == 0:
            self.notes.append("inner_steps is 0: training adapts to no task; give 1 or more")
        # Name and options of an estimator that is not the method's own.
        self.meta_gradient_spec: dict[str, Any] | None = None
        self.made_by(name, options)
        self.compiled: CompiledGradients = CompiledGradients()
        self.meta_gradient.check(self.learner)
        rule = self.learner.init_rule(dict(self.model.named_parameters()), None)
        self.rule: nn.ParameterDict = nn.ParameterDict()
        self._rule_names = {key.replace(".", "|"): key for key in rule}
        for key, value in rule.items():
            self.rule[key.replace(".", "|")] = nn.Parameter(value.detach().clone())
        self.spec: TaskSpec = TaskSpec()  # of the family it was trained on, as far as known
        self.outer_step: int = 0
        self.carry: dict[str, Tensor] = self.meta_gradient.init(self.meta())
        self._recompute: bool | int = False
        self._mixes = False
        self._lacking = ""  # which function of the model has no second derivative that meta-training needs
        self._seen: set[Any] = set()
        self.output_size: int | None = None
        self._shared: tuple[Any, Any, Any] | None = None  # what tasks share: as given, where it went, as it is there

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        learner: Callable[[PureModel, Any], BaseLearner],
        meta_gradient: Callable[[Any, Engine], MetaGradient],
        rule: UpdateRule | None = None,
        outer: Outer | None = None,
        loss: str | losses.Loss | None = None,
        batch_norm: BatchNormPolicy = "batch",
        inductive: bool = False,
        output: Output = None,
        name: str = "own",
    ) -> MetaLearner:
        """A pairing of one's own: any learner, update rule and meta-gradient.

        Args:
            model: any nn.Module; copied, not changed.
            learner: makes the learner of one task: ``learner(pure_model, rule)``, such as `il.learners.GradientLearner`.
            meta_gradient: makes the estimator of the outer gradient: ``meta_gradient(learner, engine)``, such as
                `il.meta_gradients.Backprop`.
            rule: how a gradient becomes an update; None: for a learner that needs none.
            outer: the outer loop that `fit` takes where its caller does not say; None: Adam at 1e-3, 16 tasks a step.
            loss: ``loss(prediction, y)`` or a name; None: the learner's own, else the task's.
            batch_norm: policy of BatchNorm layers: "batch", "running", "frozen" or "none".
            inductive: in evaluation, predict queries one at a time beside the support set.
            output: which part of what the model returns is its output, where that is no tensor: a name, an index or a function.
            name: what reports call it.

        Returns:
            A MetaLearner. Files do not hold its parts: `il.load(path, learner=...)` takes a learner made in the same way.

        Raises:
            ConfigError: a factory that makes something else, or a pairing that cannot work.

        Example:
            >>> import innerloop as il
            >>> learner = il.MetaLearner.of(
            ...     il.models.mlp(1, 1),
            ...     rule=il.rules.SGD(0.01),
            ...     learner=lambda pure, rule: il.learners.GradientLearner(pure, rule, inner_steps=5),
            ...     meta_gradient=il.meta_gradients.Backprop,
            ... )
            >>> learner.made_of
            'GradientLearner x SGD x Backprop'
        """
        pair = own_pairing(learner, meta_gradient, rule)
        if batch_norm not in ("batch", "running", "frozen", "none"):
            raise ConfigError(f"batch_norm expected one of batch, running, frozen, none, got {batch_norm!r}")
        check_model(model)
        outer = outer or Outer()
        with choosing(output):
            made = cls(name, {}, model, pair, outer=outer, loss=loss, batch_norm=batch_norm, inductive=inductive)
        if loss is None:
            made.loss = getattr(made.learner, "loss", None)
        parts = [made.learner, *([] if rule is None else [rule]), made.meta_gradient]
        made.made_by(name, {}, made_of=" x ".join(type(part).__name__ for part in parts))
        return made

    @property
    def method_spec(self) -> dict[str, Any]:
        """The method as files hold it: name and options, and of a pairing of one's own what it is made of."""
        own = {"made_of": self.made_of} if self.made_of else {}
        return {"name": self.name, "options": self.options, **own}

    # ---- what is learned -------------------------------------------------------------------------------------------
    def meta(self) -> Meta:
        """The outer parameters as detached tensors that share memory with this module's."""
        params = {name: p.detach() for name, p in self.model.named_parameters()}
        rule = {name: p.detach() for name, p in self.rule_by_name().items()}
        buffers = {name: b for name, b in self.model.named_buffers() if name in self._running_names()}
        return Meta(params, rule, buffers)

    def snapshot(self) -> Meta:
        """`meta` as it is now, whatever happens to this module later."""
        return Meta(*({name: v.clone() for name, v in part.items()} for part in self.meta()))

    def rule_by_name(self) -> dict[str, nn.Parameter]:
        """What the method learns besides the model's parameters, by the names of `Meta.rule`."""
        return {self._rule_names[key]: p for key, p in self.rule.items()}

    def _running_names(self) -> set[str]:
        return set(self.learner.init_buffers()) if self.pure.has_batch_norm or self.pure.written else set()

    def _adapts_convolutions(self) -> bool:
        """Whether tasks have convolution weights of their own; shared ones cost vmap nothing."""
        adapted = set(getattr(self.learner, "adapted", ()))
        return any(
            isinstance(module, nn.modules.conv._ConvNd) and f"{name}.weight".lstrip(".") in adapted
            for name, module in self.model.named_modules()
        )

    def _apply(self, fn: Any, recurse: bool = True) -> MetaLearner:
        super()._apply(fn, recurse)
        self.carry = {name: fn(value) for name, value in self.carry.items()}
        return self

    @property
    def task_objective(self) -> Any:
        """The objective of the family it was trained on, as far as known."""
        return self.spec.objective

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Of one example, likewise."""
        return self.spec.input_shape

    @property
    def problem(self) -> dict[str, Any] | None:
        """The family's registered name and options, likewise."""
        return None if self.spec.problem is None else dict(self.spec.problem)

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How a user's files become inputs, likewise."""
        return None if self.spec.preprocessing is None else dict(self.spec.preprocessing)

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def inner_steps(self) -> int:
        return self.learner.inner_steps

    @property
    def eval_steps(self) -> int:
        return self.learner.eval_steps

    @property
    def strategy(self) -> str:
        return self.engine.strategy

    @strategy.setter
    def strategy(self, value: str) -> None:
        if value not in ("auto", *STRATEGIES):
            raise ConfigError(f"strategy expected 'auto' or one of {', '.join(STRATEGIES)}, got {value!r}")
        self.engine.strategy = value

    @property
    def low_precision(self) -> torch.dtype | None:
        """The type in which the model's products and convolutions run, its parameters staying as they are; None: theirs."""
        return self.pure.low_precision

    @low_precision.setter
    def low_precision(self, value: torch.dtype | None) -> None:
        self.pure.low_precision, self.engine.precision = value, str(value)

    @property
    def chunk_size(self) -> int | None:
        return self.engine.chunk_size

    @chunk_size.setter
    def chunk_size(self, value: int | None) -> None:
        if value is not None and value < 1:
            raise ConfigError(f"chunk_size expected None or at least 1, got {value}")
        self.engine.chunk_size = value

    @property
    def recompute(self) -> bool | int:
        """Whether inner steps are computed again in the outer backward pass, so that their graphs are not kept.

        True: in segments chosen so that memory hardly grows with the number of steps; a number: in segments of that many.
        """
        return self._recompute

    @recompute.setter
    def recompute(self, value: bool | int) -> None:
        if not isinstance(value, int) or value < 0 or (value == 0 and value is not False):
            raise ConfigError(f"recompute expected True, False or a number of inner steps, got {value!r}")
        self._recompute = value

    @property
    def mixes_examples(self) -> bool:
        """Whether one example's output depends on the others in its batch (batch statistics)."""
        return self.pure.mixes_by_norm or self._mixes

    def assume_mixing(self, mixes: bool) -> None:
        """Take over from a file what trying the model out had shown."""
        self._mixes = mixes and not self.pure.mixes_by_norm

    @property
    def transductive(self) -> bool:
        """Whether, in evaluation, one query's prediction can depend on the other queries."""
        return self.mixes_examples and not self.inductive

    # ---- the outer step --------------------------------------------------------------------------------------------
    def backward(self, batch: Task, *, outer_step: int | None = None) -> dict[str, Tensor]:
        """Add the meta-gradient, averaged over the tasks of ``batch``, to ``.grad``; return detached metrics.

        Args:
            batch: tasks with a leading axis.
            outer_step: where training is, for methods with a schedule of their own; None: the number of calls so far.

        Raises:
            InputError, ShapeError: data that does not fit.
            DivergedError: a loss or gradient that is not finite.
        """
        step = self.outer_step if outer_step is None else outer_step
        with shortened():
            found = self._outer_gradient(self.ready(batch, step), step)
        metrics = {name: value.detach() for name, value in found.metrics.items()}
        norm = torch.nn.utils.get_total_norm([*found.params.values(), *found.rule.values()])
        expect_finite(float(metrics["loss"]), float(norm), step)
        self.carry = found.carry
        for name, p in self.model.named_parameters():
            if p.requires_grad:  # a frozen parameter stays out of an optimizer's hands
                accumulate(p, found.params[name])
        for name, p in self.rule_by_name().items():
            accumulate(p, found.rule[name])
        with torch.no_grad():
            for name, value in found.buffers.items():
                self.model.get_buffer(name).copy_(value)
        self.outer_step = step + 1
        return metrics

    def made_by(self, name: str, options: Mapping[str, Any], made_of: str = "") -> None:
        """The call that makes it again, with the parts of a pairing of one's own, which files do not hold; plans go by it."""
        self.name, self.options, self.made_of = name, dict(options), made_of
        self.engine.identity = f"{name} {sorted(self.options.items(), key=str)} {self.model} {made_of}"

    def facts(self, batch: Task) -> Facts:
        """What is known here that decides how a step on tasks like these is run; see `engine.deciding`."""
        return dataclasses.replace(
            self.engine.facts,
            recompute=bool(self.recompute),
            shared=batch.shared is not None,
            compilable=self.meta_gradient.compilable,
            shardable=self.meta_gradient.shardable,
            phases=self.meta_gradient.of_mean_gradient and self.learner.adapts_by_gradients,
            inner_steps=self.learner.inner_steps,
            gathers=self.learner.gathers,
        )

    def _outer_gradient(self, batch: Task, step: int) -> OuterGradient:
        """The meta-gradient; nothing of this learner changes."""
        expect_derivatives(self.name, self._lacking)
        chosen = compiling(self.facts(batch))
        if chosen.what == NOTHING:
            if chosen.why_not == CHANGES:
                self.note(f"not compiled: {CHANGES}")
            with recomputing(self.recompute):
                return self.meta_gradient(self.carry, self.meta(), batch, step, None)
        found = self.compiled(self.meta_gradient, self.engine, self.carry, self.meta(), batch, step, chosen.what)
        if self.compiled.trouble:
            self.note(f"not compiled: {self.compiled.trouble}")
        return found

    def compile(self, batch: Task, outer_step: int = 0, limits: Limits = STANDARD) -> float:
        """Compile the meta-gradient for tasks like these; the seconds that it takes then. Raises CompileFailed, saying why."""
        return self.begin_compiling(batch, outer_step, limits).wait()

    def begin_compiling(self, batch: Task, outer_step: int = 0, limits: Limits = STANDARD) -> Pending[float]:
        """`compile` in other processes; `backward` goes on as before until it has been waited for."""
        batch = self.ready(batch, outer_step)
        expect_derivatives(self.name, self._lacking)
        chosen = compiling(dataclasses.replace(self.facts(batch), following=Plan("compiled")))
        if chosen.what == NOTHING:
            raise CompileFailed(chosen.why_not)
        parts, rest = (self.meta_gradient, self.engine), (batch, outer_step, chosen.what)
        begun = self.compiled.begin(*parts, self.carry, self.meta(), *rest, limits)
        return begun.then(lambda _: fastest(lambda: self.compiled(*parts, self.carry, self.meta(), *rest)))

    def plan(self, batch: Task, outer_step: int = 0) -> Plan:
        """How a step on tasks like these is run, measured now on copies; `backward` measures by itself at its third call."""
        batch = self.ready(batch, outer_step)
        expect_derivatives(self.name, self._lacking)
        with self.engine.planning() as made, recomputing(self.recompute):
            self.meta_gradient(self.carry, self.meta(), batch, outer_step, None)
        return made[-1] if made else self.engine.rule(batch)

    def ready(self, batch: Task, outer_step: int) -> Task:
        """A batch as the meta-gradient takes it: checked, in this learner's dtype and device, with a key for each task."""
        batch = self._with_noise(self.check(batch), outer_step)
        self.widen(self.learner.rows_for(batch))
        # From here on an objective is an `Objective`.
        given = batch.objective if self.loss is None else self.loss
        return dataclasses.replace(batch, objective=losses.as_objective(given))

    def experience(self, batch: Task, *, outer_step: int | None = None) -> Task:
        """The tasks with the data that an outer step is taken on; `backward` may then be called on them as often as wanted.

        Most methods take the tasks as they come, and then this changes nothing. See `BaseLearner.experience`.
        """
        step = self.outer_step if outer_step is None else outer_step
        if not self.learner.gathers:
            return batch
        with torch.no_grad():
            key = keys.task_keys(0, "experience", step, 0, 1)[0].to(self.device)
            return self.learner.experience(self.meta(), self.ready(batch, step), key)

    def _with_noise(self, batch: Task, outer_step: int | None = None) -> Task:
        if batch.noise is not None:
            return batch
        step = self.outer_step if outer_step is None else outer_step
        noise = keys.task_keys(0, "bare", step, 0, batch_size(batch))
        return dataclasses.replace(batch, noise=noise.to(self.device))

    def widen(self, rows: int | None) -> None:
        """Let the method's parameters that grow with the tasks' global classes have this many rows; None: they stay.

        The first batch calls it, and the reader of files. A parameter object stays the same and only its data grows, so an
        optimizer made before this still owns it.
        """
        if rows is None:
            return
        rule = self.rule_by_name()
        for name, value in self.learner.widened_rule(rule, rows).items():
            rule[name].data = value
            rule[name].grad = None

    # ---- one or many new tasks -------------------------------------------------------------------------------------
    def adapt(
        self,
        x: Any,
        y: Any = None,
        steps: int | None = None,
        *,
        target: str | None = None,
        objective: Objective | None = None,
        shared: Any = None,
        episodes: int | None = None,
    ) -> Fitted:
        """Adapt to one new task.

        Args:
            x: (examples, *input_shape): a tensor, an array or lists; or a dictionary of such for a model that takes one; or paths
                of pictures, or (without ``y``) a folder with one subfolder a class; or a table: a data frame, rows by column
                name, a file. For tasks that are not labelled examples: one task's support side, a pytree of tensors without
                a tasks axis; of pictures without labels also a folder of them; a policy's is its world.
            y: (examples,) class names (integers, booleans or strings) or (examples, outputs) floats.
            steps: inner steps; None: ``eval_steps``.
            target: the column of a table to learn; None: that of the training tables. The columns of later tables are found by
                their names.
            objective: of a task that is not labelled examples; None: that of the tasks it was trained on.
            shared: what the tasks share (`Task.shared`), which this one's data point into; of labelled `Examples`, ``x`` is rows.
            episodes: of a policy, how many it may play in its world; None: what the method says.

        Returns:
            A `Fitted`, independent of what happens to this learner later; of a task that is not labelled examples its
            ``predict`` takes what the model takes, and ``score`` and ``learn`` take such a side; of a world an `Agent`.
        """
        expect_steps(steps)
        found = data_objective(objective, self.task_objective, self.loss, x, y)
        if found is not None:
            expect_shared(shared, objective is None and self._shared is not None)
            return made_of_data(self, x, found, steps, shared, episodes)
        steps = self.eval_steps if steps is None else steps
        x, y = (x, y) if shared is None else rows_of(shared, x, y)
        return adapted(
            self, support_set(wanted_by(self), x, y, target), None, None if self.loss else self.task_objective, steps
        )

    def predict_queries(self, tasks: Task, steps: int | None = None, inductive: bool | None = None) -> Tensor:
        """Adapt to every task of a batch and predict its queries, (tasks, queries, outputs); no graph is kept."""
        steps = self.eval_steps if steps is None else steps
        return self._predictions(tasks, steps, inductive, last_only=True)[:, 0].contiguous()

    def trajectory(self, tasks: Task, steps: int, inductive: bool | None = None) -> Tensor:
        """Query predictions after 0, 1, ... ``steps`` inner steps: (steps + 1, tasks, queries, outputs); no graph is kept."""
        return self._predictions(tasks, steps, inductive, last_only=False).transpose(0, 1)

    def _predictions(self, tasks: Task, steps: int, inductive: bool | None, last_only: bool) -> Tensor:
        alone = (self.inductive if inductive is None else inductive) and self.mixes_examples
        batch = self._with_noise(self.check(tasks))
        batch = batch if batch.shared is None else looked_up(batch)
        learner = self.learner.in_evaluation()
        return query_predictions(self.engine, learner, self.meta(), batch, steps, alone=alone, last_only=last_only)

    # ---- the boundary ----------------------------------------------------------------------------------------------
    def check(self, batch: Task) -> Task:
        """``batch`` in this learner's dtype and device, or an error; new shapes are tried out once on the model."""
        batch = self.fitting(batch, many=True)
        if losses.is_labelled(batch.objective) and self.output_size:
            check_labels(batch, self.output_size)
        return batch

    def fitting(self, batch: Task, many: bool = False) -> Task:
        """`check` without a look at the labels' values.

        Args:
            batch: tasks.
            many: they go through the engine, to be trained on or judged; False: there is one, to adapt to.
        """
        batch = check_task(batch, self.dtype, self.device, self.loss)
        if batch.shared is not None:
            batch = dataclasses.replace(batch, shared=self._beside(batch.shared))
        if not losses.is_labelled(batch.objective) or (batch.shared is not None and self.learner.any_data):
            return self._fitting_any(batch, many)
        # Learners that read examples themselves are given those that are shared.
        batch = admitted(self.learner, batch if batch.shared is None else looked_up(batch))
        side = batch.support
        leaves, tree = pytree.tree_flatten(side.x)
        inputs = str(tree), tuple((v.shape[2:], v.dtype) for v in leaves)
        given = losses.as_objective(batch.objective if self.loss is None else self.loss)  # a batch may come twice
        signature = (inputs, side.y.shape[2:], side.y.dtype, given, side.mask is None, many)
        if signature not in self._seen:
            self._heed(try_out(self.pure, self.learner, self.meta(), batch, training=many), batch)
            self._differentiate(dataclasses.replace(batch, objective=given), many)
            self._seen.add(signature)
        return batch

    def _fitting_any(self, batch: Task, many: bool) -> Task:
        """A batch whose data its objective alone knows."""
        objective = losses.as_objective(batch.objective)
        if not self.learner.any_data:
            raise ConfigError(
                f"{self.name} expected tasks of labelled examples (x, y), got those of the objective {objective.name}; use a "
                "method that adapts by gradients, such as il.maml"
            )
        if self.loss is not None and not losses.is_labelled(objective):
            raise ConfigError(f"loss expected none beside the tasks' own objective {objective.name}; leave it out")
        shapes = tuple((tuple(v.shape[1:]), v.dtype) for v in pytree.tree_leaves((batch.support, batch.query)))
        if (shapes, objective, many) not in self._seen:
            one = take(self._with_noise(batch), 0)
            if not self.learner.tried(self.meta(), one):
                self._heed_needs(try_objective(self.pure, self.meta(), objective, one))
                self._differentiate(dataclasses.replace(batch, objective=objective), many)
            self._seen.add((shapes, objective, many))
        return batch

    def _beside(self, shared: Any) -> Any:
        """What all tasks share, where this learner is; moved there once."""
        held, here = self._shared, (self.dtype, self.device)
        if held is None or held[1] != here or all(shared is not known for known in (held[0], held[2])):
            for leaf in pytree.tree_leaves(shared):
                check_finite(leaf, "shared")
            self._shared = held = (shared, here, moved(shared, *here))
        return held[2]

    def _heed_needs(self, found: Trial) -> None:
        """Do what a trial on one task has shown to be needed."""
        loops, notes = needs_of(found, self.pure)
        self.engine.needs_loop = tuple(dict.fromkeys((*self.engine.needs_loop, *loops)))
        self.pure.plain_attention |= found.attention
        for text in notes:
            self.note(text)
        if found.random:
            self._draw_by_key()
        self.assume_mixing(self.mixes_examples or found.mixes_examples)

    def _draw_by_key(self) -> None:
        """The model draws random numbers by itself: from now on it finds its sources seeded at every pass."""
        self.engine.needs_loop = tuple(dict.fromkeys((*self.engine.needs_loop, "random numbers of the model's own")))
        self.pure.draws_itself = self.pure.draws_noise = True
        self.meta_gradient.check(self.learner)
        self.note(
            "the model draws random numbers by itself: in meta-training from each task's key, outside of it from a fixed one"
        )

    def _differentiate(self, batch: Task, many: bool) -> None:
        """Differentiate a model or a loss of somebody's own once, and do what that has shown to be needed.

        One task to adapt to needs first derivatives alone, and vmap where its queries are predicted one by one. Models of
        `il.models` with losses that have a name are not tried: the tests hold them to the same.
        """
        objective = losses.as_objective(batch.objective if self.loss is None else self.loss)
        if (self.model_spec or {}).get("name") in MODELS and not losses.is_own(objective):
            return
        second = many and needs_second(self.learner, self.meta_gradient.order)
        loops = bool(self.engine.needs_loop) or not (many or self.mixes_examples)
        batch = self._with_noise(batch)
        found = try_derivatives(self.pure, self.learner, self.meta(), batch, training=many, second=second, loops=loops)
        if found.random and not self.pure.draws_itself:
            self._draw_by_key()
        if found.vmap:
            self.engine.needs_loop = ("this model",)
            self.note(f"tasks run one after the other, since torch cannot vmap this model rightly: {found.vmap}")
        if found.note:
            self.note(found.note)
        self._lacking = found.lacking or self._lacking

    def _heed(self, found: Trial, batch: Task) -> None:
        """`_heed_needs`, and try the loss on what the model gave."""
        self._heed_needs(found)
        if not self.learner.any_ways:
            self.output_size = found.shape[-1] if len(found.shape) > 1 else 1
        y = batch.support.y[0]
        output = torch.zeros(found.shape, dtype=self.dtype, device=self.device)
        try_loss(losses.resolve(self.loss or batch.objective, y), output, y)

    def measure_queries(self, tasks: Task, steps: int | None = None, path: bool = False) -> dict[str, Tensor]:
        """What the tasks' objective measures on the query side of each once adapted: {metric: (times, tasks)}; no graph.

        Args:
            tasks: a batch.
            steps: inner steps; None: ``eval_steps``.
            path: after 0, 1, ... ``steps`` steps; False: after ``steps`` alone.
        """
        batch = self.ready(tasks, self.outer_step)
        steps = self.eval_steps if steps is None else steps
        found = query_measures(self.engine, self.learner.in_evaluation(), self.meta(), batch, steps, last_only=not path)
        return {name: value.T for name, value in found.items()}

    def note(self, text: str) -> None:
        """Remember, once, what was done on the user's behalf; `fit` and the report say it."""
        if text not in self.notes:
            self.notes.append(text)
            logging.getLogger("innerloop").info(text)

    def __repr__(self) -> str:
        """One line; ``print(learner.model)`` shows the model's layers."""
        model, own = (sum(p.numel() for p in module.parameters()) for module in (self.model, self.rule))
        method = self.name + (f" ({self.made_of})" if self.made_of else "")
        size = f"{model:,}" + (f" + {own:,}" if own else "")
        more = "" if self.eval_steps == self.inner_steps else f", {self.eval_steps} on new tasks"
        return (
            f"MetaLearner({method}, {self.model_class.rpartition('.')[2]} with {size} parameters, inner steps "
            f"{self.inner_steps}{more}, strategy {self.strategy})"
        )
