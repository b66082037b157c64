"""Models by name: ``il.models.NAME(inputs, outputs, **options)`` returns a plain `torch.nn.Module`.

``inputs`` is the shape of ONE example without the batch axis (an int stands for what each factory says),
``outputs`` the number of logits or of regression outputs. Any other module works with innerloop as well;
what these have beyond it is the attribute ``spec`` (name and arguments), so that run directories and task
files can make them again. In all of them the last layer is called ``head``, so that ``adapt=["head.*"]``
means the same everywhere. ``il.models.whiten`` gives such a layer a start in closed form.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from innerloop.errors import ConfigError, nearest
from innerloop.registry import Entry, load

MODELS: dict[str, Entry] = {
    "mlp": Entry("innerloop.models.perceptron:mlp", "Fully connected net, by default the 40-40 ReLU net of the sine."),
    "conv4": Entry("innerloop.models.convolutional:conv4", "Four 3x3 convolutions, the usual few-shot image net."),
    "resnet12": Entry("innerloop.models.residual:resnet12", "Twelve-layer residual net for larger images."),
    "vit": Entry("innerloop.models.vision_transformer:vit", "Small vision transformer on patches of a picture."),
    "oriented_gradients": Entry(
        "innerloop.models.gradient_histograms:oriented_gradients",
        "Linear layer on fixed gradient histograms, for photographs and few classes.",
    ),
    "transformer": Entry("innerloop.models.attention:transformer", "Small pre-norm encoder for sequences."),
    "lstm": Entry("innerloop.models.recurrent:lstm", "Long short-term memory for sequences."),
}
# What is no model but works on one.
_MORE = {"whiten": Entry("innerloop.models.whitening:whiten", "Sets a last layer by the covariance within classes.")}


def build(name: str, arguments: Mapping[str, Any]) -> Any:
    """Make the model that a ``spec`` describes, with fresh parameters.

    Args:
        name: a key of `MODELS`.
        arguments: the factory's arguments by name; lists are taken for tuples, as JSON has no tuples.

    Raises:
        ConfigError: the name is unknown, an argument is unknown or missing, or a value cannot work.
    """
    factory = load("model", MODELS, name)
    parameters = inspect.signature(factory).parameters
    for given in arguments:
        if given not in parameters:
            raise ConfigError(f"model {name} has no argument {given!r}: {nearest(given, parameters)}")
    for needed, parameter in parameters.items():
        if parameter.default is parameter.empty and needed not in arguments:
            raise ConfigError(f"model {name} expected the argument {needed!r}, got only {sorted(arguments)}")
    return factory(**arguments)


def describe(module: Any) -> dict[str, Any] | None:
    """The ``spec`` of a model made here, ready for JSON; None for anybody else's module.

    None, too, when parameters were exchanged since (another head, say): the spec would make another model.
    """
    spec = getattr(module, "spec", None)
    if not isinstance(spec, dict) or set(spec) != {"name", "arguments"}:
        return None
    if not isinstance(spec["name"], str) or spec["name"] not in MODELS:
        return None
    if getattr(module, "spec_shapes", None) != parameter_shapes(module):
        return None
    return {"name": spec["name"], "arguments": dict(spec["arguments"])}


def parameter_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def __getattr__(name: str) -> Any:
    if name in MODELS or name in _MORE:
        return load("model", {**MODELS, **_MORE}, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MODELS, *_MORE])
