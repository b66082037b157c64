"""What goes on learning without innerloop: the exported update and prediction are PyTorch's, step after step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.core import TaskSpec
from innerloop.serving import export
from innerloop.serving.export import export_online
from innerloop.serving.graphs import as_state

CASES = {"plain": {}, "forgetting": {"forget": 0.9}, "changepoints": {"changepoints": True, "runs": 4}}


def adapted(outputs: int = 2, **options):
    torch.manual_seed(0)
    learner = il.alpaca(il.models.mlp(3, 6, hidden=(5,)), outputs=outputs, **options)
    learner.spec = TaskSpec(input_shape=(3,), objective="mse")
    x = torch.randn(7, 3)
    return learner.adapt(x, torch.randn(7, outputs))


def goes_on(fitted, update, predict, state) -> None:
    """Twenty examples through the files and through PyTorch."""
    asked = torch.randn(4, 3)
    for i in range(20):
        x, y = torch.randn(3) + i // 10, torch.randn(2)
        state, fitted = update(state, x, y), fitted.learn(x[None], y[None])
        mean, std = predict(state, asked)
        torch.testing.assert_close(mean, fitted.predict(asked), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std, fitted.predict_std(asked), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, as_state(fitted.fast), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_torch_archive_goes_on_learning(case, tmp_path):
    fitted = adapted(**CASES[case])
    made = export_online(fitted, tmp_path, "torch-export")
    update, predict = (torch.export.load(path).module() for path in (made.update, made.predict))
    state = torch.from_numpy(np.load(made.state))
    assert made.off < 1e-5 and made.numbers == len(state) and made.size == 4 * len(state)
    goes_on(fitted, update, predict, state)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_onnx_goes_on_learning(case, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    fitted = adapted(**CASES[case])
    made = export_online(fitted, tmp_path, "onnx")
    sessions = [
        runtime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (made.update, made.predict)
    ]
    names = [[one.name for one in s.get_inputs()] + [one.name for one in s.get_outputs()] for s in sessions]
    assert names == [["state", "x", "y", "next_state"], ["state", "x", "mean", "std"]]

    def update(*given):
        fed = dict(zip(("state", "x", "y"), (v.numpy() for v in given), strict=True))
        return torch.from_numpy(sessions[0].run(None, fed)[0])

    def predict(*given):
        fed = dict(zip(("state", "x"), (v.numpy() for v in given), strict=True))
        return [torch.from_numpy(v) for v in sessions[1].run(None, fed)]

    goes_on(fitted, update, predict, torch.from_numpy(np.load(made.state)))


def test_the_state_of_the_road_fits_a_device():
    learner = il.alpaca(il.models.mlp(6, 32), outputs=3, changepoints=True)
    fitted = learner.adapt(torch.randn(5, 6), torch.randn(5, 3))
    assert 4 * len(as_state(fitted.fast)) <= 100_000


def test_what_cannot_go_on_learning_is_said(tmp_path, monkeypatch):
    x = torch.randn(4, 3)
    labels = il.alpaca(il.models.mlp(3, 4)).adapt(x, ["a", "b", "a", "b"])
    anew = il.maml(il.models.mlp(3, 1)).adapt(x, x[:, :1])
    own_loss = il.alpaca(il.models.mlp(3, 4), loss="mse").adapt(x, x[:, :1])
    for fitted, message in (
        (labels, "expected a task of values"),
        (anew, "takes in example by example and predicts a spread, got maml"),
        (own_loss, "takes in example by example and predicts a spread, got alpaca as it is here"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            export_online(fitted, tmp_path)
    with pytest.raises(il.ConfigError, match="format expected one of onnx, torch-export, got 'tflite'"):
        export_online(adapted(), tmp_path, "tflite")
    right = export._archive

    def off_by_a_little(*given):
        content, found = right(*given)
        found[0][0] += 0.01  # of the first of many weights
        return content, found

    monkeypatch.setattr(export, "_archive", off_by_a_little)
    with pytest.raises(export.ExportFailed, match="differs from PyTorch"):
        export_online(adapted(changepoints=True), tmp_path, "torch-export")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    task, out = tmp_path / "task.il", tmp_path / "device"
    adapted().save(task)
    line = ["export", str(task), "--online", "--format", "torch-export", "--out", str(out)]
    assert main(line) == 0
    assert "the state is" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["predict.pt2", "state.npy", "update.pt2"]
    assert main(line) == 2
    assert "expected a new folder" in capsys.readouterr().err
