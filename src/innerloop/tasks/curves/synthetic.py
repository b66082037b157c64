"""Curves that nobody measured: waves, steps, bends, trends and growth, for learners that are to continue any curve of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.table_support import support_scales
from innerloop.errors import InputError
from innerloop.tasks.precision import DtypeName
from innerloop.tasks.split_sizes import family_of_examples

_WAVES, _BREAKS, _GRID = 32, 4, 65
_KINDS = 7  # smooth, rough and periodic waves, steps, bends, a trend, growth
_REACH = 1.3  # queries go so far; support points lie between -1 and 1
_FARTHEST = 8.0  # support deviations from the support mean; what lies beyond is put there
(_MAIN, _BESIDE, _SIZE, _SHOTS, _LAYOUT, _PLACE, _ASKED, _LENGTH, _FREQUENCY, _PHASE, _WAVE, _PERIOD, _TONES, _BREAK,
 _STEP, _WIDTH, _BEND, _TREND, _GROWTH, _NOISE_SIZE, _NOISE, _GAP, _SALT_NOISE) = range(1, 24)  # fmt: skip


class SyntheticCurveTasks(TaskDistribution):
    """Tasks of noisy points on a curve that each task makes up; x and y (tasks, examples, 1). See `synthetic_curves`."""

    objective = "mse"
    metrics: tuple[str, ...] = ("mse",)
    input_shape: tuple[int, ...] = (1,)
    output_size = 1
    name = "synthetic_curves"
    scaled_by_support = True
    split: str
    shots: int | None
    queries: int | None
    fewest: int
    most: int
    noise: tuple[float, float]
    dtype: torch.dtype | None

    def __init__(
        self,
        *,
        split: str,
        shots: int | None,
        queries: int | None,
        fewest: int,
        most: int,
        noise: tuple[float, float],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.split, self.shots, self.queries = split, shots, queries
        self.fewest, self.most, self.noise, self.dtype = fewest, most, noise, dtype
        self.asked: int = 30 if queries is None else queries
        for what, count in (("shots", shots), ("queries", queries), ("fewest", fewest)):
            if count is not None and count < 1:
                raise InputError(f"synthetic_curves ({split}): {what} expected at least 1, got {count}; raise it")
        if shots is None and most < fewest:
            raise InputError(f"synthetic_curves ({split}): most expected at least {fewest}, got {most}; raise it")
        record = TablePreprocessing(
            columns=None,
            targets=(),
            classification=False,
            width=1,
            target_mean=(0.0,),
            target_std=(1.0,),
            scaling="support",
            center_target=True,
            curve=True,
        )
        # So that anybody's points may be the support of a new task.
        self.preprocessing: Mapping[str, Any] | None = record.to_dict()

    def resized(self, ways: int, shots: int, queries: int) -> SyntheticCurveTasks:
        """See `TaskDistribution.resized`."""
        del ways
        return SyntheticCurveTasks(
            split=self.split,
            shots=shots,
            queries=queries,
            fewest=self.fewest,
            most=self.most,
            noise=self.noise,
            dtype=self.dtype,
        )

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys."""
        rows = self.most if self.shots is None else self.shots
        shots = self._shots(keys)
        x = torch.cat([self._places(keys, rows, shots), self._asked(keys)], 1)
        y = self._values(keys, x)
        mask = torch.arange(rows, device=keys.device) < shots[:, None]
        (sx, qx), (sy, qy) = (_standard(v[:, :rows], v[:, rows:], mask) for v in (x, y))
        dtype = self.dtype or torch.get_default_dtype()
        shown = Examples(sx.to(dtype), sy.clamp(-_FARTHEST, _FARTHEST).to(dtype), None if self.shots else mask)
        asked = Examples(qx.to(dtype), qy.clamp(-_FARTHEST, _FARTHEST).to(dtype))
        return Task(shown, asked, self.objective, noise=random_keys.fold(keys, _SALT_NOISE))

    def _shots(self, keys: Tensor) -> Int64[Tensor, " tasks"]:
        """How many support points count: few as often as many, on a logarithmic scale."""
        if self.shots is not None:
            return torch.full_like(keys, self.shots)
        share = random_keys.uniform(keys, salt=_SHOTS, dtype=torch.float64)
        return (self.fewest * ((self.most + 1) / self.fewest) ** share).to(torch.int64).clamp(max=self.most)

    def _places(self, keys: Tensor, rows: int, shots: Tensor) -> Float64[Tensor, "tasks support"]:
        """Support points: at random, evenly spread, in the middle, or with a gap."""
        u = random_keys.uniform(keys, (rows,), _PLACE, torch.float64)
        even = (torch.arange(rows, device=keys.device) + u) / shots[:, None]
        width, middle = (random_keys.uniform(keys, (1,), salt, torch.float64) for salt in (_GAP, _LAYOUT))
        gap = torch.where(u < 0.5 * middle + 0.25, u, u + 0.6 * width) / (1 + 0.6 * width)
        kind = random_keys.integers(keys, 4, (1,), _LAYOUT)
        layouts = (u, even, 0.5 + 4 * (u - 0.5) ** 3, gap)
        found = sum(torch.where(kind == i, v, 0.0) for i, v in enumerate(layouts))
        assert isinstance(found, Tensor)
        return 2 * found - 1

    def _asked(self, keys: Tensor) -> Float64[Tensor, "tasks query"]:
        return _REACH * (2 * random_keys.uniform(keys, (self.asked,), _ASKED, torch.float64) - 1)

    def _values(self, keys: Tensor, x: Tensor) -> Float64[Tensor, "tasks points"]:
        """Noisy values of each task's curve at its points."""
        grid = torch.linspace(-1, 1, _GRID, dtype=torch.float64, device=x.device).expand(len(x), -1)
        parts = self._parts(keys, torch.cat([x, grid], 1))
        parts = _in_units_of(parts, parts[..., x.shape[1] :])
        main = torch.arange(_KINDS, device=x.device) == random_keys.integers(keys, _KINDS, (1,), _MAIN)
        beside = random_keys.uniform(keys, (_KINDS,), _BESIDE, torch.float64) < 0.15
        size = random_keys.uniform(keys, (_KINDS,), _SIZE, torch.float64)
        curve = (parts * (main + beside * size)[..., None]).sum(1)
        curve = _in_units_of(curve, curve[:, x.shape[1] :])[:, : x.shape[1]]
        return curve + _between(keys, self.noise, _NOISE_SIZE) * random_keys.normal(
            keys, x.shape[1:], _NOISE, torch.float64
        )

    def _parts(self, keys: Tensor, x: Tensor) -> Float64[Tensor, "tasks kinds points"]:
        """What a curve may be made of."""
        normal = random_keys.normal(keys, (_WAVES, 4), _FREQUENCY, torch.float64)
        length = _between(keys, (0.1, 2.0), _LENGTH)
        smooth = normal[..., 0] / length
        rough = smooth / (normal[..., 1:].square().sum(-1) / 3).sqrt()  # as for a Matern kernel of 3/2
        tone = 1 + torch.arange(_WAVES, device=x.device) % 4
        period = _between(keys, (0.3, 3.0), _PERIOD)
        pure = random_keys.uniform(keys, (1,), _TONES) < 0.5
        loud = random_keys.normal(keys, (_WAVES,), _WAVE, torch.float64) / tone * ((tone == 1) | ~pure)
        phase = 2 * math.pi * random_keys.uniform(keys, (_WAVES,), _PHASE, torch.float64)
        at = 2 * random_keys.uniform(keys, (_BREAKS,), _BREAK, torch.float64) - 1
        up = random_keys.normal(keys, (_BREAKS,), _STEP, torch.float64)
        up = up * (torch.arange(_BREAKS, device=x.device) <= random_keys.integers(keys, _BREAKS, (1,), _BEND))
        apart = x[..., None] - at[:, None]
        trend = random_keys.normal(keys, (2,), _TREND, torch.float64)
        rate = 3 * random_keys.normal(keys, (1,), _GROWTH, torch.float64).clamp(-2, 2)
        return torch.stack(
            [
                _waves(x, smooth, phase, torch.ones_like(smooth)),
                _waves(x, rough, phase, torch.ones_like(smooth)),
                _waves(x, 2 * math.pi * tone / period, phase, loud),
                (torch.tanh(apart / _between(keys, (0.003, 0.5), _WIDTH)[..., None]) * up[:, None]).sum(-1),
                (apart.clamp(min=0) * up[:, None]).sum(-1) + trend[:, :1] * x,
                trend[:, :1] * x + trend[:, 1:] * x.square(),
                torch.exp(rate * x),
            ],
            1,
        )

    def default_model(self) -> nn.Module:
        """The sine's network, 1-40-40-1 with ReLU."""
        from innerloop import models

        return models.mlp(1, 1)


def _waves(x: Tensor, frequency: Tensor, phase: Tensor, size: Tensor) -> Float64[Tensor, "tasks points"]:
    """Sums and not a matrix product: the same to the last bit whatever the number of tasks."""
    return (size[:, None] * torch.cos(frequency[:, None] * x[..., None] + phase[:, None])).sum(-1)


def _between(keys: Tensor, limits: tuple[float, float], salt: int) -> Float64[Tensor, "tasks one"]:
    """One number a task, evenly spread on a logarithmic scale."""
    low, high = limits
    return low * (high / low) ** random_keys.uniform(keys, (1,), salt, torch.float64)


def _in_units_of(values: Tensor, whole: Tensor) -> Tensor:
    """Values less the mean and divided by the deviation of ``whole``, along the last axis."""
    middle = whole.mean(-1, keepdim=True)
    spread = (whole - middle).square().mean(-1, keepdim=True).sqrt()
    return (values - middle) / spread.clamp(min=1e-6)


def _standard(support: Tensor, query: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides, (tasks, examples, 1), in the support set's mean and deviation; padding at 0."""
    scales = support_scales(support[..., None], mask)
    shown = ((support[..., None] - scales.mean[:, None]) / scales.std[:, None]) * mask[..., None]
    return shown, (query[..., None] - scales.mean[:, None]) / scales.std[:, None]


def synthetic_curves(
    *,
    shots: int | None = None,
    queries: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    fewest: int = 3,
    most: int = 40,
    noise: tuple[float, float] = (0.005, 1.0),
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Regression on made-up curves of one input, a new one for each task, so that there is no end of them.

    Each task draws what its curve is made of: smooth or rough waves, a period (a sine or one with overtones), up to four steps or
    bends, a parabola, growth or decay; mostly one of them, at times a little of others beside it. Support points lie at
    random, evenly, in the middle or with a gap; queries go 30 % beyond them on either side. Inputs and targets are in units of
    the support set: less its mean, divided by its deviation. A learner that was trained on it takes anybody's points as the
    support of a new task, whatever their units.

    A prior in the spirit of Mueller et al. 2022, arXiv:2112.10510, over more than Gaussian processes. The splits differ in
    their keys.

    Args:
        shots, queries: points of the support and of the query set. None: ``fewest`` to ``most`` support points, few as often as
            many, with masks; 30 queries.
        train_shots, train_queries: those of training tasks, where they differ.
        fewest, most: of support points, where their number is random.
        noise: (low, high) of the standard deviation of what is added to each point, in units of the curve's own; evenly spread
            on a logarithmic scale.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: no points, or a noise that is not two numbers above 0, low then high.
    """
    if len(noise) != 2 or not 0 < noise[0] <= noise[1] < math.inf:
        raise InputError(
            f"synthetic_curves: noise expected two numbers above 0, low then high, got {noise!r}; change it"
        )
    low, high = map(float, noise)
    shared: dict[str, Any] = {"fewest": fewest, "most": most, "noise": (low, high)}
    return family_of_examples(
        "synthetic_curves", SyntheticCurveTasks, shared, (shots, queries), (train_shots, train_queries), dtype
    )
