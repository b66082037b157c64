"""`innerloop hpo fit` learns from past searches; `innerloop hpo suggest` says what a new study is to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.cli import output, program
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.report.text import text_table

if TYPE_CHECKING:
    from optuna.study import Study

_HELP = """Usage: innerloop hpo fit STUDIES --out RUN              learn from past searches: optuna storages, or a table of trials
       innerloop hpo suggest RUN --study STUDY      what a study is to try next

In Python: optuna.create_study(sampler=il.hpo.TransferSampler("RUN", seed=0))"""


def hpo(argv: Sequence[str]) -> int:
    """Pick fit or suggest."""
    actions = {"fit": _fit, "suggest": _suggest}
    if not argv:
        raise ConfigError("expected `hpo fit STUDIES` or `hpo suggest RUN`, got nothing; see innerloop hpo --help")
    if argv[0] in ("--help", "-h"):
        print(_HELP)
        return 0
    if argv[0] not in actions:
        hint = program.closest(argv[0], actions, "see innerloop hpo --help")
        raise ConfigError(f"unknown action {argv[0]!r}: {hint}")
    return program.run(f"hpo {argv[0]}", actions[argv[0]], argv[1:])


def _fit(
    *studies: str,
    out: Path,
    task_column: str | None = None,
    metric: str | None = None,
    direction: Literal["minimize", "maximize"] | None = None,
    parameters: tuple[str, ...] | None = None,
    ignore: tuple[str, ...] = (),
    kind: tuple[str, ...] = (),
    seed: int = 0,
    force: bool = False,
    json: bool = False,
) -> int:
    """Learn from past searches how to begin the next one.

    Each way to use the past searches every past task while that task is left out; the best on average is kept.

    Args:
        studies: files or URLs of optuna storages (all studies in them), or one table with one row a trial.
        out: the folder to keep it in.
        task_column: of a table, rows with one value of this column are one task.
        metric: of a table, the column of the metric; of studies with several values a trial, its number from 0, or its name.
        direction: which values are better; left out: each study's own, and for a table minimize.
        parameters: of a table, the columns of parameters; left out: all but task, metric and what is ignored.
        ignore: of a table, columns that are no parameters, such as other metrics.
        kind: how to use the past: tasks, copula, portfolio, cold, or a method that predicts a distribution and is trained on the
            past (dkt, anp, pfn, cnp). Several: the best of these on tasks left out; left out: the best but for methods.
        seed: of which trials of large tasks are used.
        force: overwrite the fit that is there.
        json: print one JSON object and nothing else.
    """
    if not studies:
        raise ConfigError(
            "expected STUDIES, one or more optuna storages or a table, got nothing; for example: innerloop hpo fit past.db --out "
            "runs/hpo"
        )
    from innerloop.hpo.fitting import AUTO, fit
    from innerloop.hpo.past import studies_in
    from innerloop.hpo.transfer import FILE

    output.folder(out)
    if (out / FILE).exists() and not force:
        raise InputError(f"expected a new folder, got {str(out)!r}, which has a fit; add --force or give another --out")
    past: Any = studies[0]
    if task_column is None:
        for flag, value in (("--parameters", parameters), ("--ignore", ignore or None)):
            if value is not None:
                raise ConfigError(
                    f"{flag} expected a table, whose --task-column says the task, got none; leave {flag} out"
                )
        past = [study for place in studies for study in studies_in(place)]
    elif len(studies) > 1:
        raise ConfigError(f"--task-column expected one table of all tasks, got {len(studies)} paths; put them into one")
    which: Any = int(metric) if metric is not None and task_column is None and metric.isdigit() else metric
    made = fit(
        past,
        task=task_column,
        metric=which,
        direction=direction,
        parameters=parameters,
        ignore=ignore,
        kind=kind or AUTO,
        out=out,
        force=force,
        seed=seed,
    )
    if json:
        output.print_json({**made.summary, "out": str(out)})
        return 0
    print(f"past tasks: {len(made.tasks)}, {sum(len(task.values) for task in made.tasks)} trials")
    print(f"parameters: {', '.join(made.summary['parameters'])}")
    if made.regret:
        header = ["regret on tasks left out, after", *(f"{mark} trials" for mark in made.trials)]
        print(
            text_table([[name, *(f"{v:.3f}" for v in own)] for name, own in made.regret.items()], header, ruled=False)
        )
    print(f"chosen: {made.kind}" + (", as asked" if len(kind) == 1 else ""))
    print(f"kept in: {out} ({made.seconds:.1f} s)")
    print(
        f"next: innerloop hpo suggest {shlex.quote(str(out))} --study new.db    (or il.hpo.TransferSampler in Python)"
    )
    return 0


def _suggest(
    run: Path,
    /,
    *,
    study: str,
    study_name: str | None = None,
    direction: Literal["minimize", "maximize"] = "minimize",
    count: int = 1,
    enqueue: bool = False,
    seed: int = 0,
    metric: str | None = None,
    json: bool = False,
) -> int:
    """What a study is to try next, from its trials so far and from past searches.

    Args:
        run: the folder that `innerloop hpo fit` made.
        study: the file or URL of the study's optuna storage; a file that is not there is a study without trials.
        study_name: of the study, where the storage has several; with --enqueue, of a new one.
        direction: of a study that is not there yet.
        count: how many configurations, to be tried side by side.
        enqueue: write them into the study, whose next trials then take them; a study that is not there is made.
        seed: of all draws.
        metric: which value counts, where trials have several: its number from 0, or its name.
        json: print one JSON object and nothing else.
    """
    from innerloop.hpo.sampler import TransferSampler

    sampler = TransferSampler(run, seed=seed, metric=int(metric) if metric is not None and metric.isdigit() else metric)
    found = _study(study, study_name, direction, enqueue)
    plans = sampler.suggest(found, count)
    if enqueue:
        for plan in plans:
            found.enqueue_trial(plan)
    if json:
        trials = len(found.get_trials(deepcopy=False)) - (len(plans) if enqueue else 0)
        output.print_json({"study": found.study_name, "trials": trials, "suggestions": plans, "enqueued": enqueue})
        return 0
    for plan in plans:
        print(" ".join(f"{name}={_said(value)}" for name, value in sorted(plan.items())))
    if enqueue:
        print(f"enqueued: {len(plans)} in {found.study_name}")
    return 0


def _said(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _study(place: str, name: str | None, direction: str, write: bool) -> Study:
    """The study of this name, or the only one; one in memory where there is none yet and nothing is to be written.

    Raises:
        InputError: several studies and no name, or no study of the name.
    """
    from innerloop.hpo.past import optuna_module, storage_at

    optuna = optuna_module()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = place.removeprefix("sqlite:///")
    absent = "://" not in file and not Path(file).exists()
    if absent and not write:
        return optuna.create_study(study_name=name, direction=direction)
    if absent:
        output.file(Path(file), "--study")
    storage = storage_at(place, new=write)
    names = sorted(optuna.get_all_study_names(storage))
    if name is None and len(names) > 1:
        raise InputError(
            f"{place} expected one study, got {len(names)}; give --study-name, one of {', '.join(names[:5])}"
        )
    if name is not None and name not in names and names and not write:
        raise InputError(f"{place} has no study {name!r}: {nearest(name, names)}")
    chosen = name or (names[0] if names else None)
    if chosen in names:
        return optuna.load_study(study_name=chosen, storage=storage)
    return optuna.create_study(study_name=chosen, direction=direction, storage=storage if write else None)
