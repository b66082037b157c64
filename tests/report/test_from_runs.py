"""Reports from run directories: what is there is shown, what is missing is said, no other folder is taken."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fake_learner import LineLearner

from innerloop.core import Report
from innerloop.errors import CheckpointError, InputError
from innerloop.report.curves import read_history
from innerloop.report.from_runs import build
from innerloop.report.runs import read_runs


def _run(
    path: Path,
    name: str = "maml",
    *,
    options: dict[str, Any] | None = None,
    metrics: bool = True,
    evaluated: bool = True,
    curve: int = 5,
) -> Path:
    path.mkdir(parents=True)
    config = {
        "format": "innerloop-run",
        "version": 1,
        "algorithm": {"name": name, "options": {"inner_lr": 0.01, "inner_steps": 2}},
        "model": {"name": "mlp", "arguments": {"inputs": 1, "outputs": 1}},
        "tasks": {"name": "sinusoid", "options": options or {"shots": 5}},
        "training": {"steps": 100, "seed": 0},
        "commit": "abc123",
        "environment": {"torch": "2.13"},
        "command": "innerloop train <maml> sinusoid",
    }
    (path / "config.json").write_text(json.dumps(config))
    if metrics:
        lines = [{"step": s, "split": "train", "loss": 3.0 / s, "seconds": s / 10} for s in range(10, 110, 10)]
        lines += [{"step": s, "split": "valid", "mse": 2.0 / s, "ci95": 0.01} for s in (50, 100)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if evaluated:
        report = Report(
            metric="mse",
            mean=0.5,
            ci95=0.1,
            per_task=(0.4, 0.5, 0.6),
            num_tasks=3,
            seed=0,
            split="test",
            transductive=False,
            curve=tuple(1.0 / (i + 1) for i in range(curve)),
            curve_ci95=(0.1,) * curve,
        )
        (path / "evaluation.json").write_text(json.dumps(dataclasses.asdict(report)))
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`il.load` and `il.evaluate` with answers known in advance; the dict counts the evaluations."""
    seen: dict[str, Any] = {"evaluations": []}

    def evaluate(
        learner: LineLearner, distribution: Any, *, num_tasks: int, seed: int, curve_steps: int, **_: Any
    ) -> Report:
        seen["evaluations"].append((distribution.split, num_tasks, seed, curve_steps))
        curve = tuple(5.0 - i for i in range(curve_steps + 1))
        return Report("mse", 1.0, 0.1, (1.0,), num_tasks, seed, distribution.split, False, curve, (0.1,) * len(curve))

    monkeypatch.setattr("innerloop.report.runs.load", lambda path, **parts: LineLearner())
    monkeypatch.setattr("innerloop.report.adaptation.evaluate", evaluate)
    return seen


def test_one_run(tmp_path: Path, loads: dict[str, Any]) -> None:
    run = _run(tmp_path / "run")
    page = build([run])
    text = page.read_text(encoding="utf-8")
    assert page == run / "report.html"
    for wanted in (
        "0.50 ± 0.10",
        "abc123",
        "maml on sinusoid",
        "innerloop train &lt;maml&gt; sinusoid",
        "method: inner_lr",
    ):
        assert wanted in text
    assert {p.name for p in (run / "plots").iterdir()} == {"training.png", "adaptation.png", "curves.png"}
    assert loads["evaluations"] == []  # the stored curve reaches twice the trained steps: nothing is measured again
    assert 'class="note"' not in text


def test_several_runs_stand_side_by_side(tmp_path: Path, loads: dict[str, Any]) -> None:
    first, second = _run(tmp_path / "a"), _run(tmp_path / "b", "pretrained")
    text = build([first, str(second)], tmp_path / "both.html").read_text(encoding="utf-8")
    assert "maml, pretrained on sinusoid" in text and "difference to maml, same tasks" in text
    assert text.count("data:image/png") == 3


def test_runs_of_one_method_are_told_apart(tmp_path: Path, loads: dict[str, Any]) -> None:
    runs = read_runs([_run(tmp_path / "a"), _run(tmp_path / "b"), _run(tmp_path / "x" / "b")])
    assert [run.label for run in runs] == ["maml (a)", "maml (b) #2", "maml (b) #3"]


def test_curves_are_measured_on_validation_tasks_before_the_run_is_evaluated(
    tmp_path: Path, loads: dict[str, Any]
) -> None:
    text = build(_run(tmp_path / "a", evaluated=False, metrics=False)).read_text(encoding="utf-8")
    assert loads["evaluations"] == [("valid", 100, 0, 4)]
    assert "it has not been evaluated yet" in text and "no training metrics yet" in text
    assert "100 validation tasks, seed 0" in text


def test_a_stored_curve_that_is_too_short_is_measured_on_validation_tasks(
    tmp_path: Path, loads: dict[str, Any]
) -> None:
    text = build(_run(tmp_path / "a", curve=3)).read_text(encoding="utf-8")
    assert loads["evaluations"] == [("valid", 100, 0, 4)]
    assert "100 validation tasks, seed 0" in text


def test_a_curve_reaches_the_steps_that_are_evaluated(
    tmp_path: Path, loads: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LineLearner, "eval_steps", 7)
    build(_run(tmp_path / "a", curve=5))  # long enough for twice the trained steps, but not for these
    assert loads["evaluations"] == [("valid", 100, 0, 7)]
    build(_run(tmp_path / "b", curve=8))
    assert len(loads["evaluations"]) == 1


def test_a_stored_curve_is_shown_with_its_split(tmp_path: Path, loads: dict[str, Any]) -> None:
    text = build(_run(tmp_path / "a")).read_text(encoding="utf-8")
    assert "3 test tasks, seed 0" in text and loads["evaluations"] == []


def test_pictures_never_touch_the_test_split(
    tmp_path: Path, loads: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from innerloop.report import sine_plots

    seen: list[str] = []
    real = sine_plots.task_picture
    monkeypatch.setattr(sine_plots, "task_picture", lambda ls, d, **kw: (seen.append(d.split), real(ls, d, **kw))[1])
    text = build(_run(tmp_path / "a")).read_text(encoding="utf-8")
    assert seen == ["valid"] and "Drawn from the validation split" in text


def test_the_title_names_every_problem(tmp_path: Path, loads: dict[str, Any]) -> None:
    runs = [_run(tmp_path / "a"), _run(tmp_path / "g")]
    config = json.loads((runs[1] / "config.json").read_text())
    config["tasks"] = {"name": "glyphs", "options": {}}
    (runs[1] / "config.json").write_text(json.dumps(config))
    text = build(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>maml (a) on sinusoid, maml (g) on glyphs</title>" in text


def test_other_problems_are_not_compared(tmp_path: Path, loads: dict[str, Any]) -> None:
    runs = [_run(tmp_path / "a"), _run(tmp_path / "b", "anil", options={"shots": 7})]
    text = build(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not the same problem as maml: anil" in text and "difference to" not in text
    same = [_run(tmp_path / "c"), _run(tmp_path / "d", "anil", options={"shots": 5, "train_shots": 9})]
    assert "Not the same problem" not in build(same, tmp_path / "s.html").read_text(encoding="utf-8")


def test_weights_that_cannot_be_loaded_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, **parts: Any) -> Any:
        raise CheckpointError("expected weights, got none; train first")

    monkeypatch.setattr("innerloop.report.runs.load", load)
    text = build(_run(tmp_path / "a")).read_text(encoding="utf-8")
    assert "its weights cannot be loaded" in text and "train first" in text
    assert text.count("data:image/png") == 1


def test_unknown_tasks_are_said(tmp_path: Path, loads: dict[str, Any]) -> None:
    run = _run(tmp_path / "a", options={"no_such_option": 1})
    assert "The tasks cannot be made again" in build(run).read_text(encoding="utf-8")


def test_broken_evaluation_is_said(tmp_path: Path, loads: dict[str, Any]) -> None:
    run = _run(tmp_path / "a")
    (run / "evaluation.json").write_text('{"metric": "mse", "mean"')
    text = build(run).read_text(encoding="utf-8")
    assert "expected an evaluation card" in text and "innerloop evaluate" in text


def test_a_line_cut_short_is_left_out(tmp_path: Path, loads: dict[str, Any]) -> None:
    run = _run(tmp_path / "a")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 110, "split": "tr')
    assert read_history(run / "metrics.jsonl").skipped == 1
    assert "1 line of metrics.jsonl could not be read and is left out" in build(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "without config.json"),
        ("{", "something damaged"),
        ('{"format": "other"}', "another kind of file"),
        ('{"format": "innerloop-run", "version": 99}', "upgrade innerloop"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        build(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is nothing"):
        build(tmp_path / "none")
    with pytest.raises(InputError, match="at least one run"):
        build([])


def test_the_package_is_called_like_the_function(tmp_path: Path, loads: dict[str, Any]) -> None:
    import innerloop.report

    assert innerloop.report([_run(tmp_path / "a")], tmp_path / "x.html") == tmp_path / "x.html"
    assert innerloop.report.build([tmp_path / "a"], tmp_path / "y.html") == tmp_path / "y.html"
