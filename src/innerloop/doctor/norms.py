"""The rewritten norm layers against torch's own: equal in value, and what would be lost without rewriting them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.functional import context
from innerloop.functional.norms import BatchNorm, InstanceNorm, LayerNorm

Rewritten = BatchNorm | InstanceNorm | LayerNorm


class TorchNorm(nn.Module):
    """A rewritten layer turned back into torch's own, as it is in meta-training, with the same parameters."""

    normalized_shape: tuple[int, ...]

    def __init__(self, layer: Rewritten) -> None:
        super().__init__()
        self.eps: float = layer.eps
        self.weight: nn.Parameter | None = layer.weight
        self.bias: nn.Parameter | None = layer.bias
        self.kind: str = "batch"
        if isinstance(layer, LayerNorm):
            self.kind, self.normalized_shape = "layer", tuple(layer.normalized_shape)
        elif isinstance(layer, InstanceNorm):
            self.kind = "instance"
        elif layer.policy == "frozen":
            self.kind = "frozen"
            self.running_mean: Tensor = layer.running_mean  # type: ignore[assignment]
            self.running_var: Tensor = layer.running_var  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        if self.kind == "instance":
            return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if self.kind == "frozen":
            return F.batch_norm(
                x, self.running_mean[0], self.running_var[0], self.weight, self.bias, False, 0.0, self.eps
            )
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


def rewritten_norms(model: nn.Module) -> dict[str, Rewritten]:
    """The layers of a converted model that stand for torch's norm layers, by name; those that do not normalise left out."""
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, (BatchNorm, InstanceNorm, LayerNorm)) and not (isinstance(m, BatchNorm) and m.policy == "none")
    }


@torch.no_grad()
def norm_errors(model: nn.Module, generator: torch.Generator) -> dict[str, float]:
    """For each rewritten layer of a float64 model: the largest difference from torch's own on random input, relative."""
    errors = {}
    for name, layer in rewritten_norms(model).items():
        shape = (6, *layer.normalized_shape) if isinstance(layer, LayerNorm) else (6, layer.num_features, 5)
        like = next((t for t in (*layer.parameters(), *layer.buffers())), torch.zeros(()))
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 1
        x = x.to(like.device)
        with context.running(context.Call(training=True)):
            ours = layer(x)
        theirs = TorchNorm(layer)(x)
        errors[name] = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))
    return errors


def restore_norms(model: nn.Module) -> int:
    """Put torch's own layers back where they were rewritten, in place; how many. The model itself must not be one."""
    layers = rewritten_norms(model)
    if "" in layers:
        return 0
    for name, layer in layers.items():
        parent, _, key = name.rpartition(".")
        setattr(model.get_submodule(parent), key, TorchNorm(layer))
    return len(layers)
