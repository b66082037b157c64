"""A score model adapted to a few examples: it makes more of them, and says how likely others are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys
from innerloop.core import Apply, Examples, Objective, Task
from innerloop.data.support_files import is_path, read_inputs
from innerloop.errors import ConfigError, DivergedError, InputError, ShapeError, expect_whole
from innerloop.functional.probability_flow import flow_log_density, guided, heun, log_density_bound
from innerloop.meta_learner.boundary import as_tensor, check_finite
from innerloop.meta_learner.files import write_task
from innerloop.meta_learner.fitted_data import FittedData, adapted_data
from innerloop.objectives.denoising import Denoising

_EXACT = 2  # so many numbers in an example, and its density is found by the flow
_TOGETHER = 256  # examples that go through the denoiser at once


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedScore(FittedData):
    """What `MetaLearner.adapt` returns for examples without labels: `sample`, `log_density`, `save`."""

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.support.shape[1:]))
        return f"Fitted({self.owner.name}, examples of {shape}; {self.num_examples} support examples)"

    @property
    def levels(self) -> Denoising:
        """The noise levels that it was trained on, and the spread of its data."""
        assert isinstance(self.objective, Denoising)
        return self.objective

    @property
    def exact(self) -> bool:
        """Whether `log_density` is the density itself (one or two numbers in an example), and no bound."""
        return self.support[0].numel() <= _EXACT

    def sample(
        self, n: int = 1, *, seed: int = 0, steps: int = 50, guidance: float = 0.0
    ) -> Float[Tensor, "examples ..."]:
        """New examples, shape (n, ...), as the support set's are.

        The probability flow by Heun's method (Karras et al. 2022). The same seed gives the same examples, and the first of many
        are those of few.

        Args:
            n: how many.
            seed: of the noise that they begin as.
            steps: noise levels; the denoiser is called ``2 steps - 1`` times.
            guidance: how far to go beyond what the support set says, away from what the learner would make without it
                (classifier-free guidance); 0: not at all.

        Raises:
            ConfigError: numbers out of range.
            DivergedError: values that are not finite.
        """
        expect_whole("n", n)
        expect_whole("steps", steps)
        if not guidance >= 0 or guidance == float("inf"):
            raise ConfigError(f"guidance expected a finite number of at least 0, got {guidance}")
        denoiser = self.denoiser()
        if guidance:
            denoiser = guided(denoiser, self.denoiser(adapted=False), guidance)
        shape = (n, *self.support.shape[1:])
        start = keys.normal(keys.task_keys(seed, "sample", 0, 0, 1)[0], shape, 0, self.support.dtype)
        start = start.to(self.support.device)
        made = self._in_parts(
            lambda part: heun(denoiser, part, steps, self.levels.sigma_min, self.levels.sigma_max), start
        )
        return _finite(made, "the new examples")

    def log_density(self, x: Any, *, seed: int = 0, steps: int | None = None, adapted: bool = True) -> Any:
        """How likely examples are, in nats, (examples,); numpy in, numpy out.

        For examples of one or two numbers the log density itself, by the probability flow, at the least noise level. For all
        others a lower bound (`functional.probability_flow.log_density_bound`), an estimate whose noise depends on the seed
        alone: compare tasks, or examples, under one seed.

        Args:
            x: (examples, ...) as the support set's.
            seed: of the bound's noise; the exact density has none.
            steps: of the flow (None: 64) or noise levels of the bound (None: 128).
            adapted: False: by the learner as it is without the support set.

        Raises:
            InputError, ShapeError: none, values that are not finite, or another shape.
            DivergedError: values that are not finite.
        """
        given = examples_of(x, self.support.shape[1:], None, "x").to(self.support)
        steps = (64 if self.exact else 128) if steps is None else steps
        expect_whole("steps", steps)
        levels, denoiser = self.levels, self.denoiser(adapted)
        key = keys.task_keys(seed, "density", 0, 0, 1)[0].to(given.device)

        def judged(part: Tensor) -> Tensor:
            if self.exact:
                flat = part.flatten(1)
                return flow_log_density(
                    lambda z, sigma: denoiser(z.reshape(-1, *part.shape[1:]), sigma).flatten(1),
                    flat,
                    steps,
                    levels.sigma_min,
                    levels.sigma_max,
                    levels.sigma_data,
                )
            return log_density_bound(denoiser, part, key, steps, levels.sigma_min, levels.sigma_max)

        found = _finite(self._in_parts(judged, given), "the log densities")
        return found if isinstance(x, Tensor) else found.cpu().numpy()

    def loss_at(self, x: Any, sigma: float, *, seed: int = 0, adapted: bool = True) -> Float[Tensor, " examples"]:
        """The weighted denoising loss of each example at one noise level; ``adapted=False``: without the support set."""
        given = examples_of(x, self.support.shape[1:], None, "x").to(self.support)
        key = keys.task_keys(seed, "level", 0, 0, 1)[0].to(given.device)
        with torch.no_grad():
            return self.levels.at_levels(self.denoiser(adapted), given, given.new_full((len(given),), sigma), key)

    def learn(self, data: Any, y: None = None, steps: int | None = None) -> FittedScore:
        """This task with more examples: adapted again to all of them; see `FittedData.learn`."""
        data = examples_of(data, self.support.shape[1:], self.preprocessing or self.owner.preprocessing, "learn's data")
        return _score_of(super().learn(data, y, steps))

    def save(self, path: str | Path, support: bool = False) -> Path:  # type: ignore[override]
        """Write one self-contained file (safetensors and JSON, no pickle); `il.load` opens it.

        Args:
            path: where.
            support: keep the support examples, for `learn`. A learner that looks at them (``adapt="set"``) always keeps them.

        Raises:
            InputError: ``support`` for a task that was opened from a file without it.
        """
        if support and not self.holds_support:
            raise InputError("save expected a task with its support set, got one from a file without; adapt again")
        owner = self.owner
        described = Examples(self.support, torch.zeros(len(self.support), dtype=torch.int64))
        header = {
            "algorithm": owner.method_spec,
            **({"meta_gradient": owner.meta_gradient_spec} if owner.meta_gradient_spec else {}),
            "model": owner.model_record,
            "objective": self.levels.name,
            "classes": None,
            "task_objective": None,
            "preprocessing": self.preprocessing or owner.preprocessing,
            "input_shape": list(self.support.shape[1:]),
            "mixes_examples": owner.mixes_examples,
            "needs_loop": list(owner.engine.needs_loop),
            "written": list(owner.pure.written),
            "dtype": str(owner.dtype),
        }
        write_task(
            Path(path),
            fast=self.fast,
            meta=self.meta,
            module=owner.model,
            support=described,
            num_examples=self.num_examples or 0,
            keeps_inputs=support,
            keeps_targets=support,
            header=header,
        )
        return Path(path)

    def unconditional(self) -> FittedScore:
        """The learner as it is without the support set: what all tasks together are like."""
        return dataclasses.replace(self, fast=self._unadapted())

    def denoiser(self, adapted: bool = True) -> Apply:
        """``D(x, sigma)`` that has seen the support set, or the one before it has."""
        return self.learner.as_model(self.meta, self.fast if adapted else self._unadapted())

    def _unadapted(self) -> Any:
        task = Task(self.support, self.support, self.objective, noise=torch.tensor(0, device=self.support.device))
        return self.learner.init(self.meta, task)

    def _in_parts(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([function(part) for part in x.split(_TOGETHER)])


def adapted_without_labels(owner: Any, x: Any, objective: Objective, steps: int, shared: Any = None) -> FittedData:
    """A learner adapted to data that their objective alone knows; where that is denoising, to a few examples.

    Args:
        owner: the learner.
        x: one side of a task; for denoising a tensor, an array, a list of such, or paths of pictures.
        objective: the task's.
        steps: inner steps.
        shared: what tasks share.

    Raises:
        InputError, ShapeError: see `examples_of`; pictures that show nothing.
        DivergedError: what was adapted is not finite.
    """
    if not isinstance(objective, Denoising):
        return adapted_data(owner, x, None, objective, steps, shared)
    side = examples_of(x, owner.input_shape, owner.preprocessing, "the examples")
    return _score_of(adapted_data(owner, side, None, objective, steps))


def _score_of(found: FittedData) -> FittedScore:
    return FittedScore(**{field.name: getattr(found, field.name) for field in dataclasses.fields(FittedData)})


def examples_of(given: Any, shape: tuple[int, ...] | None, preprocessing: Any, name: str) -> Tensor:
    """Examples without labels as one tensor, from a tensor, an array, a list of such, or paths of pictures.

    Args:
        given: the examples.
        shape: of one; None: not known.
        preprocessing: how files become such.
        name: in messages.

    Raises:
        InputError: none, or values that are not finite.
        ShapeError: examples of several shapes, or of another than ``shape``.
    """
    if is_path(given):
        given = read_inputs(given, shape, preprocessing).images
    if isinstance(given, list | tuple) and given and not isinstance(given[0], int | float):
        each = [as_tensor(one, name) for one in given]
        sizes = list(dict.fromkeys(tuple(one.shape) for one in each))
        if len(sizes) > 1:
            raise ShapeError(
                f"{name} expected examples of one size, got {sizes[0]} and {sizes[1]}; resize them, or give the folder that the "
                "pictures are in"
            )
        given = torch.stack(each)
    found = as_tensor(given, name)
    if found.ndim < 2 or not found.is_floating_point():
        raise ShapeError(
            f"{name} expected floating-point examples (examples, ...), got {found.dtype} of shape {tuple(found.shape)}"
        )
    if not len(found):
        raise InputError(f"{name} expected at least one example, got none; give one or more")
    if shape is not None and tuple(found.shape[1:]) != tuple(shape):
        raise ShapeError(
            f"{name} expected examples of shape {tuple(shape)}, as this learner was trained on, got {tuple(found.shape[1:])}; "
            "resize them"
        )
    check_finite(found, name)
    return found


def _finite(found: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(found).all()):
        raise DivergedError(
            f"{what} are not finite; adapt with fewer steps or a lower inner rate, or use less guidance"
        )
    return found
