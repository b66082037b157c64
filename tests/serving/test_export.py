"""Exported files give PyTorch's numbers, for other sizes than they were made with, without innerloop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import TaskSpec
from innerloop.serving import export
from innerloop.serving.export import export_fitted, export_learner


def pictures(examples: int) -> torch.Tensor:
    return torch.rand(examples, 1, 16, 16, generator=torch.Generator().manual_seed(examples))


def conv(outputs: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return il.models.conv4((1, 16, 16), outputs, filters=3, downsample="stride" if outputs else "max_pool")


CASES = {
    "protonet": lambda: il.protonet(conv()).adapt(pictures(6), [*"abcabc"]),
    "dkt": lambda: il.dkt(conv()).adapt(pictures(6), [*"abcabc"]),
    "maml, running": lambda: il.maml(conv(3), batch_norm="running", inner_steps=1).adapt(pictures(6), [*"abcabc"]),
    "maml, batch statistics": lambda: il.maml(conv(3), inner_steps=1).adapt(pictures(6), [*"abcabc"]),
    "regression": lambda: il.maml(il.models.mlp(2, 1, hidden=(4,))).adapt(torch.randn(5, 2), torch.randn(5, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_torch_archive(case, tmp_path):
    fitted = CASES[case]()
    off = export_fitted(fitted, tmp_path / "a.pt2", "torch-export")
    assert off < 1e-5
    program = torch.export.load(tmp_path / "a.pt2").module()
    x = pictures(9) if fitted.classes_ else torch.randn(9, 2)
    x = x[:1] if "batch" in case else x
    expected = fitted.predict_proba(x) if fitted.classes_ else fitted.predict(x)
    assert torch.allclose(program(x), expected, atol=1e-6)


@pytest.mark.slow
def test_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    fitted = CASES["maml, running"]()
    export_fitted(fitted, tmp_path / "a.onnx", "onnx")
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    found = session.run(None, {"x": pictures(9).numpy()})[0]
    assert torch.allclose(torch.from_numpy(found), fitted.predict_proba(pictures(9)), atol=1e-5)


@pytest.mark.slow
def test_adapting_itself_for_any_number_of_examples(tmp_path):
    learner = il.protonet(conv())
    learner.spec = TaskSpec(input_shape=(1, 16, 16))
    export_learner(learner, tmp_path / "a.pt2", "torch-export", ways=3)
    program = torch.export.load(tmp_path / "a.pt2").module()
    y = torch.tensor([2, 0, 1, 1])
    found = program(pictures(4), y, pictures(11))
    assert torch.allclose(found, learner.adapt(pictures(4), y).predict_proba(pictures(11)), atol=1e-6)


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    fitted, path = CASES["regression"](), tmp_path / "a.pt2"
    with pytest.raises(il.ConfigError, match="format expected one of onnx, torch-export, got 'tflite'"):
        export_fitted(fitted, path, "tflite")
    with pytest.raises(il.ConfigError, match=r"expected a metric method.*got maml"):
        export_learner(il.maml(conv(3)), path)
    with pytest.raises(il.ConfigError, match="shape of this learner's inputs is not known"):
        export_learner(il.protonet(conv()), path)
    monkeypatch.setattr(export, "_archive", lambda *_: (b"", torch.full((5, 1), 7.0)))
    with pytest.raises(export.ExportFailed, match="differs from PyTorch"):
        export_fitted(fitted, path, "torch-export")
    assert not path.exists()
