"""What an architecture search has found: one operation for each choice of a supernet, in words, in a file, as a fresh network."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from innerloop import models
from innerloop.errors import CheckpointError, ConfigError, nearest
from innerloop.models.cells import NO_EDGE, MixedOp, Probabilities, mixed_operations
from innerloop.storage import write_atomically

_FORMAT, _VERSION = "innerloop architecture", 1
_LARGEST = 1 << 22  # bytes of a file


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A discrete architecture of a supernet: what `il.darts` returns.

    Attributes:
        operations: of each mixed operation, by name, the operation that was chosen.
        shares: what it was chosen by: the softmax of each mixed operation's ``alpha``; empty where nothing was learned.
        supernet: name and arguments of a supernet of `il.models`; None: of somebody's own.
        steps: of the search.
        loss: mean validation loss of the last tenth of the steps that moved the choices; None: no search.
        settings: of the search, by name.
        history: at some steps, {"step", "train_loss", "valid_loss", "skips"}; no validation loss before choices move.
    """

    operations: Mapping[str, str]
    shares: Probabilities = dataclasses.field(default_factory=dict)
    supernet: Mapping[str, Any] | None = None
    steps: int = 0
    loss: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    _own: nn.Module | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def skips(self) -> int:
        """How many skip connections were chosen: a search that collapses chooses little else."""
        return sum(name == "skip" for name in self.operations.values())

    @property
    def cell(self) -> str | None:
        """The cell as `il.models.cell_net` reads it; None for a supernet that is no space of cells."""
        known = self._known_supernet()
        return known.cell(self.operations) if hasattr(known, "cell") else None  # type: ignore[union-attr, operator]

    def model(self, supernet: nn.Module | None = None) -> nn.Module:
        """A fresh network of this architecture, with random weights.

        For a space of cells an `il.models.cell_net`. Of another supernet a copy in which each `il.models.MixedOp` has given way
        to the operation that was chosen, and every layer that has ``reset_parameters`` has drawn its weights anew.

        Args:
            supernet: of somebody's own, made as the one that was searched; needed where the architecture comes from a file.

        Raises:
            ConfigError: a supernet that is needed, or one with other choices.
        """
        given = supernet if supernet is not None else self._known_supernet() or self._own
        if given is None:
            raise ConfigError(
                "expected the supernet that was searched, got none, and its file does not hold somebody's own module; give "
                "arch.model(MySupernet())"
            )
        mixed = self._expect_fits(given)
        if callable(getattr(given, "discrete", None)):
            return given.discrete(dict(self.operations))  # type: ignore[operator]
        made = copy.deepcopy(given)
        mixed = mixed_operations(made)
        chosen = {id(layer): self.operations[name] for name, layers in mixed.items() for layer in layers}
        _replace(made, chosen)
        for layer in made.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        return made

    def _known_supernet(self) -> nn.Module | None:
        if self.supernet is None:
            return None
        return models.build(str(self.supernet["name"]), self.supernet["arguments"])

    def _expect_fits(self, supernet: nn.Module) -> dict[str, list[MixedOp]]:
        mixed = mixed_operations(supernet)
        if set(mixed) != set(self.operations):
            raise ConfigError(
                f"expected a supernet with the choices {', '.join(self.operations)}, got one with "
                f"{', '.join(mixed) or 'none'}; make it as the one that was searched"
            )
        for name, chosen in self.operations.items():
            known = mixed[name][0].operations
            # That no edge is there needs no operation of that name: a cell leaves out edges by itself.
            if chosen not in known and not (chosen == NO_EDGE and hasattr(supernet, "discrete")):
                raise ConfigError(f"{name} has no operation {chosen!r}: {nearest(chosen, known)}")
        return mixed

    def save(self, path: str | Path) -> Path:
        """Write it to a JSON file, which `Architecture.load` opens; nothing in it is code."""
        path = Path(path)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.name.startswith("_")}
        record = {"format": _FORMAT, "version": _VERSION, **fields}
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Open a file that `save` wrote.

        Raises:
            CheckpointError: nothing there, damaged, of another kind or of a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path} expected an architecture's file, found none")
        try:
            with path.open("rb") as file:
                record = json.loads(file.read(_LARGEST))
            if not isinstance(record, dict) or record.pop("format", None) != _FORMAT:
                raise CheckpointError(f"{path} expected an architecture's file, got another; give one of arch.save")
            if int(record.pop("version")) > _VERSION:
                raise CheckpointError(
                    f"{path} expected version {_VERSION} or older, got a newer one; upgrade innerloop"
                )
            operations = {str(name): str(chosen) for name, chosen in record.pop("operations").items()}
            shares = {
                str(name): {str(what): float(share) for what, share in own.items()}
                for name, own in record.pop("shares").items()
            }
            history = tuple({str(k): float(v) for k, v in row.items()} for row in record.pop("history"))
            supernet = record.pop("supernet")
            if supernet is not None:
                supernet = {"name": str(supernet["name"]), "arguments": dict(supernet["arguments"])}
            found = cls(operations=operations, shares=shares, supernet=supernet, history=history, **record)
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{path} is damaged: it is no architecture as it was written; copy or make it again"
            ) from None
        return found

    def __str__(self) -> str:
        number = len(self.operations)
        lines = [f"architecture of {number} choice{'s' if number > 1 else ''}, {self.skips} of them skip connections"]
        if self.loss is not None:
            lines[0] += f", after {self.steps} steps (validation loss {self.loss:.4g})"
        cell = self.cell
        if cell is not None:
            lines.append(f"cell: {cell}")
        for name, chosen in self.operations.items():
            share = self.shares.get(name, {}).get(chosen)
            lines.append(f"  {name}: {chosen}" + ("" if share is None else f" ({share:.2f})"))
        return "\n".join(lines)


def random_architecture(supernet: nn.Module, seed: int = 0) -> Architecture:
    """An architecture drawn at random: what a search has to beat.

    A supernet's own ``draw(generator)`` says how, as a space of cells does: two edges into each node, each of any operation
    but "zero". Others draw each choice by itself, all operations equally likely.

    Args:
        supernet: with mixed operations.
        seed: of the draw.
    """
    mixed = expect_choices(supernet)
    generator = torch.Generator().manual_seed(seed)
    if callable(getattr(supernet, "draw", None)):
        drawn = supernet.draw(generator)  # type: ignore[operator]
    else:
        drawn = {
            name: list(layers[0].operations)[int(torch.randint(len(layers[0].operations), (), generator=generator))]
            for name, layers in mixed.items()
        }
    return architecture_of(supernet, drawn)


def architecture_of(supernet: nn.Module, operations: Mapping[str, str], **found: Any) -> Architecture:
    """These operations of this supernet, with what is known of how they were ``found``."""
    known = models.describe(supernet)
    return Architecture(
        operations=dict(operations), supernet=known, _own=None if known else copy.deepcopy(supernet), **found
    )


def expect_choices(supernet: nn.Module) -> dict[str, list[MixedOp]]:
    """The mixed operations of a supernet.

    Raises:
        ConfigError: no module, or none in it.
    """
    if not isinstance(supernet, nn.Module):
        raise ConfigError(
            f"expected a supernet, a torch.nn.Module with il.models.MixedOp in it, got {type(supernet).__name__}; try "
            "il.models.cell_supernet(1, 10)"
        )
    mixed = mixed_operations(supernet)
    if not mixed:
        raise ConfigError(
            f"expected a supernet with at least one il.models.MixedOp, got a {type(supernet).__name__} without any; put one "
            "where an operation is to be chosen"
        )
    return mixed


def chosen_by(supernet: nn.Module, shares: Probabilities) -> dict[str, str]:
    """The operation of each choice: by the supernet's own ``choose(shares)``, else the one with the largest share."""
    if callable(getattr(supernet, "choose", None)):
        return dict(supernet.choose(shares))  # type: ignore[operator]
    return {name: max(own, key=lambda what: own[what]) for name, own in shares.items()}


def _replace(module: nn.Module, chosen: Mapping[int, str]) -> None:
    for name, child in list(module.named_children()):
        if id(child) in chosen:
            assert isinstance(child, MixedOp)
            setattr(module, name, child.operations[chosen[id(child)]])
        else:
            _replace(child, chosen)
