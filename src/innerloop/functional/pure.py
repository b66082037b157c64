"""A model as a pure function of its parameters: the only caller of torch.func.functional_call."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from innerloop.errors import ConfigError
from innerloop.functional import context
from innerloop.functional.dropout import Dropout
from innerloop.functional.norms import BatchNorm, BatchNormPolicy
from innerloop.functional.outputs import chosen, picked
from innerloop.functional.randomness import seeded


class PureModel:
    """A converted module without state of its own: ``apply(params, buffers, x) -> (output, new buffers)``.

    It refers to the module that the MetaLearner owns, so moving the learner moves it.
    """

    def __init__(self, module: nn.Module, batch_norm: BatchNormPolicy) -> None:
        self.module = module
        self.batch_norm = batch_norm
        layers = list(module.modules())
        self.has_batch_norm = any(isinstance(m, BatchNorm) and m.policy != "none" for m in layers)
        self.mixes_by_norm = any(isinstance(m, BatchNorm) and m.policy == "batch" for m in layers)
        # Layers that read the call's context; where there are none, it is not even set (torch.compile is glad of that).
        self._needs_context = any(isinstance(m, (BatchNorm, Dropout)) for m in layers)
        self.draws_noise = any(isinstance(m, Dropout) for m in layers)
        self.low_precision: torch.dtype | None = None  # products and convolutions in this type, by torch.autocast
        self.plain_attention = False  # set by the probe: fused attention has no second derivative
        self.follow_training = False  # set by the probe: the model draws random numbers by itself
        self.output = chosen()  # which part of what the model returns is its output
        self.draws_itself = False  # likewise: from other sources than the call's noise

    def norm_parameters(self) -> list[str]:
        """Names of the scales and shifts of BatchNorm layers."""
        return [
            f"{layer.name}.{name}".lstrip(".")
            for layer in self.module.modules()
            if isinstance(layer, BatchNorm)
            for name in ("weight", "bias")
            if getattr(layer, name) is not None
        ]

    def running_buffers(self) -> dict[str, Tensor]:
        """The running statistics that meta-training updates."""
        found = {}
        for layer in self.module.modules():
            if isinstance(layer, BatchNorm) and layer.policy in ("per_step", "running"):
                for kind in ("running_mean", "running_var"):
                    found[f"{layer.name}.{kind}"] = getattr(layer, kind).detach().clone()
        return found

    def apply(
        self,
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *x: Any,
        mask: Tensor | None = None,
        step: int = 0,
        training: bool = False,
        noise: Tensor | None = None,
        part: str | None = None,
    ) -> tuple[Any, dict[str, Tensor]]:
        """The module's output for the examples ``x`` of one task, and its new running statistics.

        Args:
            params, buffers: of the whole module, by name.
            x: what its ``forward`` takes.
            mask: (examples,) booleans, False for padding.
            step: the inner step, for statistics kept step by step.
            training: whether statistics are recorded and noise is drawn.
            noise: the key of that noise.
            part: one network of a `Parts`; None: the model itself.
        """
        with ExitStack() as stack:
            if self.plain_attention:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if self.follow_training and self.module.training != training:
                self.module.train(training)
            if self.draws_itself:
                stack.enter_context(seeded(self.module, noise if training and noise is not None else 0))
            if self.low_precision is not None:
                stack.enter_context(torch.autocast(_first(x).device.type, self.low_precision))
            call = context.Call(mask=mask, step=step, training=training, noise=noise, buffers=dict(buffers))
            if self._needs_context:
                stack.enter_context(context.running(call))
            options = None if part is None else {"part": part}
            output = torch.func.functional_call(self.module, {**params, **buffers}, x, options)
        if part is None:
            output = picked(output, self.output)
        # Losses and what comes after them are in full precision.
        if self.low_precision is not None:
            output = tree_map(lambda v: v.to(_first(x).dtype) if v.is_floating_point() else v, output)
        return output, call.buffers


def _first(inputs: Any) -> Tensor:
    return tree_leaves(inputs)[0]


def head_module(module: nn.Module) -> str:
    """The name of the last module, in registration order, that owns parameters: the head."""
    name = ""
    for candidate, child in module.named_modules():
        if any(True for _ in child.parameters(recurse=False)):
            name = candidate
    return name


def select(names: Sequence[str], adapt: Sequence[str] | None, freeze: Sequence[str] | None) -> tuple[str, ...]:
    """The parameter names to adapt: those that match a pattern of ``adapt`` (all when None) and none of ``freeze``.

    Patterns are shell-style: "head.*", "*.bias". A pattern that matches nothing is a ConfigError, since it is a typing error.
    """
    for pattern in [*(adapt or ()), *(freeze or ())]:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"pattern {pattern!r} matches no parameter of the model; parameters: {', '.join(names)}")
    kept = [
        n
        for n in names
        if (adapt is None or any(fnmatch.fnmatchcase(n, p) for p in adapt))
        and not any(fnmatch.fnmatchcase(n, p) for p in freeze or ())
    ]
    if not kept:
        raise ConfigError(f"no parameter is left to adapt (adapt={list(adapt or [])}, freeze={list(freeze or [])})")
    return tuple(kept)
