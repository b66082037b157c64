"""How far an adapted task may be trusted, in numbers that were measured for it; and its threshold for unknown inputs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import ConfigError, InnerloopError


def check_flags(valid_tasks: int, keep: float) -> None:
    """Raise ConfigError where these cannot be."""
    if valid_tasks != 0 and valid_tasks < 4:
        raise ConfigError(f"--valid-tasks expected 0 or at least 4, got {valid_tasks}; give more")
    if not 0 < keep < 1:
        raise ConfigError(f"--keep expected a share between 0 and 1, got {keep}; 0.95, say")


def measured(
    fitted: Any,
    y: Sequence[Any],
    record: Mapping[str, Any],
    steps: int | None,
    valid_tasks: int,
    keep: float,
    given: str | None = None,
) -> tuple[Any, list[str]]:
    """(the task with its threshold where there is one, what to print).

    Args:
        fitted: the adapted task.
        y: the class names, or the targets, of its examples.
        record: the run's configuration.
        steps: inner steps; None: the method's.
        valid_tasks: how many validation tasks.
        keep: the share of known inputs that the threshold keeps.
        given: the run's problem, where the user gave it again.
    """
    from innerloop.evaluation import remembered
    from innerloop.evaluation.calibration import expectation, typical_shots
    from innerloop.evaluation.confidence import off_by

    classes = fitted.classes_
    counts = [] if classes is None else list(Counter(y).values())
    lines = []
    shots = typical_shots(counts) if counts else len(y)
    try:
        tasks = validation_tasks(record, given)
        found = expectation(fitted.owner, tasks, len(counts), shots, num_tasks=valid_tasks, keep=keep, steps=steps)
        lines += _expected(found, _is_of_own_data(record), _validates_on_training(record))
    except InnerloopError as error:
        found = remembered.nearest(remembered.all_of(record), len(counts), shots) if steps is None else None
        if found is None:
            lines.append(f"the accuracy on new tasks is not known: {error}")
        else:
            lines += _remembered(found)
            if found.threshold is not None and found.threshold.keep != keep:
                why = (
                    f"the one that came with the learner keeps {found.threshold.keep:.0%} of the known, not {keep:.0%}"
                )
                found = dataclasses.replace(found, threshold=None, lacking=why)
    if found is not None:
        if found.ece is not None:
            lines.append(f"    its probabilities were off by {off_by(found.ece)} there")
        lines += [f"    {unit}" for unit in [error_unit(fitted.owner.preprocessing)] if unit]
    if found is not None and classes is not None:
        lines.append(_threshold(found))
        fitted = dataclasses.replace(fitted, threshold=found.threshold)
    return fitted, lines


def error_unit(preprocessing: Mapping[str, Any] | None) -> str:
    """A sentence on the unit of errors over many tasks, where it is not that of the targets."""
    from innerloop.data.table_preprocessing import table_record

    kept = table_record(preprocessing)
    return "" if kept is None else kept.error_unit


def validation_tasks(record: Mapping[str, Any], given: str | None = None) -> Any:
    """The validation split of the problem that a run's configuration names, or that its user gave again."""
    from innerloop.assemble import problem_of

    return problem_of(record, Path("the run"), given).valid


def _is_of_own_data(record: Mapping[str, Any]) -> bool:
    from innerloop.assemble import is_path

    return is_path(record["tasks"]["name"])


def _validates_on_training(record: Mapping[str, Any]) -> bool:
    """Whether no class was left for validation alone, so that the validation tasks are of classes that training saw."""
    return (record["tasks"].get("options") or {}).get("valid_classes") == 0


def _expected(found: Any, of_own_data: bool, seen_in_training: bool = False) -> list[str]:
    what = f"{found.ways} classes, {found.shots}" if found.ways else f"{found.shots}"
    each = " of each" if found.ways else ""
    examples = f"{what} example{'s' * (found.shots != 1)}{each}"
    first = (
        f"validated: {found.mean:.4f} ± {found.ci95:.4f} {found.metric} on {found.num_tasks} validation tasks of "
        f"{found.problem!r} ({examples})"
    )
    if seen_in_training:
        return [first, "    those are of classes that training has seen: expect less of new ones"]
    if of_own_data:
        return [first, "    it holds for new tasks as far as they are like those"]
    return [
        first,
        "    those are tasks of the training problem, not of your data: the number may not carry over to yours",
    ]


def _remembered(found: Any) -> list[str]:
    return [
        *_expected(found, of_own_data=False),
        "    that was measured when the learner was made, at the size nearest to yours: the problem's data are not here",
    ]


def _threshold(found: Any) -> str:
    from innerloop.meta_learner.unknown_inputs import cannot_tell

    limit = found.threshold
    if limit is None:
        return f"unknown inputs: no threshold is known, as {found.lacking}"
    if not limit.works:
        return f"unknown inputs: {cannot_tell(limit)}, so `--unknown` is not suggested"
    return (
        f"unknown inputs: below {limit.value:.4g} in {limit.score}; on {limit.num_tasks} other validation tasks that kept "
        f"{limit.kept:.1%} of the known and took {limit.false_accept:.1%} of other classes for known (AUROC {limit.auroc:.3f})"
    )
