"""What methods for streams have in common: a model of one's own, a memory, examples checked before anything changes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import ConfigError, InputError, ShapeError, expect_above_zero, expect_whole
from innerloop.functional import PureModel, check_model
from innerloop.functional.convert import convert, copied
from innerloop.lifelong.memory import Reservoir
from innerloop.storage import load_tensors, save_tensors

_AT_ONCE = 2000  # examples predicted together
KIND, VERSION = "innerloop.online", 1


class OnlineLearner(ABC):
    """A model that learns a stream as it comes, each example once.

    Use it by itself (`learn`, `learn_one`, `predict`, `predict_one`), or give it to `il.learn_stream`, which works on a copy.
    Targets are class numbers for a classification and floats (examples, outputs) for a regression. An example that cannot be
    learned from is refused in one line, and nothing has changed then.

    Args:
        name: of the method.
        model: any nn.Module; copied. Layers that normalise over a batch are refused: examples come one by one.
        options: the method's own settings, as they are written down.
        memory: how many examples are kept.
        glances: how many times each batch is learned from before the next one comes.
        seed: of what is kept and drawn.
        needs_parameters: whether the model has to have some.
    """

    has_memory = True  # it keeps examples
    regression = True  # it learns values, too

    def __init__(
        self,
        name: str,
        model: nn.Module,
        options: Mapping[str, Any],
        *,
        memory: int = 0,
        glances: int = 1,
        seed: int = 0,
        needs_parameters: bool = True,
    ) -> None:
        check_model(model, needs_parameters)
        expect_whole("glances", glances)
        norms = [n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            raise ConfigError(
                f"{name} expected a model without batch norm, whose statistics a stream of single examples spoils, got the layer "
                f"{norms[0]!r}; use a model without norm layers, or with nn.GroupNorm"
            )
        self.name: str = name
        self.options: dict[str, Any] = dict(options)
        self.glances: int = glances
        module = convert(model)[0] if any(True for _ in model.parameters()) else copied(model)
        self.pure: PureModel = PureModel(module, "batch")
        self.params: dict[str, Tensor] = {n: p.detach().clone() for n, p in self.pure.module.named_parameters()}
        self.buffers: dict[str, Tensor] = {n: b.detach().clone() for n, b in self.pure.module.named_buffers()}
        self.seed: int = seed
        self.generator: torch.Generator = torch.Generator().manual_seed(seed)
        self.memory: Reservoir = Reservoir(memory, self.generator)
        self.kind: str | None = None  # "classification" or "regression", as the first examples tell
        self.input_shape: tuple[int, ...] | None = None
        self.outputs: int | None = None
        self.part: int | None = None  # the part of the stream that is being learned, where parts are told

    def restarted(
        self, *, memory: int | None = None, glances: int | None = None, seed: int | None = None
    ) -> OnlineLearner:
        """A copy, with other settings where they are given; what was learned before stays."""
        if memory and not self.has_memory:
            raise ConfigError(f"{self.name} keeps no examples, so memory expected nothing, got {memory}; leave it out")
        if memory == 0 and self.has_memory:
            raise ConfigError(
                f"memory expected at least 1 for {self.name}, got 0; for no memory use il.lifelong.online"
            )
        new = copy.copy(self)
        new.params = {n: p.detach().clone() for n, p in self.params.items()}
        new.buffers = {n: b.clone() for n, b in self.buffers.items()}
        new.generator = torch.Generator()
        new.generator.set_state(self.generator.get_state())
        if seed is not None:
            expect_whole("seed", seed, 0)
            new.seed = seed
            new.generator.manual_seed(seed)
        new.memory = Reservoir(self.memory.places, new.generator)
        new.memory.restore({n: v.clone() for n, v in self.memory.state().items()})
        if memory is not None and memory != self.memory.places:
            if len(new.memory):
                raise ConfigError(
                    f"memory expected {new.memory.places}, what the learner's holds already, got {memory}"
                )
            new.memory = Reservoir(memory, new.generator)
            new.options["memory"] = memory
        if glances is not None:
            expect_whole("glances", glances)
            new.glances = new.options["glances"] = glances
        new._own_copy()
        return new

    @property
    def ready(self) -> bool:
        """Whether it can predict yet."""
        return True

    def _own_copy(self) -> None:  # noqa: B027
        """Make what a subclass holds its own, after a shallow copy."""

    @abstractmethod
    def _learn(self, x: Tensor, y: Tensor) -> None:
        """Learn from checked examples, `glances` times. Tensors are replaced, not written into, so that they can be put back."""

    def begin_part(self, part: int) -> None:
        """Told by `il.learn_stream` before each part, for methods that heed where parts begin."""
        self.part = part

    def end_part(self) -> None:  # noqa: B027
        """Likewise after each part."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Learn from a batch of examples: x (examples, *input_shape), y (examples,) labels or (examples, outputs) values.

        Raises:
            InputError: a number that is not finite, labels that the model has no output for, no examples.
            ShapeError: shapes that do not fit, or are not those of before.
        """
        self.learn_checked(*self.checked(x, y))

    def learn_checked(self, x: Tensor, y: Tensor) -> None:
        """`learn`, from what `checked` gave."""
        params, own, drawn = dict(self.params), self._own_tensors(), self.generator.get_state()
        self._learn(x, y)
        if not all(bool(v.isfinite().all()) for v in (*self.params.values(), *self._own_tensors().values())):
            self.params = params
            self._restore_own(own)
            self.generator.set_state(drawn)
            raise InputError(
                f"{self.name}: weights are not finite after these examples; all is as before now. Choose a lower rate"
            )
        self._keep(x, y)

    def _keep(self, x: Tensor, y: Tensor) -> None:
        """Take in what was learned from, for later."""
        self.memory.add(x, y)

    def learn_one(self, x: Tensor, y: Tensor | int | float) -> None:
        """Learn from one example: x (*input_shape), y its label or values."""
        self.learn(torch.as_tensor(x)[None], torch.as_tensor(y)[None])

    def predict(self, x: Tensor) -> Tensor:
        """Outputs of the model, (examples, outputs): a score for each class, or values."""
        x = self._as_input(x)
        if self.input_shape is not None and tuple(x.shape[1:]) != self.input_shape:
            raise ShapeError(f"x expected (examples, {', '.join(map(str, self.input_shape))}), got {tuple(x.shape)}")
        with torch.no_grad():
            return torch.cat([self._outputs(x[a : a + _AT_ONCE]) for a in range(0, len(x), _AT_ONCE)])

    def predict_one(self, x: Tensor) -> int | Tensor:
        """The class number, or the values (outputs,), for one example."""
        output = self.predict(torch.as_tensor(x)[None])[0]
        return output if self.kind == "regression" else int(output.argmax())

    def _as_input(self, x: Tensor) -> Tensor:
        """Numbers, and bytes as numbers, in the model's type and place; other integers name things and stay."""
        x, like = torch.as_tensor(x), self._like()
        return x.to(like) if x.is_floating_point() or x.dtype == torch.uint8 else x.to(like.device)

    def _like(self) -> Tensor:
        return next(iter(self.params.values()), torch.zeros(()))

    def _outputs(self, x: Tensor, params: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.pure.apply(self.params if params is None else params, self.buffers, x)[0]

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of labels, or the mean squared error of values; the mean over examples."""
        return F.mse_loss(output, y) if y.is_floating_point() else F.cross_entropy(output, y)

    def gradient(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Of the loss by the parameters."""
        with torch.enable_grad():
            params = {n: p.detach().requires_grad_() for n, p in self.params.items()}
            grads = torch.autograd.grad(
                self.loss(self._outputs(x, params), y), list(params.values()), allow_unused=True
            )
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), grads, strict=True)}

    def checked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The examples as the model takes them; the first ones settle the kind and the shapes. Raises: see `learn`."""
        x, y, like = self._as_input(x), torch.as_tensor(y), self._like()
        if len(x) != len(y) or not len(x):
            raise ShapeError(
                f"expected as many targets as inputs, and at least one, got {len(x)} inputs, {len(y)} targets"
            )
        kind = "regression" if y.is_floating_point() else "classification"
        if kind == "regression" and not self.regression:
            raise InputError(f"{self.name} expected labels, got values; use another method for a regression")
        if self.kind not in (None, kind):
            raise InputError(
                f"{self.name} learned a {self.kind} before, got targets of a {kind}; use another learner for them"
            )
        y = (y[:, None] if y.ndim == 1 else y).to(like) if kind == "regression" else y.long().to(like.device)
        if kind == "classification" and y.ndim != 1:
            raise ShapeError(f"labels expected (examples,), got {tuple(y.shape)}")
        if self.input_shape not in (None, tuple(x.shape[1:])):
            raise ShapeError(f"x expected {self.input_shape} an example, as before, got {tuple(x.shape[1:])}")
        for what, value in (("x", x), ("y", y)):
            if value.is_floating_point() and not bool(value.isfinite().all()):
                row = int((~value.isfinite()).flatten(1).any(1).nonzero()[0]) if value.ndim > 1 else 0
                raise InputError(f"{what} of example {row} expected finite numbers, got NaN or infinity; leave it out")
        outputs = self.outputs if self.outputs is not None else self._sized(x)
        if kind == "classification":
            low, high = int(y.min()), int(y.max())
            if low < 0 or (outputs and high >= outputs):
                wrong = low if low < 0 else high
                raise InputError(
                    f"labels expected 0 to {outputs - 1}, the model's outputs, got {wrong}; use a wider last layer"
                )
        elif y.shape[1:] != (outputs,):
            raise ShapeError(f"y expected (examples, {outputs}), as the model predicts, got {tuple(y.shape)}")
        self.kind, self.input_shape, self.outputs = kind, tuple(x.shape[1:]), outputs
        return x, y

    def _sized(self, x: Tensor) -> int:
        """How many outputs the model has, found with these inputs."""
        try:
            with torch.no_grad():
                output = self._outputs(x[:1])
        except (RuntimeError, TypeError) as error:
            raise ShapeError(
                f"the model cannot take x of shape {tuple(x.shape)}: {str(error).splitlines()[0]}"
            ) from error
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise ShapeError(
                f"the model expected to give (examples, outputs), got {getattr(output, 'shape', type(output))}"
            )
        return output.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """All that was learned and kept: what `restore` goes on from, bit by bit."""
        groups = {
            "params": self.params,
            "buffers": self.buffers,
            "memory": self.memory.state(),
            "own": self._own_tensors(),
        }
        found = {f"{group}.{n}": v for group, values in groups.items() for n, v in values.items()}
        return {**found, "generator": self.generator.get_state()}

    def _own_tensors(self) -> dict[str, Tensor]:
        """What a subclass has beside the parameters and the memory."""
        return {}

    def _restore_own(self, tensors: Mapping[str, Tensor]) -> None:
        del tensors

    def about(self) -> dict[str, Any]:
        """What a file says of it."""
        shape = None if self.input_shape is None else list(self.input_shape)
        return {
            "method": self.name,
            "options": self.options,
            "kind": self.kind,
            "input_shape": shape,
            "outputs": self.outputs,
        }

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Go on from `tensors` and `about` of a learner that was made with the same model and settings.

        Raises:
            ConfigError: another method, other settings or another model.
        """
        same = {n: tuple(v.shape) for n, v in _group(tensors, "params").items()} == {
            n: tuple(p.shape) for n, p in self.params.items()
        }
        if about["method"] != self.name or about["options"] != self.options or not same:
            raise ConfigError(
                f"expected what {self.name} with {self.options} on this model learned, got {about['method']} with "
                f"{about['options']}; make the learner as it was made then"
            )
        self.params, self.buffers = _group(tensors, "params"), _group(tensors, "buffers")
        self.memory.restore(_group(tensors, "memory"))
        self.generator.set_state(tensors["generator"])
        self._restore_own(_group(tensors, "own"))
        shape = about["input_shape"]
        self.kind, self.outputs = about["kind"], about["outputs"]
        self.input_shape = None if shape is None else tuple(shape)

    def save(self, path: str | Path) -> None:
        """Write what was learned and kept to one safetensors file."""
        save_tensors(Path(path), KIND, VERSION, self.tensors(), self.about())

    def load(self, path: str | Path) -> None:
        """Go on from a file that `save` wrote; the model and the settings are this learner's. Raises: see `restore`."""
        self.restore(*load_tensors(Path(path), KIND, VERSION))

    def __repr__(self) -> str:
        numbers = sum(p.numel() for p in self.params.values())
        return f"{self.name} on {numbers} parameters, {self.memory.seen} examples seen, {len(self.memory)} kept"


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {n.partition(".")[2]: v.clone() for n, v in tensors.items() if n.partition(".")[0] == group}


def expect_rates(**rates: float) -> None:
    """Raise ConfigError where a rate is no finite number above 0."""
    for name, value in rates.items():
        expect_above_zero(name, value)
