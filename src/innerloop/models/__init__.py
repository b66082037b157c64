"""Models by name: ``il.models.NAME(inputs, outputs, **options)`` returns a plain `torch.nn.Module`.

``inputs`` is the shape of ONE example without the batch axis (an int stands for what each factory says),
``outputs`` the number of logits or of regression outputs. Any other module works with innerloop as well;
what these have beyond it is the attribute ``spec`` (name and arguments), so that run directories and task
files can make them again. In all of them the last layer is called ``head``, so that ``adapt=["head.*"]``
means the same everywhere. ``il.models.whiten`` gives such a layer a start in closed form.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from innerloop.errors import ConfigError, nearest
from innerloop.registry import Entry, bound, call, load

MODELS: dict[str, Entry] = {
    "mlp": Entry("innerloop.models.perceptron:mlp", "Fully connected net, by default the 40-40 ReLU net of the sine."),
    "conv4": Entry("innerloop.models.convolutional:conv4", "Four 3x3 convolutions, the usual few-shot image net."),
    "resnet12": Entry("innerloop.models.residual:resnet12", "Twelve-layer residual net for larger images."),
    "vit": Entry("innerloop.models.vision_transformer:vit", "Small vision transformer on patches of a picture."),
    "cell_net": Entry("innerloop.models.cells:cell_net", "Net of one small cell, repeated, such as il.darts finds."),
    "cell_supernet": Entry(
        "innerloop.models.cells:cell_supernet", "All cells of a small space at once, for il.darts to choose from."
    ),
    "oriented_gradients": Entry(
        "innerloop.models.gradient_histograms:oriented_gradients",
        "Linear layer on fixed gradient histograms, for photographs and few classes.",
    ),
    "transformer": Entry("innerloop.models.attention:transformer", "Small pre-norm encoder for sequences."),
    "adapter": Entry(
        "innerloop.models.bottleneck:adapter", "Small residual net on features, which begins by changing nothing."
    ),
    "counts_mlp": Entry(
        "innerloop.models.counts:counts_mlp", "Fully connected net on sparse rows (il.Counts): fingerprints, words."
    ),
    "lstm": Entry("innerloop.models.recurrent:lstm", "Long short-term memory for sequences."),
    "items_mlp": Entry(
        "innerloop.models.items:items_mlp", "Net for tables that name items: a learned vector for each."
    ),
    "gaussian_policy": Entry(
        "innerloop.models.policies:gaussian_policy", "Policy for continuous actions: means, and learned deviations."
    ),
    "scaled_policy": Entry(
        "innerloop.models.observation_scale:scaled_policy", "Policy that scales observations by what it has seen."
    ),
    "gru_policy": Entry("innerloop.models.policies:gru_policy", "Policy with a memory, a gated recurrent unit."),
}
# What takes noise out of examples, for score models: ``model(x, sigma, support, counts)``.
DENOISERS: dict[str, Entry] = {
    "denoising_unet": Entry(
        "innerloop.models.unet:denoising_unet", "Small U-Net that denoises pictures beside others of their kind."
    ),
    "denoising_mlp": Entry(
        "innerloop.models.denoising_perceptron:denoising_mlp", "Net that denoises vectors beside others of their kind."
    ),
}
NAMED = {**MODELS, **DENOISERS}  # what a word can stand for, in Python, in a file and on the command line
# Networks that others have trained, whose weights come as packages; ``--model`` takes these names too.
EMBEDDINGS: dict[str, Entry] = {
    "photos": Entry(
        "innerloop.models.embeddings:photos", "EfficientNet-Lite0, trained on ImageNet: frozen features of photographs."
    ),
    "sentences": Entry(
        "innerloop.models.embeddings:sentences",
        "MiniLM, trained on pairs of sentences: frozen features of short texts.",
    ),
}
EMBEDDED = "pretrained"  # in a ``spec``, the name of a trained network that goes on learning
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")  # files of a network's state
# What is no model but works on one.
_MORE = {
    "MixedOp": Entry("innerloop.models.cells:MixedOp", "Several operations at once, of which il.darts chooses one."),
    "whiten": Entry("innerloop.models.whitening:whiten", "Sets a last layer by the covariance within classes."),
    "pretrained": Entry(
        "innerloop.models.embeddings:pretrained", "A network that somebody has trained, as an embedding."
    ),
}


def is_embedding(word: str) -> bool:
    """Whether a model's name stands for a trained network: a known one, ``timm:NAME``, an ONNX file or one of weights."""
    return word in EMBEDDINGS or word.startswith("timm:") or word.lower().endswith((".onnx", *WEIGHTS))


def build(name: str, arguments: Mapping[str, Any], *, typed: bool = False) -> Any:
    """Make the model that a ``spec`` describes, with fresh parameters.

    Args:
        name: a key of `MODELS`, what an installed package offers, or ``package.module:factory`` that a user has ``typed``.
        arguments: the factory's arguments by name; lists are taken for tuples, as JSON has no tuples.
        typed: see `registry.find`.

    Raises:
        ConfigError: the name is unknown, an argument is unknown or missing, or a value cannot work.
    """
    if name == EMBEDDED:
        return importlib.import_module("innerloop.models.embeddings").rebuilt(arguments, typed=typed)
    factory = load("model", NAMED, name, typed=typed)
    parameters = inspect.signature(factory).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for given in arguments:
        if given not in parameters and not anything:
            raise ConfigError(f"model {name} has no argument {given!r}: {nearest(given, parameters)}")
    for needed, parameter in parameters.items():
        wanted = parameter.default is parameter.empty and parameter.kind not in (2, 4)  # not *these and **those
        if wanted and needed not in arguments:
            raise ConfigError(f"model {name} expected the argument {needed!r}, got only {sorted(arguments)}")
    if name in NAMED:
        return factory(**arguments)
    model = call("model", name, factory, **arguments)
    if not callable(getattr(model, "named_parameters", None)):
        raise ConfigError(f"the model {name!r} expected to return a torch.nn.Module, got {type(model).__name__}")
    # Its own name, whatever the factory made it from: another package's model may be ours with something changed.
    object.__setattr__(model, "spec", {"name": name, "arguments": bound(factory, arguments)})
    object.__setattr__(model, "spec_shapes", parameter_shapes(model))
    return model


def fitting(name: str, shape: tuple[int, ...], outputs: int | None, options: Mapping[str, Any], *, typed: bool) -> Any:
    """The model of this name for a problem: its first two arguments are the shape of an input and the number of outputs.

    A factory of somebody else's that takes no such arguments makes its model as it is.
    """
    factory = load("model", NAMED, name, typed=typed)
    inputs = shape[0] if len(shape) == 1 else shape
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p.name for p in inspect.signature(factory).parameters.values() if p.kind in kinds]
    if name in DENOISERS:  # what comes out is of the shape of what goes in
        return build(name, {"inputs": list(shape) if len(shape) != 1 else shape[0], **options})
    needed = [p for p in first if inspect.signature(factory).parameters[p].default is inspect.Parameter.empty]
    given = (
        dict(zip(first, (inputs, outputs), strict=False))
        if len(needed) == 2 or first[:2] == ["inputs", "outputs"]
        else {}
    )
    return build(name, {**given, **options}, typed=typed)


def describe(module: Any) -> dict[str, Any] | None:
    """The ``spec`` of a model made here, ready for JSON; None for anybody else's module.

    None, too, when parameters were exchanged since (another head, say): the spec would make another model.
    """
    spec = getattr(module, "spec", None)
    if not isinstance(spec, dict) or set(spec) != {"name", "arguments"}:
        return None
    if getattr(module, "spec_shapes", None) != parameter_shapes(module):
        return None
    return {"name": spec["name"], "arguments": dict(spec["arguments"])}


def parameter_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def printed(module: Any) -> str:
    """What tells two modules of one class apart, as far as they print their settings."""
    kind = type(module)
    return hashlib.blake2b(f"{kind.__module__}.{kind.__qualname__} {module!r}".encode(), digest_size=8).hexdigest()


def __getattr__(name: str) -> Any:
    if name in NAMED or name in _MORE:
        return load("model", {**NAMED, **_MORE}, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMED, *_MORE])
