"""A network over labelled examples in a row: dilated causal convolutions in turn with attention to what came before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GatedLayer(nn.Module):
    """A causal convolution of two taps, ``tanh(a) * sigmoid(b)``, put beside what comes in.

    Written as two linear layers, one for a position and one for the position ``dilation`` before it: under vmap that is one
    matrix product, and a position to come can be computed from a single row of the past.

    Args:
        channels: of the input.
        filters: new channels.
        dilation: how far back the second tap looks; zeros stand before the beginning.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.channels, self.dilation, self.width = channels, dilation, channels + filters
        self.now = nn.Linear(channels, 2 * filters)
        self.before = nn.Linear(channels, 2 * filters, bias=False)
        bound = 1 / math.sqrt(2 * channels)  # both taps are one convolution
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, h: Tensor) -> Tensor:
        """All positions of a sequence, (time, channels) to (time, width)."""
        return self._joined(h, torch.cat([h.new_zeros(self.dilation, self.channels), h])[: h.shape[0]])

    def after(self, h: Tensor, past: Tensor, count: Tensor) -> Tensor:
        """Each row of ``h`` as the position after the first ``count`` rows of ``past``."""
        row = (count - self.dilation).clamp(min=0)
        earlier = past[:, : self.channels].index_select(0, row[None])
        return self._joined(h, torch.where(count >= self.dilation, earlier, torch.zeros_like(earlier)))

    def _joined(self, h: Tensor, earlier: Tensor) -> Tensor:
        value, gate = (self.now(h) + self.before(earlier)).chunk(2, -1)
        return torch.cat([h, torch.tanh(value) * torch.sigmoid(gate)], -1)


class CausalAttention(nn.Module):
    """One head of attention from each position to itself and those before it, put beside what comes in.

    Questions start out as the keys of their own rows, so that before any training a position attends to what is like it. Drawn
    apart, the two have to meet first: SNAIL then stays at chance for hundreds of outer steps.

    Args:
        channels: of the input.
        keys: size of keys and questions.
        values: new channels.
    """

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.channels, self.width, self.scale = channels, channels + values, 1 / math.sqrt(keys)
        self.question = nn.Linear(channels, keys)
        self.key = nn.Linear(channels, keys, bias=False)  # a bias would add the same to all scores of a question
        self.value = nn.Linear(channels, values)
        with torch.no_grad():
            self.question.weight.copy_(self.key.weight)
            self.question.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        """All positions of a sequence, (time, channels) to (time, width)."""
        place = torch.arange(h.shape[0], device=h.device)
        scores = self.question(h) @ self.key(h).T * self.scale
        weights = torch.where(place[:, None] >= place, scores, -torch.inf).softmax(-1)
        return torch.cat([h, weights @ self.value(h)], -1)

    def after(self, h: Tensor, past: Tensor, count: Tensor) -> Tensor:
        """Each row of ``h`` as the position after the first ``count`` rows of ``past``."""
        past = past[:, : self.channels]
        question = self.question(h)
        known = torch.arange(past.shape[0], device=h.device) < count
        scores = torch.where(known, question @ self.key(past).T * self.scale, -torch.inf)
        own = (question * self.key(h)).sum(-1, keepdim=True) * self.scale
        weights = torch.cat([scores, own], -1).softmax(-1)
        return torch.cat([h, weights[:, :-1] @ self.value(past) + weights[:, -1:] * self.value(h)], -1)


class CausalSequence(nn.Module):
    """Attention, convolutions, attention, convolutions, attention, and a linear layer (Mishra et al. 2018, figure 3).

    Every layer puts its result beside its input, so the last activations of a sequence hold the inputs of all its layers: the
    first channels of a row are what an earlier layer saw there. That is all that a position to come needs of the past.

    Args:
        channels: of the input: the embedding, the label, and whether the label is known.
        outputs: of the last layer.
        time: the longest sequence; ``ceil(log2(time))`` convolutions in a block reach over it.
        filters: new channels of each convolution.
        keys, values: sizes of the three attention layers.
    """

    def __init__(
        self, channels: int, outputs: int, time: int, filters: int, keys: Sequence[int], values: Sequence[int]
    ) -> None:
        super().__init__()
        layers: list[GatedLayer | CausalAttention] = []
        for i, (k, v) in enumerate(zip(keys, values, strict=True)):
            if i:
                for level in range(max(1, math.ceil(math.log2(time)))):
                    layers.append(GatedLayer(channels, filters, 2**level))
                    channels = layers[-1].width
            layers.append(CausalAttention(channels, k, v))
            channels = layers[-1].width
        self.layers = nn.ModuleList(layers)
        self.width = channels
        self.head = nn.Linear(channels, outputs)

    def forward(
        self, inputs: Float[Tensor, "rows channels"], past: Tensor | None = None, count: Tensor | None = None
    ) -> Float[Tensor, "rows columns"]:
        """A sequence's activations, or what comes after it.

        Args:
            inputs: without ``past`` the rows of one sequence, in order; with it alternatives for the position that comes next,
                none of which sees another.
            past: (time, width) what an earlier call returned.
            count: () how many rows of ``past`` there really are; the rest is padding.

        Returns:
            (rows, width) activations, or (rows, outputs) predictions with ``past``.
        """
        h = inputs
        if past is None:
            for layer in self.layers:
                h = layer(h)
            return h
        for layer in self.layers:
            h = layer.after(h, past, count)  # type: ignore[operator]
        return self.head(h)
