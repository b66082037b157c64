"""Adapt to tasks never seen, judge the queries."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys
from innerloop.core import Beside, Measured, Meta, Report, Task, TaskDistribution, examples_of
from innerloop.errors import ConfigError, DivergedError, InputError, expect_whole
from innerloop.evaluation import baselines as simplest
from innerloop.evaluation import confidence
from innerloop.meta_learner.boundary import looked_up
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.query_predictions import MEASURED
from innerloop.objectives import losses
from innerloop.objectives.metrics import OF_THE_SECOND, UNJUDGED, check
from innerloop.provenance import commit, environment
from innerloop.training.distributed import Group
from innerloop.waiting import waiting

# Examples of a batch at most, to bound memory; results do not depend on it.
_EXAMPLES = 2_000
_DRAWN = 600  # tasks, where nobody says how many


def few_tasks(tasks: TaskDistribution) -> tuple[bool, int | None]:
    """(whether each distinct task is judged where nobody says how many, in how many draws of its rows)."""
    if tasks.size is None or tasks.size > _DRAWN:
        return False, None
    return True, 1 if tasks.one_draw else _DRAWN // tasks.size


@waiting("evaluating on new tasks, and the simplest predictors on the same")
def evaluate(
    learner: MetaLearner,
    tasks: TaskDistribution,
    *,
    num_tasks: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    curve_steps: int | None = None,
    transductive: bool | None = None,
    allow_diverged: bool = False,
    group: Group | None = None,
    metric: str | Sequence[str] | None = None,
    every_task: bool = False,
    draws: int | None = None,
    baselines: bool = True,
) -> Report:
    """Mean and 95 % interval of a metric over fixed tasks.

    Args:
        learner: any MetaLearner; nothing in it changes.
        tasks: one split of a problem.
        num_tasks: how many tasks are drawn; None: 600, as in the papers. Where there are 600 distinct tasks or fewer, None is
            ``every_task``, in so many draws that there are about 600: the interval is over distinct tasks.
        seed: which tasks: task i is a function of (seed, split, i).
        steps: inner steps; None: the learner's ``eval_steps``.
        curve_steps: also give the metric after 0, 1, ... this many steps.
        transductive: False: predict each query beside the support set alone; True: all queries of a task together; None: the
            method's protocol (`MetaLearner.inductive`).
        allow_diverged: give the mean as it comes, infinite or NaN, where some tasks diverged.
        group: processes that share the tasks out; each has to call this, and each gets the whole report. None: this process
            takes all tasks.
        metric: one name or several, the first is the one reported: accuracy, f1, roc_auc, average_precision, delta_auprc for
            labels; mse, mae, rmse, r2 for values; "log_likelihood" (nats a query) for a learner that predicts a distribution;
            those of the problem's own objective. None: the problem's, and all others that its targets can be judged by. Errors
            of values are in the target's own unit (mse: its square) where the problem knows it.
        every_task: judge each of the problem's distinct tasks, in order, instead of drawing ``num_tasks``.
        draws: with ``every_task``: how often each is drawn, with other rows shown; its value is the mean over them; None: once.
        baselines: judge the simplest predictors (`innerloop.evaluation.baselines`) on the same tasks by the same metric, where
            they suit: tensors of inputs, with classes or values to predict.

    Raises:
        ConfigError: ``every_task`` for a problem whose tasks are without end; ``num_tasks`` below 1; an unknown metric, or one
            that the method or the targets have no answer to.
        DivergedError: adapting gave values that are not finite on some tasks.
        InputError, ShapeError: tasks that the learner's model cannot take.
    """
    if not isinstance(tasks, TaskDistribution):
        raise InputError(f"evaluate expected one split such as tasks.test, got {type(tasks).__name__}")
    if num_tasks is not None and num_tasks < 1:
        raise ConfigError(f"num_tasks expected at least 1, got {num_tasks}")
    for name, value in (("steps", steps), ("curve_steps", curve_steps)):
        if value is not None and value < 0:
            raise ConfigError(f"{name} expected at least 0, got {value}")
    names = _asked(tasks, metric)
    metric, higher = next(iter(names.items()))
    inductive = learner.inductive if transductive is None else not transductive
    started = time.perf_counter()
    of_tasks = getattr(tasks, "inner_steps", None)  # training runs say themselves how long they are
    main = (of_tasks or learner.eval_steps) if steps is None else steps
    group = Group() if group is None else group
    if num_tasks is None and not every_task and draws is None:
        every_task, draws = few_tasks(tasks)
    if every_task:
        if tasks.size is None:
            raise ConfigError(
                f"every_task expected a problem with a finite number of distinct tasks, got {tasks.name}; leave it out"
            )
        num_tasks = tasks.size
    elif draws is not None:
        raise ConfigError("draws expected every_task=True, which says how often each task is drawn; leave it out")
    num_tasks = _DRAWN if num_tasks is None else num_tasks
    draws = 1 if draws is None else draws
    expect_whole("draws", draws)
    part = group.part(num_tasks * draws)
    longest = None if curve_steps is None else max(main, curve_steps)

    beside: tuple[str, ...] = ()
    sure = 0  # rows of how sure the predictions are
    if metric in losses.METRICS and losses.is_labelled(tasks.objective):
        one = tasks.at(seed, 0, 1)
        one = one if one.shared is None else looked_up(one)
        beside = simplest.names(simplest.seen(one, tasks.preprocessing, tasks.item_columns)) if baselines else ()
        of_classes = not one.query.y.is_floating_point() and one.query.y.ndim == 2
        sure = confidence.ROWS if of_classes and set(names) - set(losses.DISTRIBUTION_METRICS) else 0
    elif baselines and metric == next(iter(losses.metrics_of(tasks.objective, None))):
        beside = tasks.beside
    scale, offset = (
        None if own is None else torch.as_tensor(own, dtype=torch.float64)
        for own in (tasks.target_scale, tasks.target_offset)
    )

    def values(batch: Task) -> Tensor:
        """Of some tasks, (rows, tasks): metrics after ``main`` steps, or after 0, 1, ... ``longest``; then how sure it is, and
        the baselines."""
        steps, path = main if longest is None else longest, longest is not None
        found: dict[str, Tensor] = {}
        counted: list[Tensor] = []
        ways = 0
        if not losses.is_labelled(batch.objective):
            found = learner.measure_queries(batch, steps, path=path)
        else:
            batch = batch if batch.shared is None else looked_up(batch)
            outputs = [name for name in names if name not in losses.DISTRIBUTION_METRICS]
            if outputs:
                if path:
                    predictions = learner.trajectory(batch, steps, inductive)
                else:
                    predictions = learner.predict_queries(batch, steps, inductive)[None]
                batch = batch if learner.loss is None else dataclasses.replace(batch, objective=learner.loss)
                judged = [task_metrics(outputs, prediction, batch, scale, offset) for prediction in predictions]
                found = {name: torch.stack([one[name] for one in judged]) for name in outputs}
                ways = predictions.shape[-1]
                if sure:
                    counted = [confidence.counted(predictions[main if path else 0], batch.query.y, batch.query.mask)]
            if len(outputs) < len(names):
                found["log_likelihood"] = log_likelihoods(learner, batch, steps, path=path)
        rows = torch.stack([found[name] for name in names], 1).flatten(0, 1)
        counted = [one.to(rows) for one in counted]
        return torch.cat([rows, *counted, *(value[None].to(rows) for value in known_of(batch, ways))])

    def known_of(batch: Task, ways: int) -> list[Tensor]:
        """What the baselines reach, (tasks,) each."""
        if not beside or not losses.is_labelled(batch.objective):
            known: Any = tasks
            noise: Any = batch.noise
            return [known.measure_beside(name, batch, keys.fold(noise, MEASURED)) for name in beside]
        full = simplest.seen(batch, tasks.preprocessing, tasks.item_columns)
        said = [simplest.predictions(name, full, ways) for name in beside]
        return [task_metrics([metric], one, batch, scale, offset)[metric] for one in said]

    with group.together():
        rows = (1 if longest is None else longest + 1) * len(names)
        none = torch.zeros(rows + sure + len(beside), 0, dtype=torch.float64, device=learner.device)
        batches = in_batches(tasks, part.count, seed=seed, first=part.first, draws=draws if every_task else None)
        own = torch.cat([none, *map(values, batches)], 1)
    every = group.columns(own, part)
    found = every[:rows].unflatten(0, (-1, len(names)))  # (steps, metrics, tasks)
    ece = confidence.expected_calibration_error(every[rows : rows + sure]) if sure else None
    simple = every[rows + sure :]
    of: list[int] | None = None
    if every_task:
        each = zip(names, found.unflatten(2, (num_tasks, draws)).unbind(1), strict=True)
        found = torch.stack([v.nanmean(2) if name in UNJUDGED else v.mean(2) for name, v in each], 1)
        simple = simple.unflatten(1, (num_tasks, draws)).nanmean(2)
        of = [0] if num_tasks == 1 else None  # one task says nothing of others
    else:
        which = tasks.which(keys.task_keys(seed, tasks.split, 0, 0, num_tasks))
        of = None if which is None else which.tolist()
    at_main = dict(zip(names, found[0 if longest is None else main].tolist(), strict=True))
    measured = {name: _measured(name, row, of, names[name]) for name, row in at_main.items()}
    per_task: list[float] = at_main[metric]
    diverged = sum(not math.isfinite(value) for value in _judged(metric, per_task))
    if diverged and not allow_diverged:
        raise DivergedError(
            f"{diverged} of {num_tasks} tasks gave a {metric} that is not finite after {main} inner steps; "
            "use fewer steps, or a lower inner rate"
        )
    if not measured[metric].num_tasks and not allow_diverged:
        raise InputError(f"{metric} can be judged on none of these {num_tasks} tasks; choose another metric")
    points = [] if curve_steps is None else found[: curve_steps + 1, 0].tolist()
    curve = [_measured(metric, row, of, higher) for row in points]
    return Report(
        metric=metric,
        mean=measured[metric].mean,
        ci95=measured[metric].ci95,
        per_task=tuple(per_task),
        num_tasks=num_tasks,
        seed=seed,
        split=tasks.split,
        transductive=learner.mixes_examples and not inductive,
        curve=tuple(point.mean for point in curve),
        curve_ci95=tuple(point.ci95 for point in curve),
        higher_is_better=higher,
        metrics=measured,
        baselines={
            name: _beside(metric, row, per_task, of, higher) for name, row in zip(beside, simple.tolist(), strict=True)
        },
        ece=ece,
        distinct=None if of is None else len(set(of)),
        config={
            "algorithm": learner.method_spec,
            **({"meta_gradient": learner.meta_gradient_spec} if learner.meta_gradient_spec else {}),
            "model": learner.model_record,
            "tasks": {"name": tasks.name, **({"draws": draws} if every_task else {})},
            "steps": main,
        },
        commit=commit(),
        environment=environment(),
        wall_seconds=time.perf_counter() - started,
    )


def _judged(name: str, values: Sequence[float]) -> list[float]:
    """The values of a metric on the tasks that it can judge."""
    return [v for v in values if not (name in UNJUDGED and math.isnan(v))]


def _measured(name: str, values: Sequence[float], of: Sequence[int] | None, higher_is_better: bool) -> Measured:
    """One metric over tasks; its interval is over the distinct ones, of which ``of`` has a number for each value."""
    judged = _judged(name, values)
    mean, ci95 = mean_ci95(judged) if judged else (math.nan, math.nan)
    if of is not None and math.isfinite(mean):
        own = means_by_task(values, of)
        ci95 = mean_ci95(own)[1] if len(own) > 1 else math.nan  # many draws of one task say nothing of others
    return Measured(mean, ci95, len(judged), higher_is_better)


def _beside(
    name: str, values: Sequence[float], learners: Sequence[float], of: Sequence[int] | None, higher_is_better: bool
) -> Beside:
    """A baseline's metric, and the learner's lead over it on the tasks that both are judged on."""
    sign = 1.0 if higher_is_better else -1.0
    pairs = [sign * (own - value) for own, value in zip(learners, values, strict=True)]
    lead = _measured(name, pairs, of, True)
    return Beside(
        **dataclasses.asdict(_measured(name, values, of, higher_is_better)), lead=lead.mean, lead_ci95=lead.ci95
    )


def over_seeds(reports: Sequence[Report]) -> Report:
    """What learners of several training seeds reach together on the same tasks; all intervals are over seeds.

    A task's value is the mean over seeds; of the metrics the reported one is there alone.
    """
    first = reports[0]
    mean, ci95 = mean_ci95([report.mean for report in reports])
    curve = [mean_ci95(values) for values in zip(*(report.curve for report in reports), strict=True)]
    leads = {name: mean_ci95([report.baselines[name].lead for report in reports]) for name in first.baselines}
    return dataclasses.replace(
        first,
        mean=mean,
        ci95=ci95,
        per_task=tuple(mean_ci95(each)[0] for each in zip(*(report.per_task for report in reports), strict=True)),
        curve=tuple(m for m, _ in curve),
        curve_ci95=tuple(c for _, c in curve),
        metrics={},
        ece=None if first.ece is None else mean_ci95([report.ece or 0.0 for report in reports])[0],
        baselines={
            name: dataclasses.replace(first.baselines[name], lead=lead, lead_ci95=width)
            for name, (lead, width) in leads.items()
        },
        wall_seconds=sum(report.wall_seconds for report in reports),
    )


def means_by_task(values: Sequence[float], of: Sequence[int]) -> list[float]:
    """The mean value of each distinct task among draws of them, those that can be judged."""
    found: dict[int, list[float]] = {}
    for value, number in zip(values, of, strict=True):
        if not math.isnan(value):
            found.setdefault(number, []).append(value)
    return [math.fsum(own) / len(own) for _, own in sorted(found.items())]


def _asked(tasks: TaskDistribution, metric: str | Sequence[str] | None) -> dict[str, bool]:
    """The metrics to measure and their directions, the reported one first."""
    if metric is not None:
        return losses.metrics_of(tasks.objective, [metric] if isinstance(metric, str) else metric)
    own = losses.metrics_of(tasks.objective, tasks.metrics)
    if not losses.is_labelled(tasks.objective):
        return own
    first = next(iter(own))
    kinds = [losses.METRICS[name].kind for name in own if name in losses.METRICS]
    same = ("values",) if "values" in kinds else ("labels", "scores") if kinds else ()
    return own | {n: m.higher_is_better for n, m in losses.METRICS.items() if m.kind in same and n != first}


def task_metrics(
    names: Sequence[str], prediction: Tensor, batch: Task, scale: Tensor | None = None, offset: Tensor | None = None
) -> dict[str, Tensor]:
    """These metrics of each task, (tasks,) each, in double precision.

    Args:
        names: of `losses.METRICS`.
        prediction: of the queries, (tasks, queries, outputs).
        batch: the tasks.
        scale: of each output, what its values are multiplied by to be in the target's unit; None: they are.
        offset: of each output, what is added then, for values as the user has them; None: nothing.
    """
    query = batch.query
    y = query.y.to(prediction.device)
    prediction = prediction.to(torch.float64)
    if y.is_floating_point():
        y = y.to(torch.float64)
        if scale is not None:
            prediction, y = (v * scale.to(v.device) for v in (prediction, y))
        if offset is not None:
            prediction, y = (v + offset.to(v.device) for v in (prediction, y))
    labels = losses.judges_labels(losses.resolve(batch.objective, y), prediction[0], y[0])
    # NaN is what these metrics say of a task that they cannot judge; one that diverged is something else.
    finite = torch.isfinite(prediction).flatten(2).all(2)
    finite = (finite if query.mask is None else finite | ~query.mask.to(finite.device)).all(1)
    found = {}
    for name in names:
        check(name, prediction.shape[1:], query.y.dtype, query.y.shape[1:], labels=labels)
        function = losses.METRICS[name].function
        p, t = in_global_order(prediction, y, batch.class_ids) if name in OF_THE_SECOND else (prediction, y)
        if query.mask is None:
            found[name] = torch.vmap(lambda p, t, f=function: f(p, t, None))(p, t)
        else:
            found[name] = torch.vmap(function)(p, t, query.mask.to(prediction.device))
        if name in UNJUDGED:
            found[name] = torch.where(finite, found[name], torch.inf)
    return found


def in_global_order(prediction: Tensor, y: Tensor, class_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Predictions (tasks, queries, ways) and labels of two classes in the order of their global numbers; others as they are."""
    if class_ids is None or y.is_floating_point() or prediction.shape[-1] != 2 or class_ids.shape[-1] != 2:
        return prediction, y
    turned = (class_ids[:, 0] > class_ids[:, 1]).to(prediction.device)
    return (
        torch.where(turned[:, None, None], prediction.flip(-1), prediction),
        torch.where(turned[:, None], 1 - y, y),
    )


def card(report: Report, folder: str | Path) -> Path:
    """Write the evaluation card ``evaluation.json`` into a run directory."""
    from innerloop.storage import write_atomically

    path = Path(folder) / "evaluation.json"
    write_atomically(path, json.dumps(as_dict(report), indent=1, allow_nan=False).encode())
    return path


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain JSON values; a number that is not finite (a curve beyond where tasks diverge) becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(dataclasses.asdict(report))


# ---- the tasks of an evaluation, and what is made of them --------------------------------------------------------
def in_batches(
    tasks: TaskDistribution, num_tasks: int, *, seed: int = 0, first: int = 0, draws: int | None = None
) -> Iterator[Task]:
    """Tasks ``first`` to ``first + num_tasks`` of a seed, in order: at most 50 and about 2,000 examples at a time.

    Args:
        tasks: one split.
        num_tasks: how many.
        seed, first: which.
        draws: go through the problem's distinct tasks, each so many times in a row; None: draw them.
    """

    def drawn(number: int, start: int) -> Task:
        if draws is None:
            return tasks.at(seed, 0, number, start)
        numbers = torch.arange(start, start + number) // draws
        return tasks.each(keys.task_keys(seed, tasks.split, 0, start, number), numbers)

    start, end = first, first + num_tasks
    while start < end:
        one = drawn(1, start)
        number = min(end - start, tasks.at_once, max(1, _EXAMPLES // max(1, examples_of(one))))
        number = min(number, tasks.alike - start % tasks.alike if tasks.alike else number)
        yield one if number == 1 else drawn(number, start)
        start += number


def log_likelihoods(owner: MetaLearner, tasks: Task, steps: int, path: bool = False) -> Float[Tensor, "steps tasks"]:
    """Each task's mean log density (labels: log probability) of its queries that count, in nats a query; no graph is kept.

    Args:
        owner: a learner with a predictive distribution.
        tasks: a batch.
        steps: inner steps.
        path: after 0, 1, ... ``steps`` steps; False: after ``steps`` alone.

    Raises:
        ConfigError: a method that predicts values alone.
    """
    if not owner.learner.predicts_distribution:
        raise ConfigError(f"{owner.name} predicts no distribution, so there is no log_likelihood; leave the metric out")
    learner = owner.learner.in_evaluation()

    def run(meta: Meta, task: Task) -> Tensor:
        seen: list[Tensor] = []

        def observe(fast: Any, i: int) -> None:
            if path or i == steps:
                seen.append(losses.masked_mean(learner.log_density(meta, fast, task.query), task.query.mask))

        learner.adapt(meta, task, steps, observe)
        return torch.stack(seen)

    found = owner.engine.map(run, owner.meta(), owner.ready(tasks, owner.outer_step))
    return found.T.to(torch.float64)


def mean_ci95(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, ``1.96 sd / sqrt(n)`` with the sample sd; the width is 0 for one value."""
    n = len(values)
    if not all(math.isfinite(v) for v in values):
        return math.nan if any(math.isnan(v) for v in values) else math.inf, math.nan
    mean = math.fsum(values) / n
    if n < 2:
        return mean, 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, 1.96 * math.sqrt(variance / n)
