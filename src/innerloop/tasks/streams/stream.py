"""One long stream: parts that come one after another, each with examples to learn, in order, and others to be judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core import Examples
from innerloop.errors import InputError

KINDS = ("classification", "regression")


class Stream(ABC):
    """A stream for `il.learn_stream`. Parts are numbered from 0 in the order in which they come.

    Args:
        name: of the stream.
        parts: names of its parts.
        input_shape: of one example.
        output_size: classes, or targets of a regression.
        kind: "classification" or "regression".
        class_names: of labels 0, 1, ...; None: their numbers.
        valid: another stream of the same kind, to choose settings on; None: there is none.
        options: what it was made with.
    """

    def __init__(
        self,
        name: str,
        parts: tuple[str, ...],
        input_shape: tuple[int, ...],
        output_size: int,
        *,
        kind: str = "classification",
        class_names: tuple[str, ...] | None = None,
        valid: Stream | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not parts:
            raise InputError(f"{name}: a stream expected at least one part, got none")
        self.name: str = name
        self.parts: tuple[str, ...] = parts
        self.input_shape: tuple[int, ...] = input_shape
        self.output_size: int = output_size
        self.kind: str = kind
        self.class_names: tuple[str, ...] | None = class_names
        self.valid: Stream | None = valid
        self.options: dict[str, Any] = dict(options or {})

    @property
    def metric(self) -> str:
        """What a part is judged by: "accuracy", or "mse" for a regression."""
        return "accuracy" if self.kind == "classification" else "mse"

    def __len__(self) -> int:
        return len(self.parts)

    @abstractmethod
    def train(self, part: int) -> Examples:
        """What this part shows, in order: x (examples, *input_shape), y (examples,) labels or (examples, output_size)."""

    @abstractmethod
    def test(self, part: int) -> Examples:
        """What this part is judged on; none of it is shown."""

    def default_model(self) -> nn.Module:
        """Two hidden layers of 100 units, as in the papers on MNIST's streams (Lopez-Paz and Ranzato 2017)."""
        from innerloop import models

        return models.mlp(self.input_shape, self.output_size, hidden=(100, 100))

    def __repr__(self) -> str:
        return f"{self.name}: {len(self)} parts, {self.kind}, inputs {self.input_shape}, {self.output_size} outputs"


class HeldStream(Stream):
    """A stream whose examples are in memory.

    Args:
        shown, judged: an `Examples` for each part.
        Others: see `Stream`.
    """

    def __init__(
        self, name: str, parts: tuple[str, ...], shown: list[Examples], judged: list[Examples], **about: Any
    ) -> None:
        y = shown[0].y
        kind = about.pop("kind", "classification")
        super().__init__(name, parts, tuple(shown[0].x.shape[1:]), _outputs(shown, y, about), kind=kind, **about)
        self._shown, self._judged = shown, judged

    def train(self, part: int) -> Examples:
        return self._shown[part]

    def test(self, part: int) -> Examples:
        return self._judged[part]


def _outputs(shown: list[Examples], y: Tensor, about: dict[str, Any]) -> int:
    names = about.get("class_names")
    if names is not None:
        return len(names)
    return int(max(int(part.y.max()) for part in shown)) + 1 if not y.is_floating_point() else int(y.shape[1])


def as_floats(pictures: Tensor) -> Tensor:
    """Bytes of pictures as numbers in [0, 1]."""
    return pictures.to(torch.get_default_dtype()).div_(255)
