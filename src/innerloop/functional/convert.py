"""Takes a user's module in: a deep copy in which layers that torch.func gets wrong are replaced by exact ones."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from innerloop.errors import ConfigError, first_line
from innerloop.functional import convolutions, sequences
from innerloop.functional.differentiable import make_differentiable
from innerloop.functional.dropout import Dropout
from innerloop.functional.norms import BatchNorm, BatchNormPolicy, InstanceNorm, LayerNorm
from innerloop.functional.torch_version import warn_of_newer

_CHANNEL_DROPOUT = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def check_model(module: object, needs_parameters: bool = True) -> None:
    """Raise ConfigError for what cannot be adapted: no nn.Module, one that torch runs by itself, lazy layers that have not
    seen data, no parameters, two in one place of memory."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"expected a torch.nn.Module as the model, got {type(module).__name__}; wrap it in a module")
    for layer in module.modules():
        if isinstance(layer, torch.jit.ScriptModule | nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise ConfigError(
                f"the model expected plain modules, whose parameters can be replaced, got a {type(layer).__name__}; give the "
                "module that it was made of (model.module of a parallel one)"
            )
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
    held: dict[int, str] = {}
    for name, p in module.named_parameters():
        other = held.setdefault(p.data_ptr(), name) if p.numel() and p.device.type != "meta" else name
        if other != name:
            raise ConfigError(
                f"{other} and {name} expected memory of their own, got two parameters in one place; where they are meant to be "
                "one, register one under both names: layer.weight = other_layer.weight, not .data"
            )


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
    warn_of_newer()
    module = copied(module)
    notes: list[str] = []
    for layer in module.modules():
        for name, p in list(layer._parameters.items()):
            if p is not None and not p.is_floating_point():  # numbers that nothing can train
                delattr(layer, name)
                layer.register_buffer(name, p.data)
    counts: dict[str, int] = {}
    dropouts = 0
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.MultiheadAttention) and layer.dropout > 0:
            layer.dropout = 0.0
            notes.append(f"{name}: dropout inside nn.MultiheadAttention cannot be drawn per task; switched off")
        if rewritten := make_differentiable(layer, name):
            counts[rewritten] = counts.get(rewritten, 0) + 1
        # A subclass with a forward of its own may do anything; only torch's own forward is known to be these formulas.
        if is_parametrized(layer):
            continue
        if isinstance(layer, nn.SyncBatchNorm) or (
            isinstance(layer, _BatchNorm) and type(layer).forward is _BatchNorm.forward
        ):
            made, kind = BatchNorm(layer, name, batch_norm, rows), f"BatchNorm ({batch_norm})"
        elif type(layer) is nn.LayerNorm:
            made, kind = LayerNorm(layer), "LayerNorm"
        elif (
            isinstance(layer, _InstanceNorm)
            and type(layer).forward is _InstanceNorm.forward
            and layer.affine
            and not layer.track_running_stats
        ):
            made, kind = InstanceNorm(layer), "InstanceNorm"
        elif type(layer) is nn.Dropout or type(layer) in _CHANNEL_DROPOUT:
            dropouts += 1
            made, kind = Dropout(layer.p, dropouts, type(layer) in _CHANNEL_DROPOUT), ""  # type: ignore[union-attr]
        else:
            convolutions.speed_up(layer)
            sequences.speed_up(layer)
            continue
        counts[kind] = counts.get(kind, 0) + 1
        _turn_into(layer, made)
    module.train()  # until a call says otherwise, see `PureModel`
    notes += [
        f"{n} {kind} layer{'s' if n > 1 else ''} rewritten from primitives: exact under vmap"
        for kind, n in counts.items()
        if kind
    ]
    if dropouts:
        notes.append(f"{dropouts} dropout layer{'s draw' if dropouts > 1 else ' draws'} noise from each task's own key")
    return module, notes


def _turn_into(layer: nn.Module, made: nn.Module) -> None:
    """Make a layer another one in place: whoever refers to it, under whatever name, has the new one; its hooks stay."""
    hooks = {key: value for key, value in vars(layer).items() if "hook" in key}
    layer.__class__ = type(made)
    layer.__dict__ = {**vars(made), **hooks}


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that holds tensors computed from its parameters (weight_norm, prune, a kept result).

    Raises:
        ConfigError: the module holds something that cannot be copied.
    """
    values = pytree.tree_leaves([list(vars(layer).values()) for layer in module.modules()])
    # Such a tensor is no parameter of the copy, and `requires_grad` tells when a forward pass reads it all the same.
    computed = {
        id(v): v.detach().clone().requires_grad_() for v in values if isinstance(v, torch.Tensor) and not v.is_leaf
    }
    try:
        return copy.deepcopy(module, computed)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the model expected to be one that copy.deepcopy can copy, got: {first_line(error)}; make what cannot be copied "
            "in forward, or give the module a __deepcopy__"
        ) from error
