"""`innerloop export`: a task file and a run directory, and what cannot be exported."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    line = (
        "train protonet glyphs --steps 2 --train-ways 5 --valid-tasks 2 --model conv4 --model-filters 4 --quiet --out"
    )
    assert main([*line.split(), str(path / "run")]) == 0
    learner = il.load(path / "run")
    learner.adapt(torch.rand(4, 1, 28, 28), ["a", "b", "a", "b"]).save(path / "task.il")
    return path


@pytest.mark.slow
def test_a_task_file_and_a_run_directory(folder, capsys):
    assert main(["export", str(folder / "task.il"), "--format", "torch-export", "--out", str(folder / "t.pt2")]) == 0
    said = capsys.readouterr().out
    assert "takes x (examples, 1, 28, 28); gives a, b" in said and "agrees with PyTorch" in said
    found = torch.export.load(folder / "t.pt2").module()(torch.rand(3, 1, 28, 28))
    assert found.shape == (3, 2) and torch.allclose(found.sum(1), torch.ones(3))
    line = ["export", str(folder / "run"), "--format", "torch-export", "--ways", "3", "--out", str(folder / "r.pt2")]
    assert main(line) == 0
    assert "3 probabilities a query" in capsys.readouterr().out
    program = torch.export.load(folder / "r.pt2").module()
    assert program(torch.rand(6, 1, 28, 28), torch.arange(6) % 3, torch.rand(2, 1, 28, 28)).shape == (2, 3)
    assert main(line) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.il"], "got nothing at"),
        (["task.il", "--format", "coreml"], "coreml"),
        (["task.il", "--ways", "3"], "--ways expected a run directory"),
    ],
)
def test_what_cannot_be_exported(folder, words, said, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["export", *words, "--out", "x.bin"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (folder / "x.bin").exists()
