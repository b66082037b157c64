"""Curves of one-dimensional regression: predictions before and after adapting, the truth, the average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.report import style
from innerloop.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Curve = Float[np.ndarray, " points"]
Line = Float[np.ndarray, "_"]  # (points,) too; its length is checked where it is drawn, with a message
Points = Float[np.ndarray, " support"]
# Predictions get darker with every step shown: one hue, so that the order is seen without the legend.
_BEFORE = "#7f7f7f"
_HUES = ("#74b3d8", "#2f86bd", "#0b5a94", "#06335c")
_TRUTH = "#222222"
_AVERAGE = "#E69F00"


def mean_sine(
    x: Curve, amplitude: tuple[float, float] = (0.1, 5.0), phase: tuple[float, float] = (0.0, float(np.pi))
) -> Curve:
    """The average over all tasks of A sin(x - phase), A and phase uniform on these ranges and independent.

    It is what one model that fits all tasks at once tends to: the constant best guess where no support set
    is looked at.

    Args:
        x: (points,) in the units of the phase, radians.
        amplitude: range of A; (0.1, 5) as in Finn et al. 2017 (arXiv 1703.03400).
        phase: range of the phase in radians; (0, pi) as there.
    """
    mean_amplitude = (amplitude[0] + amplitude[1]) / 2
    low, high = phase
    if high == low:
        return mean_amplitude * np.sin(x - low)
    return mean_amplitude * (np.cos(x - high) - np.cos(x - low)) / (high - low)


@runtime_checkable
class KnowsCurves(Protocol):
    """A distribution that can tell the true curve of its tasks, such as `innerloop.tasks.curves.sinusoid.SineTasks`."""

    def curve(self, keys: Int64[Tensor, " tasks"], x: Float[Tensor, "#tasks points"]) -> Float[Tensor, "tasks points"]:
        """The true curves of the tasks of these keys at ``x``, without noise."""
        ...


@runtime_checkable
class KnowsPosterior(Protocol):
    """A distribution that can tell what a task's support set says of its curve, exactly."""

    def posterior_curve(
        self, key: Int64[Tensor, " one"], x: Float[Tensor, " points"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
        """Mean and standard deviation of a new value at ``x``, for the task of this key."""
        ...


class Exact(NamedTuple):
    """The exact posterior of a task: mean and standard deviation, (points,) each."""

    mean: Line
    sd: Line


def counted(side: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of all examples that count, flat."""
    x, y = (np.asarray(v.double()).reshape(-1) for v in (side.x, side.y))
    if side.mask is None:
        return x, y
    kept = np.asarray(side.mask).reshape(-1)
    return x[kept], y[kept]


def average_curve(distribution: TaskDistribution, x: Curve, *, num_tasks: int = 4000, seed: int = 0) -> Curve:
    """The average of the tasks' true curves at ``x``, (points,), over drawn tasks.

    Where the distribution cannot tell true curves, the targets of its tasks are averaged in sixty stretches
    of the input's range and joined by straight lines.
    """
    import torch

    if isinstance(distribution, KnowsCurves):
        drawn = random_keys.task_keys(seed, distribution.split, 0, 0, num_tasks)
        return distribution.curve(drawn, torch.as_tensor(x)[None]).double().mean(0).numpy()
    task, bins = distribution.at(seed, 0, num_tasks), 60
    xs, ys = (np.concatenate(parts) for parts in zip(counted(task.support), counted(task.query), strict=True))
    edges = np.linspace(xs.min(), xs.max(), bins + 1)
    place = np.clip(np.digitize(xs, edges) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    full = count > 0
    middle, mean = (np.bincount(place, weights=w, minlength=bins)[full] / count[full] for w in (xs, ys))
    return np.interp(x, middle, mean)


def middle_task(distribution: TaskDistribution, *, seed: int = 0, among: int = 9) -> int:
    """The index of a task to show: of the first ``among``, the one whose targets have the median spread.

    Neither the flattest curve, on which everything looks right, nor the steepest, on which everything looks
    wrong.
    """
    spread = distribution.at(seed, 0, among).query.y.double().reshape(among, -1).std(1)
    return int(spread.argsort()[among // 2])


def predicted_curves(
    learners: Mapping[str, Any], task: Task, x: Curve, steps: Sequence[int] = (0, 1, 5, 10)
) -> dict[str, dict[int, Curve]]:
    """Every learner's prediction at ``x`` after each number of inner steps on the support set of one task.

    Args:
        learners: label to MetaLearner.
        task: a batch that holds exactly one task, with inputs (1, examples, 1).
        x: (points,) where to predict.
        steps: numbers of inner steps.
    """
    import torch

    support = task.support
    grid = torch.as_tensor(x, dtype=support.x.dtype, device=support.x.device).reshape(1, -1, 1)
    query = Examples(x=grid, y=torch.zeros(1, grid.shape[1], support.y.shape[-1]).to(support.y))
    asked = Task(support=support, query=query, objective=task.objective, noise=task.noise)
    found = {}
    for label, learner in learners.items():
        path = learner.trajectory(asked, max(steps)).detach().cpu().double().numpy()
        found[label] = {step: path[step, 0, :, 0] for step in steps}
    return found


def predicted_spreads(learners: Mapping[str, Any], task: Task, x: Curve) -> dict[str, Curve]:
    """The standard deviation at ``x`` that each learner predicts after its own steps, where it predicts one.

    Args:
        learners, task, x: as for `predicted_curves`.
    """
    import torch

    rows = slice(None) if task.support.mask is None else task.support.mask[0]
    grid = torch.as_tensor(x, dtype=task.support.x.dtype).reshape(-1, 1)
    found = {}
    for label, learner in learners.items():
        if getattr(getattr(learner, "learner", None), "predicts_distribution", False):
            fitted = learner.adapt(task.support.x[0][rows], task.support.y[0][rows])
            found[label] = fitted.predict_std(grid)[:, 0].cpu().double().numpy()
    return found


def sine_figure(
    x: Curve,
    truth: Line | None,
    support: tuple[Points, Points],
    predictions: Mapping[str, Mapping[int, Line]],
    average: Line | None = None,
    spreads: Mapping[str, Line] | None = None,
    exact: Exact | None = None,
) -> Figure:
    """One panel a learner, side by side, all on the same task and the same axes.

    Args:
        x: (points,) of all curves.
        truth: (points,) the task's own curve; None where it is not known.
        support: inputs and targets of the support points, (support,) each.
        predictions: label to {inner steps: (points,)}; 0 is the prediction before adapting.
        average: (points,) the average of all tasks; None: not drawn.
        spreads: label to (points,) standard deviations: a band of two of them to either side of the last prediction.
        exact: the posterior that no learner can better, with its band; None: not drawn.
    """
    wide = len(predictions) > 1
    columns = 2 if len(predictions) > 2 else len(predictions)
    rows = -(-len(predictions) // columns)
    figure = style.new_figure(5.0 * columns if wide else 6.2, 3.4 * rows + 1.1)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    every_step = sorted({step for fits in predictions.values() for step in fits})
    later = [step for step in every_step if step > 0]
    picked = np.linspace(0, len(_HUES) - 1, max(len(later), 2))[-max(len(later), 1) :] if later else []
    hue = dict(zip(later, (_HUES[round(i)] for i in picked), strict=True))
    legend: dict[str, Any] = {}
    for panel, (label, fits) in zip(panels, predictions.items(), strict=False):
        if truth is not None:
            (legend["true curve"],) = panel.plot(x, truth, color=_TRUTH, linewidth=5, alpha=0.22)
        if average is not None:
            # Above the predictions: of a model that has learned just this, it would be hidden below them.
            (legend["average of all tasks"],) = panel.plot(
                x, average, color=_AVERAGE, linewidth=2.6, linestyle=":", zorder=4
            )
        if exact is not None:
            (legend["exact posterior, ±2 sd"],) = panel.plot(x, exact.mean, color=_TRUTH, linewidth=1.6, linestyle=":")
            for edge in (exact.mean - 2 * exact.sd, exact.mean + 2 * exact.sd):
                panel.plot(x, edge, color=_TRUTH, linewidth=1.0, linestyle=":")
        if label in (spreads or {}) and later:
            middle, sd = fits[later[-1]], (spreads or {})[label]
            legend["predicted ±2 sd"] = panel.fill_between(
                x, middle - 2 * sd, middle + 2 * sd, color=_HUES[0], alpha=0.35, linewidth=0
            )
        for step in sorted(fits):
            name = "before adapting" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
            look: dict[str, Any] = {"color": _BEFORE, "linestyle": "--", "linewidth": 1.8}
            if step > 0:
                look = {"color": hue[step], "linestyle": "-.", "linewidth": 1.6}
            if step > 0 and step == every_step[-1]:
                look = {"color": hue[step], "linestyle": "-", "linewidth": 2.6}
            (legend[name],) = panel.plot(x, fits[step], **look)
        (legend["support points"],) = panel.plot(
            *support, linestyle="", marker="o", markersize=7, color=style.WRONG, markeredgecolor="white", zorder=5
        )
        style.dress(panel, "x", "y", label)
        panel.tick_params(labelleft=True, labelbottom=True)
    for panel in panels[len(predictions) :]:
        panel.remove()
    _limit(panels[0], [truth, support[1], *(c for f in predictions.values() for c in f.values())])
    order = ["true curve", "support points", "average of all tasks", "before adapting"]
    names = [n for n in order if n in legend] + [n for n in legend if n not in order]
    style.legend_below(figure, [legend[n] for n in names], names)
    return figure


def _limit(axes: Any, curves: Sequence[Any]) -> None:
    """Keep the y axis on the data: a prediction that has diverged must not squash all others into a line."""
    first = np.concatenate([np.ravel(c) for c in curves[:2] if c is not None])
    rest = np.concatenate([np.ravel(c) for c in curves if c is not None])
    rest = rest[np.isfinite(rest)]
    low, high = float(first.min()), float(first.max())
    span = max(high - low, 1e-3)
    low, high = max(float(rest.min()), low - 1.5 * span), min(float(rest.max()), high + 1.5 * span)
    margin = 0.06 * max(high - low, 1e-3)
    axes.set_ylim(low - margin, high + margin)


def task_picture(
    learners: Mapping[str, Any],
    distribution: TaskDistribution,
    *,
    steps: Sequence[int] = (0, 1, 5, 10),
    seed: int = 0,
    index: int | None = None,
    points: int = 200,
) -> Picture:
    """`sine_figure` of one task of a distribution, with a caption that says what transfer learning learns.

    Args:
        learners: label to MetaLearner, one to four.
        distribution: tasks with one number in and one out.
        steps: numbers of inner steps that are drawn.
        seed, index: which task; index None: `middle_task`.
        points: of each curve, over the range of inputs that the distribution's tasks have.
    """
    import torch

    chosen = middle_task(distribution, seed=seed) if index is None else index
    key = random_keys.task_keys(seed, distribution.split, 0, chosen, 1)
    task = distribution.from_keys(key)
    seen = distribution.at(seed, 0, 50)
    inputs = torch.cat([seen.support.x.reshape(-1), seen.query.x.reshape(-1), task.support.x.reshape(-1)])
    x = np.linspace(float(inputs.min()), float(inputs.max()), points)
    truth = None
    if isinstance(distribution, KnowsCurves):
        truth = distribution.curve(key, torch.as_tensor(x)[None])[0].double().numpy()
    exact = None
    if isinstance(distribution, KnowsPosterior):
        mean, sd = distribution.posterior_curve(key, torch.as_tensor(x))
        exact = Exact(mean.double().numpy(), sd.double().numpy())
    support = counted(task.support)
    spreads = predicted_spreads(learners, task, x)
    several = len(learners) > 1
    caption = (
        f"One unseen task, {len(support[0])} support point{'s' if len(support[0]) > 1 else ''}, predictions before and after "
        f"adapting{'; every panel shows the same task' if several else ''}. Transfer learning, one model fitted to all tasks "
        "at once, learns the average of all tasks (dotted) and starts every new task from there. A meta-learner is trained to "
        "start from weights that a few inner steps bend into the task."
    )
    if spreads:
        caption += (
            " The band is two predicted standard deviations to either side: about 95 % of new values should lie in it."
        )
    if exact is not None:
        caption += " The exact posterior knows the task's own hyperparameters; no learner can be better on average."
    predictions = predicted_curves(learners, task, x, steps)
    average = average_curve(distribution, x, seed=seed)
    figure = sine_figure(x, truth, support, predictions, average, spreads, exact)
    return Picture("curves", figure, caption, wide=several)
