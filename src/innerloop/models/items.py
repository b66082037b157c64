"""A net for rows that name items: each item has a vector of its own, learned with the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError
from innerloop.models.description import check_input, described, positive
from innerloop.models.perceptron import Perceptron


class ItemPerceptron(nn.Module):
    """Vectors of items beside plain numbers, then linear layers: (examples, inputs) to (examples, outputs)."""

    inputs: int
    items: tuple[int, ...]
    body: nn.Sequential
    head: nn.Identity | nn.Linear

    def __init__(
        self, inputs: int, outputs: int | None, items: Sequence[int], width: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.inputs, self.items = inputs, tuple(items)
        # Not `nn.Embedding`, which takes integers: these numbers come as columns among others.
        table = torch.empty(sum(items), width)
        if (
            not table.is_meta
        ):  # where files are read, a model is made without values first, and torch would load its compiler
            table = torch.randn(sum(items), width) / width**0.5
            table[[sum(items[:i]) for i in range(len(items))]] = 0
        self.vectors: nn.Parameter = nn.Parameter(table)
        body = Perceptron(len(items) * width + inputs - len(items), outputs, hidden, "relu", False, True)
        self.body, self.head = body.body, body.head

    def forward(self, x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "examples outputs"]:
        check_input("items_mlp", x, (self.inputs,))
        parts, first = [], 0
        for i, size in enumerate(self.items):
            number = x[:, i].detach().round()
            number = torch.where((number >= 0) & (number < size), number, 0.0).long()
            parts.append(self.vectors[first + number])
            first += size
        return self.head(self.body(torch.cat([*parts, x[:, len(self.items) :]], 1)))


@described
def items_mlp(
    inputs: int | Sequence[int],
    outputs: int | None,
    *,
    items: Sequence[int],
    width: int = 16,
    hidden: Sequence[int] = (64, 64),
) -> ItemPerceptron:
    """A fully connected net whose first inputs are numbers of items (films, products, machines), not quantities.

    Each of these numbers becomes a learned vector; the vectors and the other inputs go through the layers together.

    Args:
        inputs: numbers in an example: one for each of ``items``, then the others.
        outputs: size of the output, without activation; None: no last layer (an embedding).
        items: of each column of items how many there are, with the unknown one, whose number is 0. A number that is none of
            them counts as unknown. The unknown item's vector begins at zero.
        width: of an item's vector.
        hidden: widths of the hidden layers, with ReLU between them; ``()`` with ``outputs=None`` gives the vectors and the
            other inputs as they are.

    Shapes: (examples, inputs) to (examples, outputs).

    Raises:
        ConfigError: a size below 1, no items, or more columns of items than inputs.
        ShapeError: from the model, when what it is given has another width.
    """
    count = inputs if isinstance(inputs, int) else inputs[0] if len(inputs) == 1 else 0
    positive(inputs=count, outputs=1 if outputs is None else outputs, width=width)
    positive(
        **{f"items[{i}]": size for i, size in enumerate(items)}, **{f"hidden[{i}]": s for i, s in enumerate(hidden)}
    )
    if not 1 <= len(items) <= count:
        raise ConfigError(
            f"items expected 1 to {count} sizes, one for each column of items, got {len(items)}; give inputs that hold them"
        )
    return ItemPerceptron(count, outputs, items, width, hidden)
