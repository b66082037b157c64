"""A report from run directories: the first is the headline, the others stand beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.builtin import located, place_for_findings
from innerloop.core import TaskDistribution, TaskFamily
from innerloop.engine import take
from innerloop.errors import InnerloopError
from innerloop.evaluation.calibration import expectation
from innerloop.meta_learner.unknown_inputs import cannot_tell
from innerloop.objectives import losses
from innerloop.objectives.denoising import Denoising
from innerloop.objectives.policy import Policy
from innerloop.report import adaptation, cards, confusions, curves, image_tasks, numbers, sine_plots, style
from innerloop.report.html import render
from innerloop.report.page import Note, Part, Picture, Section
from innerloop.report.runs import Run, read_runs
from innerloop.training.seeds import runs_of
from innerloop.waiting import waiting

_CURVE_TASKS = 100  # enough for a picture; the card's number has its own, larger count
_UNKNOWN_TASKS = 40
_EPISODES = 20  # whose paths are drawn
_KINDS, _MADE, _LEVELS = 3, 4, 10  # new drawings: rows, pictures in each part of a row, levels of noise
_DRAWN_FROM = "Drawn from the validation split; test tasks are for `innerloop evaluate` alone."


@waiting("report: reading the runs and drawing")
def build(runs: Sequence[Path | str] | Path | str, out: Path | str | None = None, **again: Any) -> Path:
    """One self-contained HTML file about one run or several of the same problem.

    Args:
        runs: run directories or ``builtin:NAME``, the first being the headline; or a single one. A folder of several seeds stands
            for its runs.
        out: an .html file or a folder; None: report.html in the first run's directory.
        **again: ``learner``, ``model`` and ``tasks`` as `innerloop.load` takes them, for the runs whose own are not here.

    Returns:
        The path of the page; its pictures lie in plots/ beside it too.

    Raises:
        InputError: no run, no such directory, or a place that cannot be written.
        CheckpointError: a directory that is no run, or was written by a newer innerloop.
    """
    given = [located(run) for run in ([runs] if isinstance(runs, Path | str) else runs)]
    found = read_runs([own for run in given for own in runs_of(run)], again)
    sections = run_sections(found, again.get("tasks"))
    return render(_title(found), sections, out if out is not None else place_for_findings(given[0]) / "report.html")


def _title(runs: Sequence[Run]) -> str:
    """Every method with its problem; a problem that all share is named once."""
    # Of a folder of one's own only the last part: those who get the page need not know where it lies.
    problems = [run.problem[0].replace("\\", "/").rstrip("/").rpartition("/")[2] for run in runs]
    if len(set(problems)) == 1:
        return f"{', '.join(run.label for run in runs)} on {problems[0]}"
    return ", ".join(f"{run.label} on {problem}" for run, problem in zip(runs, problems, strict=True))


def run_sections_of(folders: Mapping[str, Path], title: str, prefix: str) -> list[Section]:
    """The sections of some runs as a chapter of a larger page.

    Args:
        folders: run directories by the label to show.
        title: put before every heading.
        prefix: put before every picture's file name, which must be unique on a page.
    """
    runs = [
        dataclasses.replace(run, label=label)
        for run, label in zip(read_runs(list(folders.values())), folders, strict=True)
    ]
    return [
        Section(
            f"{title}: {section.title.lower()}",
            [dataclasses.replace(p, name=f"{prefix}-{p.name}") if isinstance(p, Picture) else p for p in section.parts],
        )
        for section in run_sections(runs)
    ]


def run_sections(runs: Sequence[Run], given: str | None = None) -> list[Section]:
    """The sections of `build`: result, training, adaptation, examples, settings; ``given``: the problem, given again."""
    looks = style.assign(run.label for run in runs)
    same = [run for run in runs if run.problem == runs[0].problem]
    others = [run.label for run in runs if run.problem != runs[0].problem]
    distribution, tasks_missing = _distribution(same, given)
    able = {run.label: run.learner for run in same if run.learner is not None}
    sections = [_result(runs, others), _training(runs, looks)]
    if distribution is not None and able:
        parts: dict[str, Callable[[], list[Section]]] = {
            "how it adapts": lambda: [_adaptation(same, able, distribution, looks)],
            "inputs of no class": lambda: unknown_section(able, distribution),
            "example tasks": lambda: _examples(able, distribution),
            "what is taken for what": lambda: confusions.section(able, distribution),
        }
        for number, (name, part) in enumerate(parts.items(), start=1):
            with waiting(f"report, part {number} of {len(parts)}: {name}"):
                sections += part()
    elif tasks_missing:
        sections.append(Section("Adaptation", [Note(tasks_missing)]))
    else:
        sections.append(Section("Adaptation", [Note("No run has weights to load, so there is nothing to adapt yet.")]))
    settings = {run.label: cards.flat(run.config) for run in runs}
    sections.append(Section("Settings", [cards.settings_table(settings)], folded=True))
    return sections


def _result(runs: Sequence[Run], others: Sequence[str]) -> Section:
    parts: list[Part] = []
    first = runs[0]
    if first.evaluation is not None:
        e = first.evaluation
        parts.append(
            f"{first.label} reaches {numbers.metric_name(e.metric)} "
            f"{numbers.with_interval(e.mean, e.ci95, e.metric)} on {e.num_tasks} tasks of the {e.split} split "
            "(mean and 95 % interval over tasks)."
        )
        if said := cards.verdict(e):
            parts.append(said)
    if others:
        parts.append(
            Note(
                f"Not the same problem as {first.label}: {', '.join(others)}. Their numbers are shown but must not be "
                "compared with it, and they are left out of the pictures."
            )
        )
    if len(runs) > 1:
        extra = {
            "training time": {r.label: numbers.duration(r.history.seconds) for r in runs},
            "outer steps": {r.label: str(r.history.steps[-1]) for r in runs if r.history.steps},
        }
        # A paired difference across problems would be nonsense, even where seed and number of tasks agree by
        # chance.
        comparable = {r.label: r.evaluation for r in runs if r.label not in others}
        parts.append(cards.comparison_table(comparable, extra))
        rest = {r.label: r.evaluation for r in runs if r.label in others and r.evaluation is not None}
        parts += [cards.evaluation_card(report, {"run": label}) for label, report in rest.items()]
    if first.evaluation is not None:
        parts.append(f"The evaluation card of {first.label}:")
        training = {"training time": numbers.duration(first.history.seconds), "run": str(first.path)}
        parts.append(cards.evaluation_card(first.evaluation, training))
    parts += [Note(sentence) for run in runs for sentence in run.missing]
    return Section("Result", parts)


def _training(runs: Sequence[Run], looks: Mapping[str, style.LineStyle]) -> Section:
    histories = {r.label: r.history for r in runs if r.history.losses or r.history.valid_means}
    if not histories:
        return Section("Training", [Note("There are no training metrics yet, so there is no training curve.")])
    parts: list[Part] = []
    once = {label: h for label, h in histories.items() if len(h.valid_means) == 1}
    if once and all(len(h.valid_means) < 2 for h in histories.values()):  # one point is no curve
        for label, h in once.items():
            value = numbers.with_interval(h.valid_means[0], h.valid_ci95[0], h.metric)
            steps = f"{h.valid_steps[0]} outer step{'s' * (h.valid_steps[0] != 1)}"
            parts.append(f"{label} was validated once, after {steps}: {numbers.metric_name(h.metric)} {value}.")
        none: dict[str, Any] = {"valid_steps": (), "valid_means": (), "valid_ci95": ()}
        histories = {label: dataclasses.replace(h, **none) for label, h in histories.items() if h.losses}
    if histories:
        parts.insert(0, curves.training_picture(histories, looks))
    if len(histories) > 1:
        parts.append("Outer losses of different methods measure different things; compare the validation metric.")
    return Section("Training", parts)


def _distribution(runs: Sequence[Run], given: str | None) -> tuple[TaskDistribution | None, str]:
    """The tasks that pictures are drawn from, and a sentence where there are none.

    They are validation tasks: the test split is for `evaluate` alone.
    """
    from innerloop.assemble import problem_of
    from innerloop.training.load import absent

    record = runs[0].config
    try:
        again = given if "problem" in absent(record) else None
        made: TaskFamily = problem_of(record, runs[0].path, again)
        return made.valid, ""
    except (InnerloopError, TypeError) as error:
        return None, f"The tasks cannot be made again, so there are no pictures of them ({error})."


def _adaptation(
    runs: Sequence[Run],
    learners: Mapping[str, Any],
    distribution: TaskDistribution,
    looks: Mapping[str, style.LineStyle],
) -> Section:
    if all(getattr(getattr(learner, "learner", None), "at_a_look", False) for learner in learners.values()):
        return Section(
            "Adaptation", [f"{', '.join(learners)}: one look at the support set is all the adapting there is."]
        )
    stored = {r.label: r.evaluation for r in runs if r.evaluation is not None and r.evaluation.curve}
    kinds = {(e.seed, e.split, e.num_tasks, e.metric) for e in stored.values()}
    trained = {label: learner.inner_steps or None for label, learner in learners.items()}
    wanted = adaptation.last_step(learners.values())
    if len(stored) == len(runs) and len(kinds) == 1 and all(len(e.curve) > wanted for e in stored.values()):
        seed, split, num_tasks, metric = next(iter(kinds))
        found = {label: adaptation.from_report(report, trained.get(label)) for label, report in stored.items()}
    else:
        seed, split, num_tasks = 0, distribution.split, _CURVE_TASKS
        try:
            found, metric = adaptation.measure(learners, distribution, num_tasks=num_tasks, seed=seed, steps=wanted)
        except InnerloopError as error:
            return Section("Adaptation", [Note(f"The adaptation curves could not be measured ({error}).")])
    said = f"{num_tasks} {'validation' if split == 'valid' else split} tasks, seed {seed}"
    return Section(
        "Adaptation",
        [
            adaptation.adaptation_picture(found, metric, looks, tasks=said),
            adaptation.adaptation_table(found, metric),
        ],
    )


def unknown_section(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Section]:
    """Whether the learners can tell inputs of no class, a sentence for each, where tasks have classes."""
    if not losses.is_labelled(distribution.objective) or not isinstance(losses.short_form(distribution.objective), str):
        return []
    if losses.predicts_values(distribution.objective):
        return []
    ways, shots = distribution.output_size, getattr(distribution, "shots", 1)
    said: list[Part] = []
    for label, learner in learners.items():
        try:
            found = expectation(learner, distribution, ways, shots, num_tasks=_UNKNOWN_TASKS)
        except InnerloopError as error:
            said.append(Note(f"{label}: not measured ({error})."))
            continue
        limit = found.threshold
        if limit is None:
            said.append(f"{label}: not known, as {found.lacking}.")
        elif limit.works:
            said.append(
                f"{label}: AUROC {limit.auroc:.2f} on validation tasks of {limit.ways} classes; a threshold that keeps "
                f"{limit.kept:.0%} of their inputs takes {limit.false_accept:.0%} of other classes for one of them."
            )
        else:
            said.append(f"{label}: {cannot_tell(limit)}.")
    return [Section("Unknown inputs", said)]


def _examples(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Section]:
    """Pictures of single tasks, where the problem can be drawn: curves of one number, or images."""
    if isinstance(distribution.objective, Policy):
        return _paths(learners, distribution)
    if isinstance(distribution.objective, Denoising):
        return _drawings(learners, distribution)
    if distribution.item_columns:  # names have no axis to be drawn on
        return []
    shape = tuple(distribution.input_shape)
    metric = next(iter(losses.metrics_of(distribution.objective, distribution.metrics)))
    shown = dict(list(learners.items())[:4])
    try:
        if shape == (1,) and distribution.output_size == 1 and metric == "mse":
            picture = sine_plots.task_picture(shown, distribution, steps=_steps(shown))
            return [Section("One task, before and after", [_DRAWN_FROM, picture])]
        if len(shape) == 3 and shape[0] in (1, 3) and metric == "accuracy":
            return [Section("Example tasks", [_DRAWN_FROM, *image_tasks.task_pictures(shown, distribution)])]
    except InnerloopError as error:
        return [Section("Example tasks", [Note(f"Example tasks could not be drawn ({error}).")])]
    return []


def _drawings(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Section]:
    """New pictures of a few kinds by each score model; nothing where examples are no pictures."""
    from innerloop.report.drawings import drawings_figure

    shape = tuple(distribution.input_shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        return []
    parts: list[Part] = [_DRAWN_FROM]
    for number, (label, learner) in enumerate(learners.items(), start=1):
        figure = drawings_figure(learner, distribution, kinds=_KINDS, made=_MADE, steps=_LEVELS)
        said = (
            f"{label}, a row a kind: {_MADE} of the pictures that it was shown; {_MADE} that it makes from them, from those of "
            "the next row, and from none. To the right the denoising loss by the level of noise, lower is better: where right "
            "lies below wrong and none, what it was shown has told it something."
        )
        parts.append(Picture(f"new-drawings-{number}", figure, said, wide=True))
    return [Section("New drawings", parts)]


def _paths(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Section]:
    """What policies do in one world of the plane, before and after they have adapted to it."""
    from innerloop.report.world_pictures import is_plane, paths

    world: Any = take(distribution.at(0, 0, 1).support, 0)
    if not is_plane(world):
        return []
    parts: list[Part] = [_DRAWN_FROM]
    for label, learner in learners.items():
        if learner.engine.needs_loop or not learner.learner.adapts_by_gradients:
            continue
        before, after = (learner.adapt(world, steps=steps) for steps in (0, learner.eval_steps))
        figure = paths(world, before.play(world, _EPISODES), after.play(world, _EPISODES))
        said = (
            f"{label}: paths of {_EPISODES} episodes from the middle, before and after adapting; the star is the goal."
        )
        parts.append(Picture(f"paths-{label}", figure, said, wide=True))
    return [Section("One goal, before and after", parts)] if len(parts) > 1 else []


def _steps(learners: Mapping[str, Any]) -> list[int]:
    """Before adapting, after one step, after the trained number, twice that, and the number that is evaluated."""
    last = max(adaptation.trained_steps(learner) for learner in learners.values())
    evaluated = max(int(learner.eval_steps or 0) for learner in learners.values())
    return sorted({0, 1, last, 2 * last, evaluated})
