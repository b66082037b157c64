"""What update rules that are themselves learned have in common: they know how long the run is, and their state can be parted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import UpdateRule

_LARGEST = 1e6  # of what a rule is shown of a gradient: beyond it a run has diverged, and training the rule must go on
USUAL_STEPS = 100  # where nobody says how long a run is


class LearnedRule(UpdateRule):
    """An update rule whose parameters are learned over training runs.

    A state is a dictionary: "steps", the length of the run (), and what the rule keeps of each parameter (see `parted`).
    """

    coordinate_wise: bool  # it fits any network; else it has rows for tensors of given shapes, in order

    @abstractmethod
    def begin(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        """The state before the first step of a run of so many ``steps``, ()."""

    def init(self, meta: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> dict[str, Any]:
        like = next(iter(params.values()))
        return self.begin(meta, params, torch.full((), USUAL_STEPS, dtype=torch.int64, device=like.device))

    @abstractmethod
    def parted(self, state: Mapping[str, Any], params: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """What a state holds of each parameter: {parameter: {kind: tensor}}."""

    @abstractmethod
    def joined(self, parts: Mapping[str, Mapping[str, Tensor]], steps: Tensor) -> dict[str, Any]:
        """The state of which these are the parts."""


def sane(grads: Mapping[str, Tensor], names: Mapping[str, Any]) -> dict[str, Tensor]:
    """Gradients without NaN or infinity, in the order of ``names``: what a run that diverges shows a rule in its training."""
    return {n: torch.nan_to_num(grads[n], 0.0, _LARGEST, -_LARGEST).clamp(-_LARGEST, _LARGEST) for n in names}


def progress(state: Mapping[str, Any], step: int | Tensor, like: Tensor) -> Float[Tensor, ""]:
    """How far a run is at step number ``step``, from 0 to 1; a run that goes on beyond its end stays there."""
    done = step.to(like.dtype) if isinstance(step, Tensor) else torch.full_like(like.reshape(-1)[0], float(step))
    return (done / (state["steps"].to(like.dtype) - 1).clamp(min=1)).clamp(max=1.0)


class CoordinateRule(LearnedRule):
    """A rule that treats every number of a network alike: what it keeps are tensors (numbers, ...), a row for each number."""

    coordinate_wise = True

    def parted(self, state: Mapping[str, Any], params: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        sizes = [p.numel() for p in params.values()]
        kinds = {kind: value.split(sizes) for kind, value in state.items() if kind != "steps"}
        return {name: {kind: pieces[i] for kind, pieces in kinds.items()} for i, name in enumerate(params)}

    def joined(self, parts: Mapping[str, Mapping[str, Tensor]], steps: Tensor) -> dict[str, Any]:
        kinds = next(iter(parts.values()))
        return {"steps": steps, **{kind: torch.cat([part[kind] for part in parts.values()]) for kind in kinds}}


def in_a_row(values: Mapping[str, Tensor]) -> Float[Tensor, " numbers"]:
    """All numbers of some tensors, one after the other."""
    return torch.cat([value.reshape(-1) for value in values.values()])


def as_tensors(row: Float[Tensor, " numbers"], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are ``in_a_row``, in these shapes."""
    pieces = row.split([p.numel() for p in like.values()])
    return {name: piece.reshape(p.shape) for (name, p), piece in zip(like.items(), pieces, strict=True)}
