"""Files of innerloop 0.1.0 open and give the numbers of then; files of a newer innerloop say that it is to be upgraded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.storage import load_tensors, save_tensors

STORED = Path(__file__).parents[1] / "stored"
EXPECTED = json.loads((STORED / "expected.json").read_text())


def test_a_stored_task_of_pictures():
    fitted, then = il.load(STORED / "pictures.il"), EXPECTED["pictures.il"]
    asked = [STORED / "pictures" / name for name in then["inputs"]]
    assert fitted.classes_ == then["classes"]
    assert np.allclose(fitted.predict_proba(asked), then["probabilities"], rtol=0, atol=1e-6)
    assert fitted.predict(asked).tolist() == then["labels"]
    assert fitted.predict(asked, unknown="?").tolist() == then["unknown"]
    assert fitted.judged.examples == 12


def test_a_stored_task_of_rows():
    found = il.load(STORED / "rows.il").predict(STORED / "rows.csv")
    assert np.allclose(found, EXPECTED["rows.il"]["values"], rtol=1e-6, atol=0)


def test_a_stored_run_is_evaluated_and_goes_on(tmp_path):
    then, tasks = EXPECTED["run"], il.tasks.sinusoid(shots=3, queries=3).test
    run = Path(shutil.copytree(STORED / "run", tmp_path / "run"))
    report = il.evaluate(il.load(run), tasks, num_tasks=5, seed=0)
    assert np.allclose(report.per_task, then["mse_per_task"], rtol=1e-6)
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    report = il.evaluate(il.load(run), tasks, num_tasks=5, seed=0)
    assert np.allclose(report.per_task, then["mse_per_task_after_resuming"], rtol=1e-5)


def newer(file: Path, path: Path, *part: str) -> Path:
    """The same task file as if a part of it came from a version to come."""
    tensors, header = load_tensors(file, "innerloop-task", 1)
    if not part:
        save_tensors(path, "innerloop-task", 2, tensors, header)
        return path
    inner = header
    for name in part:
        inner = inner[name]
    inner["version"] = 99
    save_tensors(path, "innerloop-task", 1, tensors, header)
    return path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("rows.il", ()),
        ("rows.il", ("preprocessing",)),
        ("rows.il", ("judged",)),
        ("pictures.il", ("preprocessing",)),
        ("pictures.il", ("threshold",)),
    ],
)
def test_a_task_file_of_a_newer_version_says_so_in_one_line(name, part, tmp_path, capsys):
    file = newer(STORED / name, tmp_path / "new.il", *part)
    asked = STORED / ("rows.csv" if name == "rows.il" else "pictures")
    assert main(["predict", str(file), str(asked), "--out", str(tmp_path / "p.csv")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(file) in said and "upgrade innerloop" in said and "damaged" not in said


@pytest.mark.parametrize("change", [{"version": 3}, {"preprocessing": {"kind": "pictures", "version": 2}}])
def test_a_run_of_a_newer_version_says_so_in_one_line(change, tmp_path, capsys):
    run = Path(shutil.copytree(STORED / "run", tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **change}))
    for words in (["evaluate", str(run), "--num-tasks", "5"], ["train", "--resume", str(run)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and str(run) in said and "upgrade innerloop" in said
