"""Exported files say what they take and give, to those who have onnxruntime alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.core import TaskSpec
from innerloop.errors import first_line
from innerloop.serving.export import ABOUT, ExportFailed, export_fitted, export_learner
from innerloop.serving.metadata import of_fitted

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "stored"
PLAIN = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
READ = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
x = numpy.array(json.loads(sys.argv[2]), dict(tensor_double="f8").get(session.get_inputs()[0].type.replace("(", "_")[:-1], "f4"))
about = session.get_modelmeta().custom_metadata_map
assert "innerloop" not in sys.modules and "torch" not in sys.modules
print(json.dumps([about, session.run(None, {"x": x})[0].tolist(), session.get_inputs()[0].shape]))
"""


def by_onnxruntime(file: Path, x: np.ndarray) -> tuple[dict[str, str], np.ndarray, list]:
    """(what the file says, what it gives, the shape it asks for), as a program without innerloop finds them."""
    words = [sys.executable, "-c", READ, str(file), json.dumps(x.tolist())]
    about, found, shape = json.loads(subprocess.run(words, check=True, capture_output=True, env=PLAIN).stdout)
    return about, np.array(found), shape


def table(rows: int = 12, seed: int = 0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    day = [f"2024-{rng.integers(1, 13):02}-{rng.integers(1, 28):02}" for _ in range(rows)]
    weight = [f"{v:.1f} kg" if i % 4 else None for i, v in enumerate(rng.uniform(50, 90, rows))]
    return {
        "day": day,
        "weight": weight,
        "kind": ["a", "b", "c"] * (rows // 3),
        "dose": rng.normal(500, 90, rows).tolist(),
    }


def learner_of(folder: Path, target: str) -> il.MetaLearner:
    import pandas

    rows = pandas.concat([pandas.DataFrame(table(12, i)).assign(who=f"p{i}") for i in range(12)])
    rows["cost"] = [f"{v:.2f} $" for v in rows.dose * 3 + 1000]
    rows["good"] = np.where(rows.dose > 500, "yes", "no")
    rows.drop(columns="good" if target == "cost" else "cost").to_csv(folder / "rows.csv", index=False)
    with pytest.warns(il.InnerloopWarning, match="is read as"):
        tasks = il.tasks.from_path(folder / "rows.csv", target=target, task_column="who", shots=3, queries=2)
    torch.manual_seed(0)
    model = tasks.train.default_model()
    learner = il.maml(model, inner_steps=1, batch_norm="running") if target == "cost" else il.protonet(model)
    il.fit(learner, tasks, steps=2, num_tasks=2, valid_tasks=2, quiet=True)
    return learner


@pytest.fixture
def needs_onnx():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")


@pytest.mark.slow
def test_a_classifier_of_pictures_read_by_onnxruntime_alone(tmp_path, needs_onnx):
    fitted = il.load(STORED / "pictures.il")
    export_fitted(fitted, tmp_path / "a.onnx")
    paths = sorted((STORED / "pictures").iterdir())
    x = np.stack([np.asarray(Image.open(p), np.float32)[None] / 255 for p in paths])
    about, found, shape = by_onnxruntime(tmp_path / "a.onnx", x)
    assert np.allclose(found, fitted.predict_proba(paths), atol=1e-5) and shape == ["examples", 1, 16, 16]
    assert json.loads(about["classes"]) == ["cat", "dog", "émeu"] and json.loads(about["input_shape"]) == [1, 16, 16]
    assert json.loads(about["preprocessing"]) == {"kind": "pictures", "version": 1, "invert": False}
    assert about["innerloop_version"] == il.__version__ and about["format"] == "innerloop-export"
    assert (about["task"], about["metric"], about["format_version"]) == ("classification", "accuracy", "1")
    assert json.loads(about["judged"])["examples"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cost", "good"])
def test_tables_go_in_and_come_out_in_their_own_units(target, tmp_path, needs_onnx):
    pandas = pytest.importorskip("pandas")
    learner = learner_of(tmp_path, target)
    own = pandas.DataFrame(table(seed=77))
    own[target] = [f"{v * 3 + 990:.2f} $" if target == "cost" else ["no", "yes"][v > 500] for v in own.dose]
    fitted = learner.adapt(own, target=target)
    export_fitted(fitted, tmp_path / "a.onnx")
    ask = pandas.DataFrame(table(6, seed=78))
    inputs = json.loads(of_fitted(fitted)["inputs"])
    assert {f["part"] for f in inputs} >= {"number", "level", "missing", "weekday"}
    days = pandas.to_datetime(ask.day)
    numbers = {
        "day": (days - pandas.Timestamp(1970, 1, 1)).dt.days.to_list(),
        "weight": [float(w.split()[0]) if isinstance(w, str) else np.nan for w in ask.weight],
        "dose": ask.dose.to_list(),
    }
    parts = {"weekday": days.dt.day_of_week, "day": days.dt.day, "month": days.dt.month}

    def value(f, i):
        cell = ask[f["column"]][i]
        if f["part"] in ("level", "missing"):
            return float(cell is None or cell != cell) if f["part"] == "missing" else float(cell == f["level"])
        return float(parts[f["part"]][i] if f["part"] in parts else numbers[f["column"]][i])

    x = np.array([[value(f, i) for f in inputs] for i in range(6)])
    with_gaps = np.where(np.isnan(x), None, x)
    about, found, shape = by_onnxruntime(tmp_path / "a.onnx", with_gaps)
    assert shape == ["examples", len(inputs)] and json.loads(about["input_shape"]) == [len(inputs)]
    if target == "cost":
        assert np.allclose(found, fitted.predict(ask), rtol=1e-5) and 1500 < found.mean() < 4000
        assert json.loads(about["targets"]) == [{"name": "cost", "unit": "$", "reads": "numbers in $"}]
        assert about["task"] == "regression" and "classes" not in about
    else:
        assert np.allclose(found, fitted.predict_proba(ask), atol=1e-5)
        assert json.loads(about["classes"]) == ["no", "yes"] and "targets" not in about


@pytest.mark.slow
def test_the_lines_of_the_page_run(tmp_path, needs_onnx):
    pictures, rows = il.load(STORED / "pictures.il"), il.load(STORED / "rows.il")
    export_fitted(pictures, tmp_path / "task.onnx")
    export_fitted(rows, tmp_path / "rows.onnx")
    large = Image.open(STORED / "pictures" / "dog.png").resize((48, 48), Image.Resampling.NEAREST).convert("RGB")
    large.save(tmp_path / "picture.png")
    page = (ROOT / "docs" / "serving.md").read_text()
    first, second = (code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "onnxruntime" in code)
    said = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=PLAIN, check=True, capture_output=True, text=True
        ).stdout
        for code in (first, second)
    ]
    name, sure = said[0].split()
    assert name == pictures.predict([tmp_path / "picture.png"])[0]
    assert float(sure) == pytest.approx(pictures.predict_proba([tmp_path / "picture.png"]).max(), abs=1e-5)
    value = float(re.fullmatch(r"pressure \[(.*)\]", said[1].strip())[1])
    expected = rows.predict({"age": [61], "dose": [2.5], "ward": ["b"]})[0, 0]
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_torch_archive_says_the_same(tmp_path):
    rows = il.load(STORED / "rows.il")
    assert export_fitted(rows, tmp_path / "a.pt2", "torch-export") < 1e-5
    about = {ABOUT: ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=about).module()
    assert json.loads(about[ABOUT]) == of_fitted(rows)
    x = torch.tensor([[61, 2.5, 0, 1, 0], [20, float("nan"), 0, 0, 0]], dtype=torch.float64)
    ask = {"age": [61, 20], "dose": [2.5, None], "ward": ["b", None]}
    assert np.allclose(program(x).numpy(), rows.predict(ask), rtol=1e-5)


def test_a_method_with_its_adapting_says_what_it_is(tmp_path):
    learner = il.protonet(il.models.mlp(2, 4))
    learner.spec = TaskSpec(input_shape=(2,))
    export_learner(learner, tmp_path / "a.pt2", "torch-export", ways=3)
    found = {ABOUT: ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=found)
    about = json.loads(found[ABOUT])
    assert (about["ways"], about["adapted"], about["input_shape"]) == ("3", "false", "[2]")


class Eigen(torch.nn.Module):
    """Eigenvectors are no operation of ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x):
        z = self.layer(x)
        return z @ torch.linalg.eigh(torch.eye(2) + z.T @ z)[1]


def test_an_error_of_another_library_is_told_without_its_colours():
    assert first_line(ValueError("\x1b[96mThis is step 3/3\x1b[0m of it.\nmore")) == "This is step 3/3 of it"


@pytest.mark.slow
def test_what_onnx_cannot_say_is_told_without_colours(tmp_path, needs_onnx):
    fitted = il.maml(Eigen(), inner_steps=1).adapt(torch.randn(6, 2), [*"ababab"])
    with pytest.raises(ExportFailed, match=r"cannot be written as ONNX: .*eigh.*--format torch-export") as error:
        export_fitted(fitted, tmp_path / "a.onnx")
    assert str(error.value).isprintable() and not (tmp_path / "a.onnx").exists()
