"""The notebooks of examples/: both languages run the same code, no outputs are kept, and each runs to its end at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # processes and trainings of their own

FOLDER = Path(__file__).resolve().parents[2] / "examples"
ENGLISH = sorted(path for path in FOLDER.glob("*.ipynb") if not path.name.endswith(".zh-CN.ipynb"))
SMALL = {
    "changing_road": 200,
    "few_shot_pictures": 20,
    "find_the_person": 8,
    "learned_optimizer": 60,
    "maml_by_hand": 100,
    "mistakes": 100,
    "molecules": 30,
    "never_forget": 150,
    "new_drawings": 20,
    "robot_goal": 12,
    "sine": 300,
    "table_rows": 300,
    "what_is_a_task": 8,
    "which_method": 20,
}  # outer steps


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def test_every_notebook_has_a_size_and_a_twin():
    assert {path.stem for path in ENGLISH} == set(SMALL)
    assert {path.name for path in FOLDER.glob("*.zh-CN.ipynb")} == {f"{name}.zh-CN.ipynb" for name in SMALL}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_both_languages_run_the_same_code(name):
    english, chinese = cells(FOLDER / f"{name}.ipynb"), cells(FOLDER / f"{name}.zh-CN.ipynb")
    assert [kind for kind, _ in english] == [kind for kind, _ in chinese]
    for (kind, first), (_, second) in zip(english, chinese, strict=True):
        if kind == "code":
            assert first == second
        else:
            assert any("\u4e00" <= letter <= "\u9fff" for letter in second), second
            assert not any("\u4e00" <= letter <= "\u9fff" for letter in first), first


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_no_outputs_are_committed(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("path", ENGLISH, ids=lambda path: path.stem)
def test_it_runs_to_its_end(path, tmp_path, monkeypatch):
    """The last cell of each asserts what has to be true at any size."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("INNERLOOP_EXAMPLE_STEPS", str(SMALL[path.stem]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))  # no data set: the same built-in pictures on every machine
    book = nbformat.read(path, as_version=4)
    assert "assert " in book.cells[-1].source
    NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    errors = [output for cell in book.cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
    assert not errors
    assert any("image/png" in output.get("data", {}) for cell in book.cells for output in cell.get("outputs", []))
