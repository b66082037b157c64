"""The training curve: outer loss and validation metric against outer steps, from a run's metrics.jsonl."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.objectives.losses import HIGHER_IS_BETTER
from innerloop.objectives.rollouts import PLAYED
from innerloop.report import numbers, style
from innerloop.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class History:
    """What a training run wrote down.

    Attributes:
        steps, losses: outer steps and the mean outer loss of their meta-batches.
        valid_steps, valid_means, valid_ci95: of the validations; the metric's mean over the fixed tasks, its
            half-width.
        metric: its name; "" when there was no validation.
        seconds: of the last line, since training began; None when not written.
        skipped: lines that could not be read (the last one of a run that was killed).
        played: of ``steps``, how many steps in environments there were by then; empty where the tasks are no worlds.
    """

    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    valid_steps: tuple[int, ...] = ()
    valid_means: tuple[float, ...] = ()
    valid_ci95: tuple[float, ...] = ()
    metric: str = ""
    seconds: float | None = None
    skipped: int = 0
    played: tuple[float, ...] = ()

    def along(self, steps: Sequence[int], played: bool) -> np.ndarray:
        """Where outer steps stand on an axis: themselves, or how many steps in environments there were by then."""
        found = np.asarray(steps, dtype=float)
        return np.interp(found, [0, *self.steps], [0.0, *self.played]) if played else found

    def best(self) -> tuple[int, float] | None:
        """(outer step, value) of the best validation; None when there was none."""
        finite = [(v, s) for s, v in zip(self.valid_steps, self.valid_means, strict=True) if math.isfinite(v)]
        if not finite:
            return None
        value, step = max(finite) if HIGHER_IS_BETTER.get(self.metric, True) else min(finite)
        return step, value


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def history(records: Iterable[Mapping[str, Any]]) -> History:
    """The history in records such as ``{"step": 100, "split": "train", "loss": 0.5, "seconds": 1.2}`` and
    ``{"step": 100, "split": "valid", "accuracy": 0.9, "ci95": 0.01}``. A step that comes twice (a resumed
    run) counts as it came last."""
    train: dict[int, float] = {}
    played: dict[int, float] = {}
    valid: dict[int, tuple[float, float]] = {}
    metric, seconds, skipped = "", None, 0
    for entry in records:
        step = entry.get("step")
        if not isinstance(step, int):
            skipped += 1
            continue
        if _numeric(entry.get("seconds")):
            seconds = float(entry["seconds"])
        if entry.get("split") == "train" and _numeric(entry.get("loss")):
            train[step] = float(entry["loss"])
            if _numeric(entry.get(PLAYED)):
                played[step] = float(entry[PLAYED])
        elif entry.get("split") == "valid":
            names = [name for name in HIGHER_IS_BETTER if name in entry] or [
                name for name in entry if name not in ("step", "split", "ci95", "seconds") and _numeric(entry[name])
            ]
            if names and _numeric(entry[names[0]]):
                metric = names[0]
                interval = entry.get("ci95")
                half = float(interval) if isinstance(interval, int | float) else math.nan
                valid[step] = (float(entry[metric]), half)
    train_steps, valid_steps = sorted(train), sorted(valid)
    return History(
        steps=tuple(train_steps),
        losses=tuple(train[s] for s in train_steps),
        valid_steps=tuple(valid_steps),
        valid_means=tuple(valid[s][0] for s in valid_steps),
        valid_ci95=tuple(valid[s][1] for s in valid_steps),
        metric=metric,
        seconds=seconds,
        skipped=skipped,
        played=tuple(played[s] for s in train_steps) if train_steps and len(played) == len(train) else (),
    )


def read_history(path: Path | str) -> History:
    """The history in a metrics.jsonl, empty when there is no such file. Lines that are no JSON are counted."""
    path = Path(path)
    if not path.is_file():
        return History()
    records: list[Mapping[str, Any]] = []
    skipped = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            records.append(entry)
        else:
            skipped += 1
    found = history(records)
    return dataclasses.replace(found, skipped=found.skipped + skipped)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """A centred running mean over up to ``window`` values, fewer at the ends; NaN is left out."""
    half = window // 2
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    i = np.arange(len(values))
    reach = np.minimum(half, np.minimum(i, len(values) - 1 - i))
    low, high = i - reach, i + reach + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total[high] - total[low]) / (count[high] - count[low])


def training_figure(histories: Mapping[str, History], styles: Mapping[str, style.LineStyle] | None = None) -> Figure:
    """Outer loss above, validation metric below, against outer steps, of worlds against steps in them; one line a run.

    The pale line is the loss as logged, the strong one its running mean over a twentieth of the run. The
    band is the validation's 95 % interval over tasks, the ring its best value, whose weights the run keeps.
    """
    with_loss = {k: h for k, h in histories.items() if h.losses}
    with_valid = {k: h for k, h in histories.items() if h.valid_means}
    looks = style.pick(styles, list(histories))
    panels = bool(with_loss) + bool(with_valid)
    figure = style.new_figure(6.2, 1.0 + 2.5 * panels)
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    worlds = all(h.played for h in histories.values() if h.losses) and bool(with_loss)
    x_label = "steps in environments" if worlds else "outer steps"
    handles: dict[str, Any] = {}
    if with_loss:
        top = axes[0]
        for label, past in with_loss.items():
            look, losses = looks[label], np.asarray(past.losses, dtype=float)
            x = past.along(past.steps, worlds)
            top.plot(x, losses, color=look.colour, alpha=0.3, linewidth=1)
            window = max(1, len(losses) // 20)
            (handles[label],) = top.plot(
                x, smooth(losses, window), color=look.colour, linestyle=look.dashes, linewidth=2
            )
        style.dress(top, "" if with_valid else x_label, "outer loss")
        if style.wants_log([v for h in with_loss.values() for v in h.losses]):
            style.log_axis(top)
    if with_valid:
        low = axes[-1]
        metrics = {h.metric for h in with_valid.values()}
        for label, past in with_valid.items():
            positive = bool(np.nanmin(past.valid_means) > 0)
            x = past.along(past.valid_steps, worlds)
            line = style.line_with_band(
                low, x, past.valid_means, past.valid_ci95, looks[label], positive=positive, markersize=4
            )
            handles.setdefault(label, line)
            if (best := past.best()) is not None:
                ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": style.INK}
                low.plot(past.along([best[0]], worlds), [best[1]], marker="o", linestyle="", **ring)
        name = next(iter(metrics)) if len(metrics) == 1 else ""
        style.dress(low, x_label, "validation\n" + (numbers.axis_label(name) if name else "metric"))
        style.value_axis(low, name, [v for h in with_valid.values() for v in h.valid_means])
    if not worlds:
        style.whole_steps(axes[-1])
    if len(handles) > 1:
        style.legend_below(figure, list(handles.values()), list(handles))
    figure.align_ylabels()
    return figure


def training_picture(histories: Mapping[str, History], styles: Mapping[str, style.LineStyle] | None = None) -> Picture:
    """`training_figure` with its caption."""
    parts = []
    if any(h.losses for h in histories.values()):
        parts.append("The outer loss of each logged meta-batch (pale) and its running mean (strong).")
    if any(h.valid_means for h in histories.values()):
        parts.append(
            "The validation metric on a fixed set of tasks that training never sees, with its 95 % interval over tasks; "
            "the ring marks the best one, whose weights are kept."
        )
    return Picture("training", training_figure(histories, styles), " ".join(parts))
