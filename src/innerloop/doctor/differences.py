"""Central finite differences of a scalar function of named parameters, along chosen directions.

A network with kinks (ReLU, max-pooling) makes this harder than it looks: the outer loss after gradient steps JUMPS where a
support activation changes sign, because the inner gradient does. A step that crosses no kink has to be found, between rounding
below and kinks above; so several are tried and the best agreement counts. A wrong gradient agrees at none of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

Values = Mapping[str, Tensor]
# Of a direction of length 1: first one that suits most models, then those that many kinks ask for, then coarse ones.
_STEPS = (1e-6, 1e-7, 1e-8, 1e-5, 1e-9, 1e-4, 1e-3)
_UNMEASURABLE = 1e-8  # a slope this small beside the loss drowns in rounding


@dataclasses.dataclass(frozen=True)
class Slope:
    """One direction.

    Attributes:
        claimed: the gradient's own slope along it.
        measured: the finite difference that agrees best.
        step: the step size of that one.
        error: their difference, relative to the slope that the gradient has along such a direction typically.
    """

    claimed: float
    measured: float
    step: float
    error: float


class Differences:
    """Holds a gradient against finite differences of the function that it is claimed to be the gradient of.

    Args:
        function: the scalar as a function of all values; deterministic, float64.
        values: where, by name.
        gradient: the claim, by the same names.
        tolerance: an agreement ten times better than this ends the search for a better step.
        fixed: names that directions leave alone.
        generator: for the random parts of directions.
    """

    def __init__(
        self,
        function: Callable[[Values], float],
        values: Values,
        gradient: Values,
        tolerance: float,
        fixed: Collection[str],
        generator: torch.Generator,
    ) -> None:
        self.function = function
        self.values: dict[str, Tensor] = dict(values)
        self.gradient = gradient
        self.tolerance = tolerance
        self.free: list[str] = [name for name in values if name not in fixed and values[name].numel()]
        self.generator = generator
        self._first = _STEPS[0]

    def along_all(self) -> Slope:
        """Along a random direction over all free parameters."""
        return self._slope(self.free)

    def along(self, name: str) -> Slope:
        """Along a random direction of one parameter tensor."""
        return self._slope([name])

    def _slope(self, names: list[str]) -> Slope:
        direction = self._direction(names)
        claimed = float(sum((self.gradient[n] * v).sum() for n, v in direction.items()))
        length = float(sum(self.gradient[n].square().sum() for n in names)) ** 0.5
        usual = 0.1 * length / max(2 * len(names), 1) ** 0.5
        best: Slope | None = None
        for step in (self._first, *(s for s in _STEPS if s != self._first)):
            up, down = self._moved(direction, step), self._moved(direction, -step)
            measured = (up - down) / (2 * step)
            scale = max(abs(claimed), abs(measured), usual, _UNMEASURABLE * max(abs(up), abs(down)), 1e-300)
            error = abs(measured - claimed) / scale
            error = error if math.isfinite(error) else math.inf
            if best is None or error < best.error:
                best = Slope(claimed, measured, step, error)
            if best.error <= self.tolerance / 10:
                break
        assert best is not None
        if best.error <= self.tolerance:
            self._first = best.step  # the next direction will most likely want the same
        return best

    def _direction(self, names: list[str]) -> dict[str, Tensor]:
        """Length 1; in each tensor half the gradient's own direction and half a random one, with a random sign.

        Purely random directions are nearly orthogonal to the gradient when there are many parameters: the slope would be lost
        in rounding, and so would any error of the gradient's size.
        """
        parts = {}
        for name in names:
            like, own = self.values[name], self.gradient[name]
            noise = torch.randn(like.shape, generator=self.generator, dtype=torch.float64).to(like.device)
            sign = 1.0 if float(torch.rand((), generator=self.generator)) < 0.5 else -1.0
            size = own.norm()
            if float((noise * own).sum()) < 0:
                noise = -noise  # else the halves of a one-element tensor could cancel, and nothing would move
            parts[name] = sign * (noise / noise.norm() + (own / size if size > 0 else 0.0))
        length = float(sum(v.square().sum() for v in parts.values())) ** 0.5
        return {name: v / length for name, v in parts.items()}

    def _moved(self, direction: Values, by: float) -> float:
        return self.function({**self.values, **{n: self.values[n] + by * v for n, v in direction.items()}})
