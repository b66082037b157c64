"""Drawings of one kind, without labels: shown a few, make more. Characters of Omniglot, or pictures of your own by kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import nn

from innerloop.core import Task, TaskFamily
from innerloop.data.support_files import preprocessing_of
from innerloop.errors import ConfigError, InputError
from innerloop.objectives.denoising import Denoising
from innerloop.tasks.pictures.changes import Changes
from innerloop.tasks.pictures.few_shot import FewShotImages, NoTasks
from innerloop.tasks.pictures.glyphs import glyphs
from innerloop.tasks.pictures.omniglot import Split, omniglot
from innerloop.tasks.pictures.own import picture_family
from innerloop.tasks.precision import DtypeName

# The root mean square of Omniglot's pixels at 16 x 16, ink 1 and paper 0 (training characters, measured).
INK = 0.23
# Mean of ln(sigma / sigma_data) in training; the paper's is -.5, for larger pictures. Below it the strokes themselves say what
# the noise hid; above it, which kind of drawing it is has to be known (measured on validation characters).
LEVEL = 1.0


class Kinds(FewShotImages):
    """Tasks of one class each: support (tasks, shots, channels, height, width) and query, likewise, in [0, 1]; no labels."""

    least_ways = 1
    metrics: tuple[str, ...] = ("denoising",)

    def from_keys(self, keys: Int64[torch.Tensor, " tasks"]) -> Task:
        """The tasks of these keys."""
        labelled = super().from_keys(keys)
        return Task(labelled.support.x, labelled.query.x, self.objective, noise=labelled.noise)

    def default_model(self) -> nn.Module:
        """A small U-Net, with as many sizes as the pictures can be halved to."""
        from innerloop import models

        height, width = self.input_shape[1:]
        sizes = 2 if height % 4 == 0 and width % 4 == 0 else 1
        if height % 2 or width % 2 or sizes == 1:
            raise InputError(
                f"{self.name} expected pictures whose height and width are multiples of 4, got {height} x {width}; give "
                f"size={max(4, round(min(height, width) / 4) * 4)}"
            )
        assert isinstance(self.objective, Denoising)
        return models.denoising_unet(self.input_shape, sigma_data=self.objective.sigma_data)


def _of_kinds(source: FewShotImages, shots: int, queries: int, objective: Denoising, record: Any) -> Kinds:
    """The same pictures as tasks of one kind each."""
    found = Kinds.__new__(Kinds)
    vars(found).update(vars(source))
    return found.altered(ways=1, shots=shots, queries=queries, objective=objective, preprocessing=record)  # type: ignore[return-value]


def drawings(
    *,
    source: Literal["omniglot", "glyphs"] = "omniglot",
    folder: str | None = None,
    shots: int = 5,
    queries: int = 10,
    train_shots: int | None = None,
    train_queries: int | None = None,
    size: int = 16,
    split: Split = "background",
    valid_alphabets: int = 5,
    split_seed: int = 0,
    rotations: bool | None = None,
    changes: Changes = "none",
    sigma_data: float | None = None,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Pictures of one kind in each task: handwritten characters of 50 alphabets, or the kinds in a folder of yours.

    Args:
        source: "omniglot": handwritten, read from INNERLOOP_DATA/omniglot; "glyphs": printed, of many scripts, built in.
        folder: with one subfolder of pictures a kind (or in folders train, valid and test), in place of these.
        shots, queries: support and query pictures.
        train_shots, train_queries: those of training tasks, where they differ.
        size: height and width in pixels; a multiple of 4.
        split: which characters of Omniglot are for training, see `omniglot`; of a folder its own.
        valid_alphabets: of Omniglot, held out for validation.
        split_seed: of what is held out.
        rotations: training kinds turned by 90, 180 and 270 degrees are kinds of their own; None: for Omniglot, and drawings in a
            folder that are square.
        changes: of training pictures each time they are drawn: "none", "drawings" (shifts, turns, sizes) or "photos".
        sigma_data: root mean square of the pictures' values; None: .23 for Omniglot, else measured on training pictures.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (channels, size, size) in [0, 1]; of drawings 1 is ink and 0 the paper.

    Raises:
        InputError: absent or damaged files, or more pictures asked for than a kind has.
        ConfigError: an option out of range.
    """
    options = {name: value for name, value in locals().items() if (name, value) != ("source", "omniglot")}
    sizes = {
        "train": (train_shots or shots, train_queries or queries),
        "valid": (shots, queries),
        "test": (shots, queries),
    }
    least = {"ways": 2, "shots": 1, "queries": 1}
    found, record = _labelled(source, folder, least, options)
    spread = sigma_data
    if spread is None and found.name == "omniglot":
        spread = INK
    elif spread is None:
        options["sigma_data"] = spread = _spread(found.train)
    levels = Denoising.of_spread(spread)
    objective = dataclasses.replace(levels, p_mean=round(math.log(spread) + LEVEL, 6))
    made = {}
    for name in ("train", "valid", "test"):
        own = getattr(found, name)
        made[name] = own if isinstance(own, NoTasks) else _of_kinds(own, *sizes[name], objective, record)
        if isinstance(own, FewShotImages):
            made[name].name = "drawings"
    if isinstance(made["valid"], NoTasks):
        made["valid"] = NoTasks(made["train"])
    return TaskFamily("drawings", made["train"], made["valid"], made["test"], options)


def _labelled(
    source: str, folder: str | None, least: dict[str, int], options: dict[str, Any]
) -> tuple[TaskFamily, Mapping[str, Any]]:
    """(the same pictures as labelled tasks, how a user's files become such); ``options`` become such as make it again."""
    if source not in ("omniglot", "glyphs"):
        raise ConfigError(f"drawings: source expected 'omniglot' or 'glyphs', got {source!r}; or give folder=")
    size, dtype, rotations, changes = (options[name] for name in ("size", "dtype", "rotations", "changes"))
    if folder is not None:
        path = Path(folder).expanduser().resolve()
        options["folder"] = str(path)
        chosen = {"rotations": rotations, "changes": changes, "split_seed": options["split_seed"]}
        found = picture_family(path, **least, size=size, dtype=dtype, **chosen)
        return found, found.train.preprocessing or preprocessing_of(None)
    if source == "glyphs":
        fewest: dict[str, Any] = dict(least)
        return glyphs(**fewest, size=size, rotations=bool(rotations), dtype=dtype), preprocessing_of(None)
    if changes not in ("none", "drawings"):
        raise ConfigError(f"drawings: changes of omniglot expected 'none' or 'drawings', got {changes!r}; choose one")
    chosen = {name: options[name] for name in ("split", "split_seed", "valid_alphabets")}
    found = omniglot(
        **least,  # type: ignore[arg-type]
        **chosen,
        size=size,
        rotations=rotations is not False,
        changes=changes,
        dtype=dtype,
    )
    return found, preprocessing_of(None)


def _spread(pictures: Any) -> float:
    """The root mean square of the values of some training pictures, to two digits."""
    x = pictures.at(0, 0, 64).support.x
    return max(0.01, round(float(x.square().mean().sqrt()), 2))
