"""Several networks as one model: the user's own, and those that a method brings (a comparison network, a memory's controller)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from innerloop.errors import ConfigError, ShapeError, first_line
from innerloop.functional.outputs import chosen, expect_tensor, picked


class Parts(nn.Module):
    """The user's model first, so that its parameters come first, then the method's networks by name.

    Called without ``part`` it is the user's model alone.

    Args:
        model: the user's.
        brought: the method's, by name.
    """

    def __init__(self, model: nn.Module, **brought: nn.Module) -> None:
        super().__init__()
        self.model = model
        for name, network in brought.items():
            self.add_module(name, network)

    def forward(self, *inputs: Any, part: str = "model") -> Any:
        return self.get_submodule(part)(*inputs)


def features_of(model: nn.Module, input_shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """The shape of the model's output for one example, without the examples axis.

    Networks that a method puts behind a model are built to fit it before any data has been seen.

    Args:
        model: any nn.Module; run once on zeros, its state untouched.
        input_shape: of one example; None: what a model of `il.models` was made for, or the inputs of a first nn.Linear.

    Raises:
        ConfigError: the input shape is not known, or the model cannot take such inputs.
    """
    shape = inputs_of(model, input_shape)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    was_training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        with torch.no_grad():
            output = model(torch.zeros(2, *shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, TypeError, IndexError, ShapeError) as error:
        raise ConfigError(
            f"the model cannot take inputs of shape {(2, *shape)} (examples, ...): {first_line(error)}"
        ) from error
    finally:
        for module in was_training:
            module.training = True
    output = expect_tensor(picked(output, chosen()))
    if output.shape[:1] != (2,):
        raise ConfigError("the model expected to return one output for each example, a tensor (examples, ...)")
    return tuple(output.shape[1:])


def inputs_of(model: nn.Module, input_shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """The shape of one example: the given one, or what the model was made for; ConfigError where neither is known."""
    shape = tuple(input_shape) if input_shape is not None else _declared_inputs(model)
    if shape is None:
        raise ConfigError(
            f"the input shape of {type(model).__name__} is not known, and layers are built on its output; "
            "give it: input_shape=(1, 28, 28), say"
        )
    return shape


def _declared_inputs(model: nn.Module) -> tuple[int, ...] | None:
    spec = getattr(model, "spec", None)
    if isinstance(spec, dict):
        inputs = spec.get("arguments", {}).get("inputs")
        if inputs is not None:
            return (inputs,) if isinstance(inputs, int) else tuple(inputs)
    first = next((m for m in model.modules() if any(True for _ in m.parameters(recurse=False))), None)
    return (first.in_features,) if isinstance(first, nn.Linear) else None
