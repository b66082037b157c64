"""Inputs of none of a task's classes: how sure a prediction has to be, so that the rest is called unknown.

A threshold says nothing certain about one input: it is measured on tasks of the learner's own problem, with queries of classes
that those tasks lack (`innerloop.evaluation.calibration`), and travels with a task file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from innerloop.errors import CheckpointError

VERSION = 2
LEAST_AUROC = 0.75  # below it a threshold is not offered: what it calls unknown is too often known, or the reverse


def class_probabilities(out: Tensor, ways: int) -> Tensor:
    """Over the first ``ways`` classes, (..., ways), of outputs (..., outputs); one logit an example stands for two classes."""
    if out.ndim == 1 or out.shape[-1] == 1:
        positive = torch.sigmoid(out if out.ndim == 1 else out[..., 0])
        return torch.stack([1 - positive, positive], -1)
    return torch.softmax(out[..., :ways], -1)


def max_probability(out: Tensor, ways: int) -> Tensor:
    """The probability of the most probable class (Hendrycks and Gimpel 2017, arXiv:1610.02136)."""
    return class_probabilities(out.double(), ways).amax(-1)


def energy(out: Tensor, ways: int) -> Tensor:
    """The log of the summed exponentials of the logits, minus the free energy of Liu et al. (2020, arXiv:2010.03759)."""
    return out[..., :ways].double().logsumexp(-1)


SCORES: dict[str, Callable[[Tensor, int], Tensor]] = {"max_probability": max_probability, "energy": energy}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """What is taken for known, and how often that is right on validation tasks of the learner's problem.

    Attributes:
        score: a name of `SCORES`; large for what is known.
        value: inputs that score less are unknown.
        keep: the share of inputs of a task's classes that it was to keep.
        kept: the share that it kept of validation tasks that it was not calibrated on.
        false_accept: the share of inputs of other classes that it took for known there.
        auroc: of the score there: how often a known input scores higher than an unknown one.
        ways, shots: classes of those tasks, and support examples of each.
        num_tasks: how many tasks it was calibrated on, and measured on as many others.
        problem: whose tasks they are.
        ece: how far probabilities are off on all those tasks (`innerloop.evaluation.confidence`); None: not known.
    """

    score: str
    value: float
    keep: float
    kept: float
    false_accept: float
    auroc: float
    ways: int
    shots: int
    num_tasks: int
    problem: str
    ece: float | None = None

    @property
    def works(self) -> bool:
        """Whether the score tells unknown inputs from known ones well enough to be offered."""
        return self.auroc >= LEAST_AUROC

    def knows(self, out: Tensor, ways: int) -> Bool[Tensor, " inputs"]:
        """Which inputs score enough, by a model's outputs (inputs, outputs) for them; ``ways``: classes of the task."""
        return SCORES[self.score](out, ways) >= self.value

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` makes the record again."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Threshold:
        """The record that a file holds.

        Raises:
            CheckpointError: a newer version, an unknown score, or values that cannot be right.
        """
        try:
            found = dict(given)
            version = found.pop("version")
            if not isinstance(version, int) or version > VERSION:
                raise CheckpointError(f"expected a threshold of version {VERSION}, got {version!r}; upgrade innerloop")
            kinds = {
                field.name: {"int": int, "float": float, "str": str}[str(field.type).partition(" |")[0]]
                for field in dataclasses.fields(cls)
            }
            values: dict[str, Any] = {n: None if (n, v) == ("ece", None) else kinds[n](v) for n, v in found.items()}
            made = cls(**values)
            numbers = (made.value, made.keep, made.kept, made.false_accept, made.auroc, made.ece or 0.0)
            if made.score not in SCORES or not all(math.isfinite(number) for number in numbers):
                raise ValueError(f"score {made.score!r}")
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"the threshold for unknown inputs is damaged ({error}); adapt again for another file"
            ) from None
        return made


def cannot_tell(limit: Threshold) -> str:
    """One sentence on a threshold that does not work."""
    return (
        f"it cannot tell unknown inputs from known ones (AUROC {limit.auroc:.2f} on {limit.num_tasks} validation tasks of "
        f"{limit.problem!r}; from {LEAST_AUROC:g} on it is offered)"
    )
