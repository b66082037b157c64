"""A bounded memory of a stream: each example that was seen is in it with the same probability."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from innerloop.errors import expect_whole


class Reservoir:
    """Reservoir sampling (Vitter 1985): the n-th example takes a random one of n places, and is kept if the memory has it.

    Args:
        places: how many examples it holds; 0: none.
        generator: what places and draws come from.
    """

    def __init__(self, places: int, generator: torch.Generator) -> None:
        expect_whole("memory", places, 0)
        self.places: int = places
        self.seen: int = 0
        self.x: Tensor | None = None
        self.y: Tensor | None = None
        self._generator = generator

    def __len__(self) -> int:
        return min(self.seen, self.places)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in examples in their order."""
        if self.places and (self.x is None or self.y is None):
            self.x, self.y = (v.new_zeros((self.places, *v.shape[1:])) for v in (x, y))
        for one, of in zip(x, y, strict=True):
            self.seen += 1
            place = self.seen - 1
            if self.seen > self.places:
                place = int(torch.randint(self.seen, (), generator=self._generator))
            if place < self.places:
                self.x[place], self.y[place] = one, of  # type: ignore[index]

    def draw(self, count: int) -> tuple[Tensor, Tensor] | None:
        """At most so many different ones, at random; None where there are none."""
        if not len(self) or not count or self.x is None or self.y is None:
            return None
        rows = torch.randperm(len(self), generator=self._generator)[:count].to(self.x.device)
        return self.x[rows], self.y[rows]

    def state(self) -> dict[str, Tensor]:
        found = {"seen": torch.tensor(self.seen)}
        return found if self.x is None or self.y is None else {**found, "x": self.x, "y": self.y}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.seen = int(state["seen"])
        self.x, self.y = state.get("x"), state.get("y")
