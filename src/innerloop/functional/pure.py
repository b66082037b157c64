"""A model as a pure function of its parameters: the only caller of torch.func.functional_call."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from innerloop.errors import ConfigError
from innerloop.functional import context
from innerloop.functional.convert import copied
from innerloop.functional.dropout import Dropout
from innerloop.functional.embedded_once import Seen, put_in, recorded, unchanged
from innerloop.functional.norms import BatchNorm, BatchNormPolicy
from innerloop.functional.outputs import Output, chosen, picked
from innerloop.functional.randomness import seeded
from innerloop.functional.state import Traces, fresh_inputs, layers_of_others, look_into, put_back


class PureModel:
    """A converted module without state of its own: ``apply(params, buffers, x) -> (output, new buffers)``.

    It refers to the module that the MetaLearner owns, so moving the learner moves it.
    """

    def __init__(self, module: nn.Module, batch_norm: BatchNormPolicy) -> None:
        self.module = module
        self.batch_norm: BatchNormPolicy = batch_norm
        self.names: dict[str, str] = registered_names(module)
        # Tensors that are in several places of the module, by the names of the other places. A shared layer is one place,
        # whatever it is called: functional_call would take what it has put there first for the layer's own.
        places = {
            f"{prefix}.{key}".lstrip(".")
            for prefix, layer in module.named_modules()
            for key in (*layer._parameters, *layer._buffers)
        }
        self._tied = {name: first for name, first in self.names.items() if name != first and name in places}
        layers = list(module.modules())
        self.has_batch_norm: bool = any(isinstance(m, BatchNorm) and m.policy != "none" for m in layers)
        self.mixes_by_norm: bool = any(isinstance(m, BatchNorm) and m.policy == "batch" for m in layers)
        # Layers that read the call's context; where there are none, it is not even set (torch.compile is glad of that).
        self._needs_context = any(isinstance(m, (BatchNorm, Dropout)) for m in layers)
        self.draws_noise: bool = any(isinstance(m, Dropout) and m.p for m in layers)
        self.low_precision: torch.dtype | None = None  # products and convolutions in this type, by torch.autocast
        self.plain_attention = False  # set by the probe: fused attention has no second derivative
        self.draws_itself = False  # likewise: it draws random numbers from other sources than the call's noise
        # cuDNN differentiates recurrent layers in training mode alone, which differs by their dropout alone.
        self._always_training = [m for m in layers if isinstance(m, nn.RNNBase) and not m.dropout]
        self._has_fast_path = any(isinstance(m, (nn.MultiheadAttention, nn.TransformerEncoder)) for m in layers)
        self.traces: Traces | None = None  # what a pass leaves behind; None: not looked into yet
        self.written: tuple[str, ...] = ()  # buffers that a pass writes, which are given back like running statistics
        self._restored = layers_of_others(module)
        self.output: Output = chosen()  # which part of what the model returns is its output

    def norm_parameters(self) -> list[str]:
        """Names of the scales and shifts of BatchNorm layers."""
        found = [
            self.names[f"{layer.name}.{name}".lstrip(".")]
            for layer in self.module.modules()
            if isinstance(layer, BatchNorm)
            for name in ("weight", "bias")
            if getattr(layer, name) is not None
        ]
        return list(dict.fromkeys(found))

    def running_buffers(self) -> dict[str, Tensor]:
        """The running statistics that meta-training updates."""
        found = {}
        for layer in self.module.modules():
            if isinstance(layer, BatchNorm) and layer.policy in ("per_step", "running"):
                for kind in ("running_mean", "running_var"):
                    found[f"{layer.name}.{kind}"] = getattr(layer, kind).detach().clone()
        return found | {name: self.module.get_buffer(name).detach().clone() for name in self.written}

    def copied(self) -> PureModel:
        """The same on a copy of the module, in full precision."""
        found = PureModel(copied(self.module), self.batch_norm)
        for name in ("plain_attention", "draws_itself", "draws_noise", "output", "traces", "written"):
            setattr(found, name, getattr(self, name))
        found._restored = found._restored if self._restored else []
        return found

    def look_into(self, *x: Any) -> None:
        """Find out, once, what a pass on such inputs leaves on the module; see `state.look_into`.

        Raises:
            ConfigError: as there; or statistics of the module's own, for which this policy of batch norm cannot hold.
        """
        if self.traces is not None:
            return
        found = look_into(self.copied, x)
        if found.statistics and self.batch_norm in ("per_step", "frozen", "none"):
            raise ConfigError(
                f"batch_norm={self.batch_norm!r} expected torch's own BatchNorm layers, got a module that keeps "
                f"{', '.join(found.statistics)} by itself; give batch_norm='running', which is what it does, or use nn.BatchNorm"
            )
        self.traces, self.written = found, found.buffers
        self.keep_in_files(self.written)
        self._restored = self._restored if found.attributes else []

    def keep_in_files(self, names: Iterable[str]) -> None:
        """Buffers that a pass writes are learned, so files hold them, also those of ``persistent=False``."""
        for name in names:
            layer, _, key = name.rpartition(".")
            self.module.get_submodule(layer)._non_persistent_buffers_set.discard(key)

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
            x: what its ``forward`` takes, or what of it was seen (`see`).
            mask: (examples,) booleans, False for padding.
            step: the inner step, for statistics kept step by step.
            training: whether statistics are recorded and noise is drawn.
            noise: the key of that noise.
            part: one network of a `Parts`; None: the model itself.
        """
        # A dictionary of its own: layers write their new statistics into it, and the caller's stay as they are.
        call = context.Call(mask=mask, step=step, training=training, noise=noise, buffers=dict(buffers))
        given = {**params, **buffers}
        seen = x[0] if x and isinstance(x[0], Seen) else None
        x = x if seen is None else (seen.x,)
        if self.traces is None or self.traces.inputs:
            x = fresh_inputs(x)
        for name in self.written:  # may be written in place
            given[name] = (buffers[name] if name in buffers else self.module.get_buffer(name)).clone()
        with ExitStack() as stack:
            if self.draws_itself:
                stack.enter_context(seeded(self.module, noise if training and noise is not None else 0))
            if self.low_precision is not None:
                stack.enter_context(torch.autocast(_first(x).device.type, self.low_precision))
            if self._needs_context:
                stack.enter_context(context.running(call))
            if self._restored:
                stack.enter_context(put_back(self._restored))
            if seen is not None:
                stack.enter_context(put_in(self.module, seen))
            output = self.call(given, *x, training=training, part=part)
        call.buffers |= {name: given[name] for name in self.written}
        if part is None:
            output = picked(output, self.output)
        # Losses and what comes after them are in full precision.
        if self.low_precision is not None:
            output = tree_map(lambda v: v.to(_first(x).dtype) if v.is_floating_point() else v, output)
        return output, call.buffers

    def see(
        self,
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        x: Any,
        *,
        mask: Tensor | None,
        training: bool,
        moving: Collection[str],
    ) -> Seen | None:
        """Inputs with what the layers make of them that no inner step changes, for `apply`; None where there are none.

        Args:
            params, buffers, x, mask, training: as of `apply`.
            moving: names of the parameters that inner steps change.
        """
        if self.draws_itself or self.written or self._restored or (self.traces is not None and self.traces.inputs):
            return None  # what such a model does beside giving an output, it does at each step
        rows = unchanged(self.module, moving, training)
        if not rows:
            return None
        with recorded(self.module, rows, [params[name] for name in moving], training) as seen:
            self.apply(params, buffers, x, mask=mask, training=training)
        return seen(x)

    def call(self, given: dict[str, Tensor], *x: Any, training: bool, part: str | None = None) -> Any:
        """The module's output with these tensors in the places of its own; buffers that it writes are in ``given`` then."""
        given |= {name: given[first] for name, first in self._tied.items() if first in given and name not in given}
        options = None if part is None else {"part": part}
        with self._mode(training):
            return torch.func.functional_call(self.module, given, x, options, tie_weights=False)

    def itself(self, *x: Any, training: bool) -> Any:
        """The module's output as it is."""
        with self._mode(training):
            return self.module(*x)

    @contextmanager
    def _mode(self, training: bool) -> Iterator[None]:
        """The one place that decides: training mode in meta-training, evaluation mode everywhere else."""
        # `train()` walks over all layers, and a step calls this many times.
        if self.module.training != training:
            self.module.train(training)
        for layer in self._always_training:
            layer.training = True
        with ExitStack() as stack:
            if self.plain_attention:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if self._has_fast_path and not training:  # which can be neither differentiated nor vmapped
                stack.enter_context(_without_fast_path())
            yield


@contextmanager
def _without_fast_path() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _first(inputs: Any) -> Tensor:
    return tree_leaves(inputs)[0]


def registered_names(module: nn.Module) -> dict[str, str]:
    """Every name that a parameter or buffer has in the module, and the first name of that tensor: the one it goes by."""
    first: dict[int, str] = {}
    every = itertools.chain(
        module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    )
    return {name: first.setdefault(id(tensor), name) for name, tensor in every}


def head_module(module: nn.Module) -> str:
    """The name of the last module, in registration order, that owns parameters: the head."""
    name = ""
    for candidate, child in module.named_modules():
        if any(True for _ in child.parameters(recurse=False)):
            name = candidate
    return name


def select(
    names: Sequence[str],
    adapt: Sequence[str] | None,
    freeze: Sequence[str] | None,
    registered: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """The parameter names to adapt: those that match a pattern of ``adapt`` (all when None) and none of ``freeze``.

    Patterns are shell-style: "head.*", "*.bias". A pattern that matches nothing is a ConfigError, since it is a typing error.
    A parameter of several names (see `registered_names`) matches by any of them.
    """
    called = {name: name for name in names} | {n: first for n, first in (registered or {}).items() if first in names}

    def matching(patterns: Sequence[str]) -> set[str]:
        found = set()
        for pattern in patterns:
            hits = fnmatch.filter(called, pattern)
            if not hits:
                raise ConfigError(
                    f"pattern {pattern!r} matches no parameter of the model; parameters: {', '.join(names)}"
                )
            found |= {called[name] for name in hits}
        return found

    wanted, unwanted = set(names) if adapt is None else matching(adapt), matching(freeze or ())
    kept = [n for n in names if n in wanted and n not in unwanted]
    if not kept:
        raise ConfigError(f"no parameter is left to adapt (adapt={list(adapt or [])}, freeze={list(freeze or [])})")
    return tuple(kept)
