"""Sentences of a report: the rival that is named, a problem without its folder, one validation, tasks without labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from innerloop.core import Beside, Report
from innerloop.objectives.denoising import Denoising
from innerloop.report import cards, confusions, from_runs, style
from innerloop.report.curves import History
from innerloop.report.html import to_html
from innerloop.report.page import Note, Picture, Section


def report(**baselines: Beside) -> Report:
    return Report(
        metric="return", mean=-5.0, ci95=0.5, per_task=(-5.0, -5.0), num_tasks=2, seed=0, split="test", transductive=False,
        baselines=baselines,
    )  # fmt: skip


def beside(mean: float, lead: float) -> Beside:
    return Beside(mean=mean, ci95=0.1, num_tasks=2, higher_is_better=True, lead=lead, lead_ci95=0.2)


def test_a_bound_that_knows_the_answer_is_no_rival():
    said = cards.verdict(report(bound_known_goal=beside(-0.5, -4.5), random=beside(-60.0, 55.0)))
    assert "random does best" in said and "ahead" in said and "bound" not in said
    assert cards.verdict(report(bound_known_goal=beside(-0.5, -4.5))) == "" == cards.verdict(report())


def test_a_title_does_not_say_where_a_folder_lies():
    runs: Any = [SimpleNamespace(label="maml", problem=("/home/me/secret/photos", ""))]
    assert from_runs._title(runs) == "maml on photos"


def run(*valid: float) -> Any:
    steps = tuple(range(1, len(valid) + 1))
    history = History(
        steps=(1, 2),
        losses=(3.0, 2.0),
        valid_steps=steps,
        valid_means=valid,
        valid_ci95=(0.1,) * len(valid),
        metric="mse",
    )
    return SimpleNamespace(label="maml", history=history)


def test_one_validation_is_a_sentence_and_no_curve():
    looks = style.assign(["maml"])
    picture, said = from_runs._training([run(0.5)], looks).parts
    assert isinstance(picture, Picture) and len(picture.figure.axes) == 1
    assert isinstance(said, str) and said.startswith("maml was validated once, after 1 outer step: ") and "0.5" in said
    (both,) = from_runs._training([run(0.5, 0.4)], looks).parts
    assert isinstance(both, Picture) and len(both.figure.axes) == 2


def test_no_confusions_where_tasks_have_no_labels():
    tasks: Any = SimpleNamespace(objective=Denoising(), class_name=str)
    assert confusions.section({"score_model": None}, tasks) == []


def test_commands_are_set_as_code():
    page = to_html("t", [Section("s", ["run `innerloop evaluate <run>`", Note("`x`")])])
    assert "<code>innerloop evaluate &lt;run&gt;</code>" in page and '<p class="note"><code>x</code></p>' in page
