"""What a run directory holds, read for a report: what is missing becomes a sentence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.builtin import located, place_for_findings
from innerloop.core import Beside, Measured, Report
from innerloop.errors import CheckpointError, InnerloopError, InputError
from innerloop.report.curves import History, read_history
from innerloop.training.load import lacked, load
from innerloop.training.run_config import read_run_config


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        path: of the directory.
        label: how the report calls it.
        config: config.json.
        history: metrics.jsonl.
        evaluation: evaluation.json; None when there is none.
        learner: the loaded MetaLearner; None when there are no weights to load.
        missing: sentences about what is not there.
    """

    path: Path
    label: str
    config: Mapping[str, Any]
    history: History
    evaluation: Report | None
    learner: Any | None
    missing: tuple[str, ...]

    @property
    def problem(self) -> tuple[str, str]:
        """What has to be equal for two runs to be compared: the problem and its options, training's own
        shots aside.
        """
        tasks = self.config.get("tasks") or {}
        options = {k: v for k, v in (tasks.get("options") or {}).items() if not k.startswith("train_")}
        return str(tasks.get("name")), json.dumps(options, sort_keys=True, default=str)


def read_evaluation(path: Path) -> Report | None:
    """The evaluation.json of a run directory; None when there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = path / "evaluation.json"
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Report)}
        values = {name: value for name, value in values.items() if name in known}
        for name in ("per_task", "curve", "curve_ci95"):
            values[name] = tuple(float(v) for v in values.get(name) or ())
        for name, kind in (("metrics", Measured), ("baselines", Beside)):
            found: dict[str, Any] = values.get(name) or {}
            values[name] = {k: kind(**{f: _number(v) for f, v in one.items()}) for k, one in found.items()}
        return Report(**values)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"expected an evaluation card in {file}, got a file that cannot be read ({error}); "
            f"write it again with `innerloop evaluate {path}`"
        ) from error


def _number(value: Any) -> Any:
    return math.nan if value is None else value  # JSON has no number that is not finite


def read_runs(paths: Sequence[Path | str], again: Mapping[str, Any] | None = None) -> list[Run]:
    """All runs, each with a label of its own; ``again``: parts that were given again, for those that lack them.

    Raises:
        InputError, CheckpointError: as `read_run_config`; no run at all.
    """
    if not paths:
        raise InputError(
            "a report expected at least one run directory, got none; name one that `innerloop train` wrote"
        )
    places = [located(path) for path in paths]
    configs = [read_run_config(place) for place in places]
    return [
        _read(place, config, label, again or {})
        for place, config, label in zip(places, configs, _labels(places, configs), strict=True)
    ]


def _labels(places: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method's name; with the directory's where it comes twice, numbered where both come twice."""
    names = [
        str((config.get("algorithm") or {}).get("name") or place.name)
        for place, config in zip(places, configs, strict=True)
    ]
    labels = [
        f"{name} ({place.resolve().name})" if names.count(name) > 1 else name
        for name, place in zip(names, places, strict=True)
    ]
    return [f"{label} #{i}" if labels.count(label) > 1 else label for i, label in enumerate(labels, start=1)]


def _read(place: Path, config: Mapping[str, Any], label: str, again: Mapping[str, Any]) -> Run:
    missing = []
    history = read_history(place / "metrics.jsonl")
    if not history.losses and not history.valid_means:
        missing.append(f"{label}: there are no training metrics yet, so it has no training curve.")
    elif not history.valid_means:
        missing.append(f"{label}: there was no validation, so its training curve shows the loss alone.")
    if history.skipped:
        lines = "1 line" if history.skipped == 1 else f"{history.skipped} lines"
        verb = "is" if history.skipped == 1 else "are"
        missing.append(f"{label}: {lines} of metrics.jsonl could not be read and {verb} left out.")
    evaluation = None
    try:
        evaluation = read_evaluation(place_for_findings(place))
        if evaluation is None:
            missing.append(f"{label}: it has not been evaluated yet; run `innerloop evaluate {place}`.")
    except CheckpointError as error:
        missing.append(f"{label}: {error}.")
    learner = None
    try:
        learner = load(place, **lacked(config, again))
    except InnerloopError as error:
        missing.append(
            f"{label}: its weights cannot be loaded, so there are no pictures of what it predicts ({error})."
        )
    return Run(place, label, config, history, evaluation, learner, tuple(missing))
