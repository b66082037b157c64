"""The main job on built-in data, within a minute: meta-train, adapt to tasks never seen, compare with transfer learning."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.core import Report
from innerloop.errors import InputError


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run of the demo; the seed is 0 for all."""

    problem: str
    algorithm: str
    label: str
    algorithm_options: Mapping[str, Any]
    task_options: Mapping[str, Any]
    training: Mapping[str, Any]
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: str | None = None
    test_tasks: int = 100

    @property
    def folder(self) -> str:
        return f"{self.problem}-{self.algorithm}"


_SINE = {"shots": 10, "queries": 50, "train_queries": 10}
_GLYPHS = {"ways": 5, "shots": 1, "queries": 3, "train_queries": 1}
_SMALL_NET = {"filters": 32}
_HEADER = ("problem", "method", "before adapting", "after adapting", "95 % interval", "unseen tasks")
_CURVE_STEPS = 10  # twice the most inner steps that any of them trains or adapts with
# Both methods get the same tasks and net, and each the settings that validation tasks liked best.
JOBS = (
    Job(
        "sinusoid", "maml", "MAML",
        {"inner_lr": 0.01, "inner_steps": 1, "eval_steps": 5}, _SINE,
        {"steps": 2_000, "num_tasks": 25, "outer_lr": 2e-3, "schedule": "cosine", "validate_every": 500, "valid_tasks": 50},
    ),
    Job(
        "sinusoid", "pretrained", "transfer learning",
        {"inner_lr": 0.01, "inner_steps": 5}, _SINE,
        {"steps": 2_000, "num_tasks": 25, "outer_lr": 2e-3, "schedule": "cosine", "validate_every": 500, "valid_tasks": 50},
    ),
    Job(
        "glyphs", "maml", "MAML",
        {"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3, "inductive": True}, _GLYPHS,
        {"steps": 160, "num_tasks": 8, "outer_lr": 3e-3, "schedule": "cosine", "validate_every": 80, "valid_tasks": 30},
        _SMALL_NET, "conv4", 60,
    ),
    Job(
        "glyphs", "pretrained", "transfer learning",
        {"inner_lr": 2.0, "inner_steps": 5, "adapt": "head"}, _GLYPHS,
        {"steps": 240, "num_tasks": 8, "outer_lr": 3e-3, "schedule": "cosine", "validate_every": 40, "valid_tasks": 50},
        _SMALL_NET, "conv4", 60,
    ),
)  # fmt: skip


def run(out: str | Path = "demo-report", quiet: bool = False) -> Path:
    """Train four learners, evaluate them on unseen tasks, print a table, write a report with pictures.

    Args:
        out: folder of the report; an earlier demo there is replaced, anything else is left alone.
        quiet: no progress lines on stderr (the table is printed all the same).

    Returns:
        The HTML file.

    Raises:
        InputError: ``out`` cannot be written, or holds something else.
    """
    from innerloop.report.text import text_table
    from innerloop.tasks import glyphs

    started = time.perf_counter()
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} expected a folder for the report, got a file; choose another place")
    out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        if not quiet:
            print(f"{time.perf_counter() - started:5.1f} s  {text}", file=sys.stderr, flush=True)

    # One process a core, one thread each: small nets gain nothing from more threads, and on a busy machine lose much.
    processes = max(1, min(len(JOBS), os.cpu_count() or 1))
    say(f"training {len(JOBS)} learners, {processes} at a time; the first demo also draws its characters ...")
    found: dict[str, Report] = {}
    context = multiprocessing.get_context("spawn")
    _one_thread()
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(train, job, out / "runs"): job for job in JOBS if job.problem != "glyphs"}
        glyphs()  # drawn once, here, while the curves train; the other processes read them from the cache
        waiting |= {pool.submit(train, job, out / "runs"): job for job in JOBS if job.problem == "glyphs"}
        for done in concurrent.futures.as_completed(waiting):
            job = waiting[done]
            report, seconds = done.result()
            found[job.folder] = report
            say(f"{job.label} on {job.problem}: trained in {seconds:.0f} s")
    say("writing the report ...")
    rows = table(found)
    page = write_report(out, rows)
    print(text_table(rows, _HEADER))
    print(f"\nreport: {page}   ({time.perf_counter() - started:.0f} s in all)")
    return page


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def train(job: Job, folder: Path) -> tuple[Report, float]:
    """Train and evaluate one job in a run directory of its own; (report, training seconds)."""
    from innerloop.assemble import assemble
    from innerloop.evaluation.evaluate import card, evaluate
    from innerloop.training.fit import fit

    learner, family = assemble(
        job.algorithm,
        job.problem,
        job.model,
        algorithm_options=job.algorithm_options,
        task_options=job.task_options,
        model_options=job.model_options,
        recommended=False,
    )
    place = folder / job.folder
    result = fit(learner, family, out=place, force=True, quiet=True, command="innerloop demo", **job.training)
    report = evaluate(learner, family.test, num_tasks=job.test_tasks, curve_steps=_CURVE_STEPS)
    card(report, place)
    return report, result.wall_seconds


def table(found: Mapping[str, Report]) -> list[list[str]]:
    """The rows that are printed and that open the report."""
    rows = []
    for job in JOBS:
        report = found[job.folder]
        percent = report.metric == "accuracy"

        def shown(value: float, percent: bool = percent) -> str:
            return f"{100 * value:.1f} %" if percent else f"{value:.3f}"

        name = "accuracy, 5-way 1-shot" if percent else "squared error, 10 points"
        rows.append(
            [
                f"{job.problem} ({name})",
                job.label,
                shown(report.curve[0]),
                shown(report.mean),
                f"± {shown(report.ci95)}",
                str(report.num_tasks),
            ]
        )
    return rows


def write_report(out: Path, rows: Sequence[Sequence[str]]) -> Path:
    """One page: what was done, the table, and for both problems curves, adaptation and examples."""
    from innerloop.report.from_runs import run_sections_of
    from innerloop.report.html import render
    from innerloop.report.page import Section, Table

    intro = Section(
        "What this shows",
        [
            "Each learner was trained on a family of tasks and then met tasks it had never seen: new sine curves from 10 points, "
            "and characters of scripts that no training task had, one drawing of each of 5 characters. MAML learns a starting "
            "point from which a few gradient steps suffice. Transfer learning fits one net to all training tasks pooled and "
            "fine-tunes it; on the sine it can only learn the average of all curves. Every query was predicted without a look at "
            "the other queries (not transductive), for both methods.",
            Table(rows, _HEADER),
        ],
    )
    sections = [intro]
    for problem, title in (("sinusoid", "Sine curves"), ("glyphs", "Characters")):
        folders = {job.label: out / "runs" / job.folder for job in JOBS if job.problem == problem}
        sections += run_sections_of(folders, title, problem)
    return render("innerloop demo", sections, out / "report.html")
