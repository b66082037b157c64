"""Takes a user's module in: a deep copy in which layers that torch.func gets wrong are replaced by exact ones."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from innerloop.errors import ConfigError
from innerloop.functional.convolutions import speed_up
from innerloop.functional.differentiable import make_differentiable
from innerloop.functional.dropout import Dropout
from innerloop.functional.norms import BatchNorm, BatchNormPolicy, InstanceNorm, LayerNorm

_CHANNEL_DROPOUT = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def check_model(module: object, needs_parameters: bool = True) -> None:
    """Raise ConfigError for what cannot be adapted: no nn.Module, lazy layers that have not seen data, no parameters."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"expected a torch.nn.Module as the model, got {type(module).__name__}; wrap it in a module")
    if any(isinstance(p, UninitializedParameter) for p in module.parameters()):
        raise ConfigError(
            "the model has lazy layers without shapes; run it once on an example input before handing it over"
        )
    if complex_ones := [name for name, p in module.named_parameters() if p.is_complex()]:
        raise ConfigError(
            f"the model has complex parameters ({complex_ones[0]}), which no method adapts; hold real numbers and join them in "
            "forward: torch.view_as_complex(self.weight), weight (..., 2)"
        )
    if needs_parameters and not any(True for _ in module.parameters()):
        raise ConfigError(
            "the model has no parameters, so there is nothing to adapt; expected at least one nn.Parameter"
        )


def duplicate(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that holds what an earlier forward pass left in it, which comes without its graph."""
    leaves = (leaf for part in module.modules() for leaf in tree_leaves(vars(part)))
    left = {id(v): v for v in leaves if isinstance(v, Tensor) and not v.is_leaf}
    return copy.deepcopy(module, {key: v.detach().clone() for key, v in left.items()})


def convert(module: nn.Module, batch_norm: BatchNormPolicy = "batch", rows: int = 1) -> tuple[nn.Module, list[str]]:
    """A converted deep copy of ``module`` and notes on what was changed; the given module stays as it is.

    Args:
        module: any nn.Module; its parameters keep their names, order, shapes and values.
        batch_norm: the policy of its BatchNorm layers (see `norms.BatchNorm`).
        rows: inner steps + 1: how many sets of statistics "per_step" keeps.

    Raises:
        ConfigError: no nn.Module, lazy layers that have not seen data, or no parameters.
    """
    check_model(module)
    module = duplicate(module)
    for part in module.modules():
        for name, p in list(part._parameters.items()):
            if p is not None and not p.is_floating_point():  # numbers that nothing can train
                delattr(part, name)
                part.register_buffer(name, p.data)
    counts: dict[str, int] = {}
    dropouts = 0

    def replacement(child: nn.Module, name: str) -> nn.Module | None:
        nonlocal dropouts
        # A subclass with a forward of its own may do anything; only torch's own forward is known to be these formulas.
        if isinstance(child, _BatchNorm) and type(child).forward is _BatchNorm.forward:
            counts[f"BatchNorm ({batch_norm})"] = counts.get(f"BatchNorm ({batch_norm})", 0) + 1
            return BatchNorm(child, name, batch_norm, rows)
        if isinstance(child, nn.SyncBatchNorm):
            counts[f"BatchNorm ({batch_norm})"] = counts.get(f"BatchNorm ({batch_norm})", 0) + 1
            return BatchNorm(child, name, batch_norm, rows)
        if type(child) is nn.LayerNorm:
            counts["LayerNorm"] = counts.get("LayerNorm", 0) + 1
            return LayerNorm(child)
        if isinstance(child, _InstanceNorm) and child.affine and type(child).forward is _InstanceNorm.forward:
            counts["InstanceNorm"] = counts.get("InstanceNorm", 0) + 1
            return InstanceNorm(child)
        speed_up(child)
        if rewritten := make_differentiable(child, name):
            counts[rewritten] = counts.get(rewritten, 0) + 1
        if type(child) is nn.Dropout or type(child) in _CHANNEL_DROPOUT:
            dropouts += 1
            return Dropout(child.p, dropouts, type(child) in _CHANNEL_DROPOUT)  # type: ignore[union-attr]
        return None

    notes: list[str] = []
    seen: dict[int, nn.Module] = {}

    def walk(parent: nn.Module, prefix: str) -> None:
        for key, child in list(parent._modules.items()):
            if child is None:
                continue
            name = f"{prefix}{key}"
            if isinstance(child, nn.MultiheadAttention) and child.dropout > 0:
                child.dropout = 0.0
                notes.append(f"{name}: dropout inside nn.MultiheadAttention cannot be drawn per task; switched off")
            made = seen.get(id(child)) or replacement(child, name)
            if made is not None:
                seen[id(child)] = made
                parent._modules[key] = made
            else:
                walk(child, f"{name}.")

    root = replacement(module, "")
    if root is not None:
        module = root
    else:
        walk(module, "")
    module.train()  # so that no layer takes an inference-only fused path; what differs in training is in the call's context
    notes += [
        f"{n} {kind} layer{'s' if n > 1 else ''} rewritten from primitives: exact under vmap"
        for kind, n in counts.items()
    ]
    if dropouts:
        notes.append(f"{dropouts} dropout layer{'s draw' if dropouts > 1 else ' draws'} noise from each task's own key")
    return module, notes
