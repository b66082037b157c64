"""Denoising: from a noisy example, what was it before? So the score of a density is learned, from examples without labels.

A side of a task is a tensor of examples, (examples, ...), and nothing else. ``apply(x, sigma)`` is the adapted denoiser.

Vincent 2011, "A connection between score matching and denoising autoencoders"; many noise levels at once: Song and Ermon 2019,
arXiv:1907.05600; the levels and their weights as Karras et al. 2022, arXiv:2206.00364.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys
from innerloop.core import Apply, Objective, Task
from innerloop.errors import ConfigError, InputError, ShapeError

NAME = "denoising"
_LEVELS, _NOISE = 1, 2  # salts


@dataclasses.dataclass(frozen=True)
class Denoising(Objective):
    """``mean of w(sigma) |D(x + sigma n; sigma) - x|^2`` over examples and their numbers, ``ln sigma ~ N(p_mean, p_std^2)``.

    ``w = (sigma^2 + s^2) / (sigma s)^2`` with s = ``sigma_data``: a denoiser that knows nothing but the spread of the data has a
    loss of about 1 at every level. The levels of one side are spread evenly over their distribution, one for each example, which
    makes the loss less noisy (our own; the paper draws each by itself).

    Attributes:
        sigma_data: standard deviation of the clean data.
        p_mean, p_std: of the logarithm of the noise levels.
        sigma_min, sigma_max: least and largest level when new examples are made or densities are asked for.
    """

    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    metrics: ClassVar[Mapping[str, bool]] = {NAME: False}

    def __post_init__(self) -> None:
        for name in ("sigma_data", "p_std", "sigma_min", "sigma_max"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} expected a finite number above 0, got {value!r}")
        if not math.isfinite(self.p_mean) or self.sigma_min >= self.sigma_max:
            raise ConfigError(
                f"expected a finite p_mean and sigma_min below sigma_max, got {self.p_mean}, {self.sigma_min}, {self.sigma_max}"
            )

    @classmethod
    def of_spread(cls, sigma_data: float) -> Denoising:
        """The paper's noise levels, which are for data of spread .5, in proportion for data of another."""
        by = sigma_data / cls.sigma_data
        return cls(sigma_data, cls.p_mean + round(math.log(by), 6), cls.p_std, cls.sigma_min * by, cls.sigma_max * by)

    @property
    def name(self) -> str:
        """ "denoising", followed by what differs from the defaults: all that makes it again."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        changed = {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}
        return NAME + (f" {json.dumps(changed, sort_keys=True)}" if changed else "")

    def check(self, task: Task) -> None:
        for what, side in (("support", task.support), ("query", task.query)):
            if not isinstance(side, Tensor) or not side.is_floating_point():
                got = f"{side.dtype} values" if isinstance(side, Tensor) else type(side).__name__
                raise InputError(
                    f"the {what} side expected one tensor of examples without labels, floating point, got {got}; give the "
                    "examples alone, as floats"
                )
            if side.ndim < 3:
                raise ShapeError(
                    f"the {what} side expected shape (tasks, examples, ...), got {tuple(side.shape)}; numbers need a last axis "
                    "(x[..., None])"
                )
        if task.support.shape[2:] != task.query.shape[2:]:
            raise ShapeError(
                f"support and query examples expected one shape, got {tuple(task.support.shape[2:])} and "
                f"{tuple(task.query.shape[2:])}"
            )
        flat = task.support.flatten(2)
        if task.support.ndim > 3 and bool((flat == flat[..., :1]).all(2).all(1).any()):
            raise InputError(
                "the support side expected pictures that show something, got only pictures of one value each; check how they "
                "were read (invert?), or leave the blank ones out"
            )

    def loss(self, apply: Apply, data: Float[Tensor, "examples ..."], key: Tensor | None) -> Float[Tensor, ""]:
        sigma = self.levels(data, key)
        return self.at_levels(apply, data, sigma, key).mean()

    def measure(self, apply: Apply, data: Float[Tensor, "examples ..."], key: Tensor | None) -> dict[str, Tensor]:
        return {NAME: self.loss(apply, data, key)}

    def levels(self, data: Tensor, key: Tensor | None) -> Float[Tensor, " examples"]:
        """A noise level for each example, spread evenly over their distribution."""
        number = data.shape[0]
        shift = keys.uniform(_expect_key(key), (number,), _LEVELS, data.dtype)
        places = (torch.arange(number, dtype=data.dtype, device=data.device) + shift) / number
        return torch.exp(self.p_mean + self.p_std * torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6)))

    def at_levels(
        self,
        apply: Apply,
        data: Float[Tensor, "examples ..."],
        sigma: Float[Tensor, " examples"],
        key: Tensor | None,
    ) -> Float[Tensor, " examples"]:
        """The loss of each example at its own noise level."""
        noise = keys.normal(_expect_key(key), data.shape, _NOISE, data.dtype)
        level = sigma.reshape(-1, *[1] * (data.ndim - 1))
        each = (apply(data + level * noise, sigma) - data).square().flatten(1).mean(1)
        return each * (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


def _expect_key(key: Tensor | None) -> Tensor:
    if key is None:
        raise ConfigError(
            "denoising draws its noise from the task's key, got none; give the task one: noise=il.keys..."
        )
    return key


def named(name: Any) -> Denoising | None:
    """The objective that a file names; None for another name.

    Raises:
        ConfigError: settings that are none.
    """
    if not isinstance(name, str) or name.partition(" ")[0] != NAME:
        return None
    try:
        return Denoising(**json.loads(name.partition(" ")[2] or "{}"))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"expected the settings of {NAME}, got {name[:80]!r}") from error
