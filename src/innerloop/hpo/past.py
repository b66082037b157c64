"""What was tried before: past studies, or one table of (task, metric, parameters), as tasks of configurations with a value."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.data.search_tables import copula_scores
from innerloop.data.tables import as_table, is_tabular
from innerloop.errors import ConfigError, InnerloopWarning, InputError, first_few, first_line, nearest
from innerloop.hpo.space import Config, Parameter, Space

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FEWEST = 3  # usable trials of a past task
_WIDE = 30.0  # a column of positive numbers whose ends are so many times apart may count by its logarithm
_DATABASES = (".db", ".sqlite", ".sqlite3")
_SAME = 0.98  # rank correlation with the metric from which on a column is taken for another metric


@dataclasses.dataclass(frozen=True)
class PastTask:
    """The trials of one past task.

    Attributes:
        name: of the study, or in the table.
        configs: what was tried.
        values: the metric of each, lower is better; never NaN.
        parameters: types and ranges, as the study declared them or as the table shows them.
    """

    name: str
    configs: Sequence[Config]
    values: np.ndarray
    parameters: Mapping[str, Parameter]


def optuna_module() -> Any:
    """optuna, or an InputError with the line that installs it."""
    try:
        import optuna
    except ImportError:
        raise InputError(
            "expected optuna for hyperparameter studies, got none installed; install it: pip install 'innerloop[hpo]'"
        ) from None
    return optuna


# ---- studies -----------------------------------------------------------------------------------------------------------
def lower_is_better(study: Study, metric: str | int | None = None) -> tuple[int, float]:
    """(which of a study's values counts, the sign that makes a lower one better).

    Raises:
        ConfigError: several values and no metric that says which.
    """
    directions = study.directions
    at = 0
    if isinstance(metric, int) and not isinstance(metric, bool):
        at = metric
    elif metric is not None and study.metric_names:
        if metric not in study.metric_names:
            raise ConfigError(
                f"unknown metric {metric!r} of {study.study_name}: {nearest(str(metric), study.metric_names)}"
            )
        at = study.metric_names.index(metric)
    elif len(directions) > 1:
        raise ConfigError(
            f"the study {study.study_name} expected one value a trial, got {len(directions)}; say which by metric=, from 0 on"
        )
    if not 0 <= at < len(directions):
        raise ConfigError(f"metric expected 0 to {len(directions) - 1} for {study.study_name}, got {at}; lower it")
    return at, -1.0 if directions[at].name == "MAXIMIZE" else 1.0


def from_study(study: Study, metric: str | int | None = None, direction: str | None = None) -> PastTask:
    """The trials of a study that ended; pruned ones are no better than the median, failed ones tell nothing.

    Raises:
        ConfigError: it goes another direction than the one that was said, or has several values.
    """
    at, sign = lower_is_better(study, metric)
    own = "maximize" if sign < 0 else "minimize"
    if direction is not None and direction != own:
        raise ConfigError(
            f"expected a study to {direction}, got {study.study_name}, which was to {own}; leave direction out: each study's own"
        )
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.name in ("COMPLETE", "PRUNED") and t.params]
    values = np.array([value_of(t, at, sign) for t in trials], dtype=np.float64)
    values = demoted(values, np.array([t.state.name == "PRUNED" for t in trials], dtype=bool))
    kept = [i for i, v in enumerate(values) if not math.isnan(v)]
    parameters: dict[str, Parameter] = {}
    for trial in trials:
        parameters |= {name: Parameter.of(d) for name, d in trial.distributions.items()}
    return PastTask(study.study_name, [dict(trials[i].params) for i in kept], values[kept], parameters)


def value_of(trial: FrozenTrial, at: int, sign: float) -> float:
    """A trial's value, lower is better; a pruned one's last report; NaN where there is none."""
    if trial.state.name == "PRUNED":
        steps = trial.intermediate_values
        value = steps[max(steps)] if steps and at == 0 else math.nan
    else:
        value = trial.values[at] if trial.values else math.nan
    return sign * float(value)


def demoted(values: np.ndarray, pruned: np.ndarray) -> np.ndarray:
    """Values in which a pruned trial, whose run was not finished, is no better than the median of finished ones."""
    values = values.copy()
    done = values[~pruned & ~np.isnan(values)]
    level = float(np.median(done)) if len(done) else math.nan
    values[pruned] = np.fmax(values[pruned], level)
    return values


def studies_in(place: str | Path) -> list[Study]:
    """All studies of a storage: a URL such as sqlite:///past.db, an SQLite file or an optuna journal.

    Raises:
        InputError: nothing there, no storage, or no study in it.
    """
    optuna = optuna_module()
    storage = storage_at(place)
    try:
        names = sorted(optuna.get_all_study_names(storage))
        found = [optuna.load_study(study_name=name, storage=storage) for name in names]
    except Exception as error:  # of the database, of which there are many kinds
        raise InputError(
            f"{place} expected an optuna storage, got one that cannot be read ({first_line(error)}); give its URL or its file"
        ) from None
    if not found:
        raise InputError(f"{place} expected optuna studies, got a storage with none; give another")
    return found


def storage_at(place: str | Path, new: bool = False) -> Any:
    """The storage at a URL or in a file; an SQLite file that is not there is refused, unless it may be ``new``.

    Raises:
        InputError: nothing there, or a file of another kind.
    """
    optuna = optuna_module()
    if "://" in str(place):
        if str(place).startswith("sqlite:///"):
            return storage_at(Path(str(place).removeprefix("sqlite:///")), new)
        try:
            return optuna.storages.RDBStorage(str(place))
        except Exception as error:  # no such database, no driver for it
            raise InputError(
                f"{place} expected the URL of an optuna storage, got none that opens ({first_line(error)}); check it"
            ) from None
    path = Path(place)
    if path.is_dir() or not (path.is_file() or new):
        got = "a folder" if path.is_dir() else "nothing"
        raise InputError(f"expected a file of optuna studies at {str(path)!r}, got {got} there; check the path")
    head = path.read_bytes()[:16] if path.is_file() else b""
    if path.is_file() and head and not head.startswith(b"SQLite format 3"):
        if head.lstrip().startswith(b"{"):
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        raise InputError(
            f"{path} expected an SQLite file or a journal of optuna, got another file; a table needs its task column and metric"
        )
    try:
        return optuna.storages.RDBStorage(f"sqlite:///{path}")
    except Exception as error:
        raise InputError(
            f"{path} expected a database of optuna, got one that does not open ({first_line(error)}); check the path"
        ) from None


# ---- a table -----------------------------------------------------------------------------------------------------------
def from_table(
    given: Any,
    *,
    task: str | None,
    metric: str | int | None,
    direction: str,
    parameters: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
) -> list[PastTask]:
    """The tasks of a table with one row a trial.

    Raises:
        InputError: a column that is not there, a metric that is no number, no parameter.
        ConfigError: no task column or metric was named.
    """
    table = as_table(given)
    if not isinstance(metric, str) or task is None:
        missing = "task" if task is None else "metric"
        raise ConfigError(
            f"a table of trials expected the name of its {missing} column, got none; give {missing}=, one of "
            f"{first_few(list(table.columns))}"
        )
    wanted = (
        [c for c in table.columns if c not in (task, metric, *table.index)] if parameters is None else list(parameters)
    )
    table.readable(task, metric, *wanted, *ignore)
    wanted = [c for c in wanted if c not in (task, metric, *ignore)]
    if not wanted:
        raise InputError(f"{table.name} expected columns of parameters, got none beside task and metric; name some")
    if not table.is_number(metric):
        raise InputError(f"{table.name}: the metric {metric!r} expected numbers, got texts; name another column")
    values = table.columns[metric] * (-1.0 if direction == "maximize" else 1.0)
    names = table.texts[task]
    shown = {c: table.columns[c] for c in wanted}
    known = {c: parameter for c in wanted if (parameter := _shown(shown[c], table.kinds.get(c))) is not None}
    if not known:
        raise InputError(f"{table.name} expected parameters that vary, got columns of one value each; name others")
    _tell_of_metrics(table.name, names, values, {c: shown[c] for c in known if table.is_number(c)}, metric)
    found = []
    for name in dict.fromkeys(n for n in names if n is not None):
        rows = np.flatnonzero((names == name) & ~np.isnan(values))
        configs = [{c: _plain(shown[c][i], known[c]) for c in known if not _absent(shown[c][i])} for i in rows]
        found.append(PastTask(str(name), configs, values[rows].astype(np.float64), known))
    return found


def _absent(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _plain(cell: Any, of: Parameter) -> Any:
    if of.kind == "categorical":
        return str(cell)
    return int(cell) if of.kind == "int" else float(cell)


def _shown(cells: np.ndarray, kind: type | None) -> Parameter | None:
    """The parameter that a column looks like; None where it has one value only."""
    there = [cell for cell in cells if not _absent(cell)]
    if len(set(there)) < 2:
        return None
    if cells.dtype.kind != "f" or kind is bool:
        return Parameter("categorical", choices=tuple(dict.fromkeys(map(str, there))))
    numbers = np.array(there, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    low, high = float(numbers.min()), float(numbers.max())
    log = False
    if low > 0 and high / low >= _WIDE:
        middle = float(np.median(numbers))
        log = abs(math.log(middle / math.sqrt(low * high)) / math.log(high / low)) < abs(
            (middle - 0.5 * (low + high)) / (high - low)
        )
    whole = bool(np.all(numbers == np.round(numbers)))
    return Parameter("int" if whole else "float", low, high, log)


def _tell_of_metrics(
    table: str, names: np.ndarray, values: np.ndarray, columns: Mapping[str, np.ndarray], metric: str
) -> None:
    """Warn of a column that goes with the metric in every task: it is another metric, known only afterwards."""
    for column, cells in columns.items():
        found = []
        for name in dict.fromkeys(names):
            rows = (names == name) & np.isfinite(values) & ~np.isnan(cells)
            if rows.sum() >= 10 and len(np.unique(cells[rows])) > 5 and len(np.unique(values[rows])) > 5:
                found.append(abs(float(np.corrcoef(copula_scores(cells[rows]), copula_scores(values[rows]))[0, 1])))
        if found and min(found) > _SAME:
            warnings.warn(
                f"{table}: the column {column!r} goes with {metric!r} in every task, as another metric would; if it is none of "
                "the parameters, ignore it",
                InnerloopWarning,
                stacklevel=2,
            )


# ---- all of it ---------------------------------------------------------------------------------------------------------
def past_tasks(
    past: Any,
    *,
    task: str | None = None,
    metric: str | int | None = None,
    direction: str | None = None,
    parameters: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
) -> list[PastTask]:
    """The past, whatever it comes as; see `innerloop.hpo.fit`."""
    if direction not in (None, "minimize", "maximize"):
        raise ConfigError(f"direction expected 'minimize' or 'maximize', got {direction!r}; give one of them")
    if isinstance(past, str | Path) and not is_tabular(past) and task is None:
        past = studies_in(past)
    if hasattr(past, "get_trials"):
        past = [past]
    if (
        isinstance(past, Sequence)
        and not isinstance(past, str)
        and past
        and all(hasattr(s, "get_trials") for s in past)
    ):
        found = [from_study(study, metric, direction) for study in past]
        names = [one.name for one in found]
        found = [  # studies of two storages may have one name
            dataclasses.replace(one, name=f"{one.name} ({names[: i + 1].count(one.name)})")
            if names.count(one.name) > 1
            else one
            for i, one in enumerate(found)
        ]
    else:
        if isinstance(past, Sequence) and not isinstance(past, str) and not len(past):
            raise InputError("expected past studies, got none; give at least one")
        found = from_table(
            past, task=task, metric=metric, direction=direction or "minimize", parameters=parameters, ignore=ignore
        )
    kept = [one for one in found if len(one.values) >= FEWEST and len(np.unique(one.values)) > 1]
    if not kept:
        raise InputError(
            f"expected a past task with at least {FEWEST} finished trials of different values, got {len(found)} with fewer; "
            "give more trials"
        )
    if len(kept) < len(found):
        lost = [one.name for one in found if one not in kept]
        warnings.warn(
            f"left out, with fewer than {FEWEST} finished trials of different values: {first_few(lost)}",
            InnerloopWarning,
            stacklevel=3,
        )
    return kept


def joint_space(tasks: Sequence[PastTask]) -> Space:
    """The parameters of all past tasks together, each with the widest range: what a new study is shown before it says its own."""
    merged: dict[str, Parameter] = {}
    for one in tasks:
        for name, own in one.parameters.items():
            merged[name] = _merged(merged[name], own) if name in merged else own
    return Space(merged, sometimes(merged, [one.configs for one in tasks]))


def sometimes(names: Iterable[str], groups: Iterable[Sequence[Config]]) -> frozenset[str]:
    """The parameters that some configurations of a group have and others lack: conditional ones."""
    groups = list(groups)
    return frozenset(n for n in names if any(0 < sum(n in config for config in own) < len(own) for own in groups))


def _merged(a: Parameter, b: Parameter) -> Parameter:
    if a == b:
        return a
    if a.kind == "categorical" or b.kind == "categorical":
        shown = [*a.choices, *b.choices]
        return Parameter("categorical", choices=tuple(dict.fromkeys(shown)))
    kind = "int" if a.kind == b.kind == "int" else "float"
    low, high = min(a.low, b.low), max(a.high, b.high)
    log = a.log and b.log
    return Parameter(kind, low, high, log, a.step if a.step == b.step else None)
