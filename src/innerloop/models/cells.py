"""Nets of one small cell that is repeated, and the supernet in which such a cell is searched for (`il.darts`).

A cell is a line of text: ``"conv3x3~0 | skip~0 sep_conv3x3~1"`` has two nodes. The first is a convolution of node 0, the cell's
input; the second adds node 0 itself and a separable convolution of node 1. The cell's output is all its nodes, one after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError, nearest
from innerloop.models.description import check_input, described, input_shape, positive

Norm = Literal["batch", "none"]
Places = list[list[tuple[str, int]]]  # of each node: (operation, node that it reads)
Probabilities = Mapping[str, Mapping[str, float]]  # of each mixed operation: its operations and their shares
NO_EDGE = "zero"
_PLACE = re.compile(r"([a-z_0-9]+)~(\d+)")
_KEPT = 2  # edges into a node of a found cell, as in the paper


class MixedOp(nn.Module):
    """Several operations at once: the sum of what each makes of the input, weighed by the softmax of ``alpha``.

    A network with some of these is a supernet, in which `il.darts` chooses one operation for each. Liu, Simonyan and Yang 2019,
    "DARTS: differentiable architecture search", arXiv:1806.09055, equation 2.

    Args:
        operations: by name, at least two modules; all must give the same shape.
        like: another mixed operation of the same names, whose ``alpha`` this one shares: the same choice in several places.
        name: how results call it; None: its place in the network.

    Attributes:
        alpha: (operations,) what the search learns; all zeros at first (the paper's code draws them with sd 0.001).
        only: the name of the one operation to run, which costs no more than it does by itself; None: all of them.

    Example:
        >>> import torch, innerloop as il
        >>> il.models.MixedOp({"linear": torch.nn.Linear(3, 3), "skip": torch.nn.Identity()})(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, operations: Mapping[str, nn.Module], *, like: MixedOp | None = None, name: str | None = None
    ) -> None:
        super().__init__()
        if len(operations) < 2:
            raise ConfigError(
                f"MixedOp expected at least two operations to choose from, got {len(operations)}; name more"
            )
        for what, operation in operations.items():
            if not isinstance(operation, nn.Module):
                raise ConfigError(
                    f"MixedOp expected a torch.nn.Module as {what!r}, got {type(operation).__name__}; wrap it"
                )
        if like is not None and list(like.operations) != list(operations):
            raise ConfigError(
                f"MixedOp expected the operations of the one that it is like ({', '.join(like.operations)}), got "
                f"{', '.join(operations)}; give the same names in the same order"
            )
        self.operations: nn.ModuleDict = nn.ModuleDict(operations)
        self.alpha: nn.Parameter = nn.Parameter(torch.zeros(len(operations))) if like is None else like.alpha
        self.name, self.only = name, None

    name: str | None
    only: str | None

    def forward(self, x: Tensor) -> Tensor:
        if self.only is not None:
            return self.operations[self.only](x)
        shares = torch.softmax(self.alpha, 0)
        total = shares[0] * next(iter(self.operations.values()))(x)
        for share, operation in list(zip(shares, self.operations.values(), strict=True))[1:]:
            total = total + share * operation(x)
        return total


def mixed_operations(module: nn.Module) -> dict[str, list[MixedOp]]:
    """The mixed operations of a supernet by name; those that share one ``alpha`` together, under the first one's name."""
    found: dict[int, tuple[str, list[MixedOp]]] = {}
    for path, layer in module.named_modules():
        if isinstance(layer, MixedOp):
            found.setdefault(id(layer.alpha), (layer.name or path, []))[1].append(layer)
    named = dict(found.values())
    if len(named) < len(found):
        raise ConfigError(
            "MixedOp expected a name of its own for each alpha, got one twice; rename one, or give like= where they share"
        )
    return named


class Zero(nn.Module):
    """Nothing: zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


def _norm(channels: int, norm: Norm, affine: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels, affine=affine)] if norm == "batch" else []


def _convolution(channels: int, norm: Norm, affine: bool) -> nn.Module:
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none")
    return nn.Sequential(nn.ReLU(), layer, *_norm(channels, norm, affine))


def _by_channel(channels: int, norm: Norm, affine: bool, dilation: int = 1) -> list[nn.Module]:
    """A 3x3 convolution of each channel by itself, then one of single pixels."""
    each = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
    joined = nn.Conv2d(channels, channels, 1, bias=norm == "none")
    return [nn.ReLU(), each, joined, *_norm(channels, norm, affine)]


def _separable(channels: int, norm: Norm, affine: bool) -> nn.Module:
    return nn.Sequential(*_by_channel(channels, norm, affine), *_by_channel(channels, norm, affine))


def _dilated(channels: int, norm: Norm, affine: bool) -> nn.Module:
    return nn.Sequential(*_by_channel(channels, norm, affine, dilation=2))


# Name -> what makes it, from channels, norm, and whether the norm has a scale and a shift of its own. A pooling has a norm in the
# supernet alone, where it has to be of the size of the others.
OPERATIONS: dict[str, Callable[[int, Norm, bool], nn.Module]] = {
    NO_EDGE: lambda channels, norm, affine: Zero(),
    "skip": lambda channels, norm, affine: nn.Identity(),
    "conv3x3": _convolution,
    "sep_conv3x3": _separable,
    "dil_conv3x3": _dilated,
    "max_pool3x3": lambda channels, norm, affine: nn.Sequential(
        nn.MaxPool2d(3, 1, 1), *([] if affine else _norm(channels, norm, affine))
    ),
    "avg_pool3x3": lambda channels, norm, affine: nn.Sequential(
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), *([] if affine else _norm(channels, norm, affine))
    ),
}


def read_cell(cell: str) -> Places:
    """The operations into each node of a cell, from its text.

    Raises:
        ConfigError: an unknown operation, a node without any, or one that reads itself or a later one.
    """
    nodes: Places = []
    for number, text in enumerate(str(cell).split("|"), 1):
        edges = []
        for word in text.split():
            found = _PLACE.fullmatch(word)
            if found is None:
                raise ConfigError(
                    f'cell expected words such as "conv3x3~0", an operation and the node that it reads, got {word!r} in {cell!r}'
                )
            name, source = found[1], int(found[2])
            if name not in OPERATIONS or name == NO_EDGE:
                known = [known for known in OPERATIONS if known != NO_EDGE]
                raise ConfigError(f"unknown operation {name!r} in the cell {cell!r}: {nearest(name, known)}")
            if source >= number:
                raise ConfigError(
                    f"cell expected node {number} to read nodes 0 to {number - 1}, got {word!r}; a node reads earlier ones"
                )
            edges.append((name, source))
        if not edges:
            raise ConfigError(f"cell expected at least one operation into node {number}, got none in {cell!r}; add one")
        nodes.append(edges)
    return nodes


def write_cell(nodes: Places) -> str:
    """The text that `read_cell` reads."""
    return " | ".join(" ".join(f"{name}~{source}" for name, source in edges) for edges in nodes)


class Cell(nn.Module):
    """Nodes that add up operations on earlier nodes; the output is all of them, (examples, nodes * channels, height, width)."""

    def __init__(self, nodes: Sequence[Sequence[tuple[int, nn.Module]]]) -> None:
        super().__init__()
        self.sources: list[list[int]] = [[source for source, _ in edges] for edges in nodes]
        self.edges: nn.ModuleDict = nn.ModuleDict(
            {f"{number}-{i}": layer for number, edges in enumerate(nodes, 1) for i, (_, layer) in enumerate(edges)}
        )

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for number, sources in enumerate(self.sources, 1):
            total = self.edges[f"{number}-0"](states[sources[0]])
            for i, source in enumerate(sources[1:], 1):
                total = total + self.edges[f"{number}-{i}"](states[source])
            states.append(total)
        return torch.cat(states[1:], 1)


class CellNet(nn.Module):
    """A convolution, cells one after another with the picture halved and the channels doubled between them, a mean, a head."""

    kind: str
    shape: tuple[int, ...]

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        outputs: int | None,
        channels: int,
        cells: int,
        norm: Norm,
        affine: bool,
        nodes: int,
        make_cell: Callable[[int], Cell],
    ) -> None:
        super().__init__()
        self.kind, self.shape = name, shape
        least = 2 ** (cells - 1)
        if min(shape[1:]) < least:
            raise ConfigError(
                f"{name} with {cells} cells expected pictures of at least {least}x{least}, got {shape[1]}x{shape[2]}: enlarge "
                "them, or take fewer cells"
            )
        self.stem: nn.Sequential = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, padding=1, bias=norm == "none"), *_norm(channels, norm, affine)
        )
        width, body = channels, list[nn.Module]()
        for number in range(cells):
            halved = [nn.AvgPool2d(2)] if number else []
            own = channels * 2**number
            before = nn.Conv2d(width, own, 1, bias=norm == "none")
            body.append(nn.Sequential(nn.ReLU(), *halved, before, *_norm(own, norm, affine), make_cell(own)))
            width = own * nodes
        self.body: nn.Sequential = nn.Sequential(*body)
        self.head: nn.Identity | nn.Linear = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input(self.kind, x, self.shape)
        return self.head(self.body(self.stem(x)).mean((-2, -1)))


class CellSupernet(CellNet):
    """All cells of a space at once; see `cell_supernet`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int | None,
        channels: int,
        cells: int,
        nodes: int,
        operations: Sequence[str],
        norm: Norm,
    ) -> None:
        shared: dict[str, MixedOp] = {}

        def edge(source: int, node: int, width: int) -> tuple[int, MixedOp]:
            name = f"{source}-{node}"
            made = {what: OPERATIONS[what](width, norm, False) for what in operations}
            layer = MixedOp(made, name=name, like=shared.get(name))
            shared.setdefault(name, layer)
            return source, layer

        def make_cell(width: int) -> Cell:
            return Cell([[edge(source, node, width) for source in range(node)] for node in range(1, nodes + 1)])

        super().__init__("cell_supernet", shape, outputs, channels, cells, norm, False, nodes, make_cell)
        self.nodes = nodes
        self.made_of: dict[str, Any] = {
            "inputs": list(shape),
            "outputs": outputs,
            "channels": channels,
            "cells": cells,
            "norm": norm,
        }

    def choose(self, probabilities: Probabilities) -> dict[str, str]:
        """The operation of each edge: of a node's edges the two are kept whose largest share, "zero" aside, is largest."""
        best = {
            edge: max((share, -i, name) for i, (name, share) in enumerate(shares.items()) if name != NO_EDGE)
            for edge, shares in probabilities.items()
        }
        found = {}
        for node in range(1, self.nodes + 1):
            edges = [f"{source}-{node}" for source in range(node)]
            kept = sorted(edges, key=lambda edge: -best[edge][0])[:_KEPT]
            found |= {edge: best[edge][2] if edge in kept else NO_EDGE for edge in edges}
        return found

    def draw(self, generator: torch.Generator) -> dict[str, str]:
        """A random cell of those that `choose` can give: two edges into each node, an operation for each."""
        found = {}
        names = {edge: [n for n in ops[0].operations if n != NO_EDGE] for edge, ops in mixed_operations(self).items()}
        for node in range(1, self.nodes + 1):
            kept = torch.randperm(node, generator=generator)[:_KEPT].tolist()
            for source in range(node):
                known = names[f"{source}-{node}"]
                drawn = known[int(torch.randint(len(known), (), generator=generator))]
                found[f"{source}-{node}"] = drawn if source in kept else NO_EDGE
        return found

    def cell(self, operations: Mapping[str, str]) -> str:
        """The text of the cell with these operations on its edges."""
        edges = [
            [(operations[f"{source}-{node}"], source) for source in range(node)] for node in range(1, self.nodes + 1)
        ]
        return write_cell([[one for one in into if one[0] != NO_EDGE] for into in edges])

    def discrete(self, operations: Mapping[str, str]) -> nn.Module:
        """A fresh `cell_net` of the cell with these operations, as large as the supernet."""
        return cell_net(cell=self.cell(operations), **self.made_of)  # type: ignore[arg-type]


@described
def cell_supernet(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    channels: int = 16,
    cells: int = 2,
    nodes: int = 3,
    operations: Sequence[str] = tuple(OPERATIONS),
    norm: Norm = "batch",
) -> CellSupernet:
    """A small space of cells for pictures, to search in with `il.darts`: every node reads all earlier ones by mixed operations.

    After Liu, Simonyan and Yang 2019 (arXiv:1806.09055), cut down: a cell has one input in place of two, there are no cells of
    another kind where the picture is halved, a plain 3x3 convolution takes part, and 5x5 ones do not. As there, all cells share
    their mixed operations' weights, and norms have no scale and shift.

    Args:
        inputs: (channels, height, width), or the number of channels of 28x28 pictures.
        outputs: number of logits; None: no linear layer, the features themselves come out.
        channels: of the first cell; twice as many in each that follows (the paper's: 16).
        cells: how many; the picture is halved between two.
        nodes: of a cell, besides its input.
        operations: names to choose from, of "zero", "skip", "conv3x3", "sep_conv3x3", "dil_conv3x3", "max_pool3x3" and
            "avg_pool3x3".
        norm: "batch" or "none".

    Shapes: (examples, channels, height, width) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, an unknown operation, fewer than two besides "zero", or a picture too small.
        ShapeError: from the model, when pictures of another shape come in.
    """
    shape = input_shape((inputs, 28, 28) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(channels=channels, cells=cells, nodes=nodes, outputs=1 if outputs is None else outputs)
    for name in operations:
        if name not in OPERATIONS:
            raise ConfigError(f"unknown operation {name!r} of cell_supernet: {nearest(str(name), OPERATIONS)}")
    if len({*operations} - {NO_EDGE}) < 2 or len({*operations}) < len(operations):
        raise ConfigError(
            f"operations expected at least two different ones besides zero, got {', '.join(operations)}; name others"
        )
    return CellSupernet(shape, outputs, channels, cells, nodes, operations, norm)


@described
def cell_net(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    cell: str = "conv3x3~0 | skip~0 conv3x3~1",
    channels: int = 16,
    cells: int = 2,
    norm: Norm = "batch",
) -> CellNet:
    """A net of one repeated cell, such as `il.darts` finds: 3x3 convolution, cells, the mean over the picture, linear layer.

    Args:
        inputs: (channels, height, width), or the number of channels of 28x28 pictures.
        outputs: number of logits; None: no linear layer, the features themselves come out.
        cell: its nodes, parted by "|"; a node adds up words such as "conv3x3~0", an operation and the node that it reads (0 is
            the cell's input). Operations are those of `cell_supernet` without "zero". The default is a residual block.
        channels: of the first cell; twice as many in each that follows.
        cells: how many; the picture is halved between two.
        norm: "batch" or "none".

    Shapes: (examples, channels, height, width) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, a cell that cannot be read, or a picture too small.
        ShapeError: from the model, when pictures of another shape come in.
    """
    shape = input_shape((inputs, 28, 28) if isinstance(inputs, int) else inputs, ("channels", "height", "width"))
    positive(channels=channels, cells=cells, outputs=1 if outputs is None else outputs)
    nodes = read_cell(cell)

    def make_cell(width: int) -> Cell:
        return Cell([[(source, OPERATIONS[name](width, norm, True)) for name, source in edges] for edges in nodes])

    return CellNet("cell_net", shape, outputs, channels, cells, norm, True, len(nodes), make_cell)
